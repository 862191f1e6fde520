"""Stage few_shot: prompts, and what they are compared with, learned from a few images of each class."""

import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType

import numpy as np
import torch
from accelerate import Accelerator
from torch import Tensor, nn
from torch.nn import functional as F

from langadapt.data.batches import epoch_batches, steps_per_epoch
from langadapt.errors import Progress, RecipeError, Report
from langadapt.models.prompts import PromptClassifier, PromptTexts, TextTower, prompt_texts
from langadapt.nn.prompts import PromptLearner, TipAdapter, linear_probe, prompt_loss
from langadapt.recipes.stages import FewShotStage
from langadapt.training.loop import Stage, fit, parameter_groups, start_fit
from langadapt.training.plan import FitPlan


@dataclass(frozen=True, kw_only=True, eq=False)
class Shots:
    """Training images: normalised embeddings `[N, D]`, int64 `labels [N]`, `patches [N, P, V]`."""

    images: Tensor
    labels: Tensor
    patches: Tensor | None = None


PROBE = FewShotStage(steps=300, batch_size=64, learning_rate=0.01, weight_decay=0.01)
TIP = FewShotStage(steps=200, batch_size=64, learning_rate=1e-3, weight_decay=0.01)

_MANY_IMAGES = 16


@dataclass(frozen=True, kw_only=True, eq=False)
class FewShotTask:
    """What every method learns from: C class names, shots, and zero-shot class embeddings `[C, D]`."""

    tower: TextTower
    labels: Sequence[str]
    template: str
    """Where prompts start; with `{label}`."""
    temperature: float
    spec: FewShotStage
    shots: Shots
    template_rows: Tensor
    ensemble_rows: Tensor


def train_prompts(task: FewShotTask, spec: FewShotStage, *, report: Report) -> PromptClassifier:
    """Learn the contexts of a prompt for a frozen text tower; the number of steps is fixed."""
    tower, shots = task.tower, task.shots
    texts = prompt_texts(tower, task.template, task.labels)
    learner = new_learner(tower, texts, spec, shots)
    device = tower.embedding.weight.device
    learner.to(device)
    classifier = PromptClassifier(
        tower=tower,
        learner=learner,
        texts=texts,
        classes=torch.arange(len(task.labels)),
        chunk_texts=spec.chunk_texts,
        rescored_classes=spec.rescored_classes,
    )
    with torch.no_grad():
        start = tower.embed(texts.batch)
    images, labels = shots.images.to(device), shots.labels.to(device)
    per_class = len(labels) / len(task.labels)
    weights = {"temperature": task.temperature, "template_weight": spec.template_weight / per_class}
    own_first = (images @ start.T).scatter(1, labels[:, None], float("inf"))
    candidates = own_first.argsort(dim=1, descending=True)[:, : spec.instance_classes].cpu()

    def of_classes(rows: Tensor) -> Tensor:
        prompts = classifier.class_rows()
        near = (prompts * start).sum(dim=-1)
        return prompt_loss(images[rows] @ prompts.T, labels[rows], near, **weights)

    def of_instances(rows: Tensor) -> Tensor:
        assert shots.patches is not None
        some = candidates[rows]
        prompts = classifier.image_rows(some, shots.patches[rows].to(device))
        cosines = torch.einsum("bd,bkd->bk", images[rows], prompts)
        near = (prompts * start[some]).sum(dim=-1)
        own = torch.zeros(len(rows), dtype=torch.int64, device=device)  # the first candidate is the own class
        return prompt_loss(cosines, own, near, **weights)

    def loss(_: nn.Module, rows: Tensor) -> Tensor:
        if not spec.instance:
            return of_classes(rows)
        value = of_instances(rows[: spec.instance_images])
        return value + of_classes(rows) if spec.general or spec.domain else value

    trust = min(1.0, per_class / _MANY_IMAGES) ** 2
    slower = {"domain": spec.domain_rate * trust, "instance": spec.instance_rate * trust}
    _fit(learner, loss, len(labels), spec, report, slower)
    return classifier


def _train_classifier(module: nn.Module, shots: Shots, spec: FewShotStage, report: Report) -> nn.Module:
    """Train a linear probe, or the keys of Tip-Adapter's cache (Tip-Adapter-F), in place."""

    def loss(model: nn.Module, rows: Tensor) -> Tensor:
        return F.cross_entropy(model(shots.images[rows]), shots.labels[rows])

    _fit(module.to(shots.images.device), loss, len(shots.labels), spec, report)
    return module


def new_learner(tower: TextTower, texts: PromptTexts, spec: FewShotStage, shots: Shots) -> PromptLearner:
    """Untrained contexts for some classes: with them every prompt is its template."""
    if not (spec.general or spec.domain or spec.instance):
        raise RecipeError("few_shot: general, domain and instance are all false; nothing would be learned")
    if spec.instance and shots.patches is None:
        raise RecipeError("few_shot.instance: the images have no patch states; set it to false")
    if spec.layout == "separate":
        needed = spec.domain * spec.domain_tokens + spec.instance * spec.instance_tokens + spec.general
        if texts.before < needed:
            raise RecipeError(
                f"few_shot.template has {texts.before} tokens before {{label}}, layout separate needs "
                f"{needed}; choose a longer template or layout: added"
            )
    if texts.slots == 0:
        raise RecipeError("few_shot.template is {label} alone; its other tokens are the learnable ones")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(spec.seed)
        return PromptLearner(
            spec=spec,
            slots=texts.slots,
            classes=len(texts.slot),
            table=tower.embedding,
            patch_dim=shots.patches.shape[-1] if shots.patches is not None else 1,
        )


def _fit(
    module: nn.Module,
    loss: Callable[[nn.Module, Tensor], Tensor],
    images: int,
    spec: FewShotStage,
    report: Report,
    slower: Mapping[str, float] = MappingProxyType({}),
) -> None:
    """Train on the indices of so many images; `slower` scales the learning rate of parts by name."""
    size = min(spec.batch_size, images)
    per_epoch = steps_per_epoch(images, size)
    same_length = np.zeros(images, dtype=np.int64)

    def batches(epoch: int, first: int) -> Iterator[Tensor]:
        for rows in epoch_batches(same_length, batch_size=size, seed=spec.seed, epoch=epoch, first=first):
            yield torch.from_numpy(rows)

    weights = (
        (value, spec.learning_rate * slower.get(name.split(".")[0], 1.0), spec.weight_decay)
        for name, value in module.named_parameters()
    )
    stage = Stage(
        name="steps",
        module=module,
        groups=parameter_groups(weights),
        plan=FitPlan.of(spec, epochs=math.ceil(spec.steps / per_epoch), steps_per_epoch=per_epoch),
        batches=batches,
        loss=loss,
        examples_per_step=size,
    )
    on_cpu = next(module.parameters()).device.type == "cpu"
    for log in fit(start_fit(stage, Accelerator(cpu=on_cpu))):
        note = f"loss {log.loss:.3f}"
        report(Progress(stage=stage.name, done=log.step, total=stage.plan.steps, note=note))
    module.eval()


Scorer = Callable[[Tensor, Tensor | None], Tensor]

CONTEXTS: dict[str, dict[str, bool]] = {
    "structured": {"general": True, "domain": True, "instance": True},
    "coop": {"general": True, "domain": False, "instance": False},
    "domain": {"general": True, "domain": True, "instance": False},
    "instance": {"general": False, "domain": False, "instance": True},
    "cocoop": {"general": True, "domain": False, "instance": True, "instance_alone": False},
}
"""Which contexts a prompt method learns; `cocoop` is like CoCoOp: shared tokens moved by the image."""

SHOWN = {
    "template": "zero-shot, first template",
    "ensemble": "zero-shot, all templates",
    "probe": "linear probe",
    "tip": "Tip-Adapter",
    "tip-f": "Tip-Adapter-F",
    "coop": "CoOp (general)",
    "domain": "general + domain",
    "instance": "instance only",
    "cocoop": "general + instance",
    "structured": "structured prompt",
    "prompts": "recipe's prompt",
}


@dataclass(frozen=True, kw_only=True, eq=False)
class Learned:
    """A method after learning: `scores` maps `images [N, D]` and their patches to `[N, C]`."""

    name: str
    scores: Scorer
    seconds: float
    classifier: PromptClassifier | None = None


def learn(task: FewShotTask, methods: Sequence[str], *, report: Report) -> Iterator[Learned]:
    """Learn methods of `SHOWN` one after another; `prompts` has the contexts of the task's own spec."""
    for name in methods:
        started = time.perf_counter()

        def named(progress: Progress) -> None:
            report(replace(progress, stage=f"{SHOWN[name]}: {progress.stage}"))  # noqa: B023

        if name in CONTEXTS or name == "prompts":
            spec = task.spec.model_copy(update=CONTEXTS.get(name, {}))
            classifier = train_prompts(task, spec, report=named)
            scores: Scorer = classifier.scores
        else:
            classifier, scores = None, _baseline(name, task, named)
        yield Learned(name=name, scores=scores, seconds=time.perf_counter() - started, classifier=classifier)


def _baseline(name: str, task: FewShotTask, report: Report) -> Scorer:
    if name in ("template", "ensemble"):
        rows = task.template_rows if name == "template" else task.ensemble_rows
        return lambda images, _: F.normalize(images, dim=-1) @ rows.T
    shots = task.shots
    if name == "probe":
        probe = linear_probe(classes=len(task.labels), dim=shots.images.shape[1])
        module = _train_classifier(probe, shots, PROBE, report)
    else:
        module = TipAdapter(
            shots=shots.images, labels=shots.labels, classes=task.ensemble_rows, temperature=task.temperature
        )
        if name == "tip-f":
            _train_classifier(module, shots, TIP, report)
    return torch.inference_mode()(lambda images, _: module(images))
