"""Stage few_shot: prompts, and what they are compared with, learned from a few images of each class."""

import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np
import torch
from accelerate import Accelerator
from torch import Tensor, nn
from torch.nn import functional as F

from langadapt.data.batches import epoch_batches, steps_per_epoch
from langadapt.errors import Progress, RecipeError, Report
from langadapt.models.prompts import PromptClassifier, PromptTexts, TextTower, prompt_texts
from langadapt.nn.prompts import LinearProbe, PromptLearner, TipAdapter, prompt_loss
from langadapt.recipes.stages import FewShotStage
from langadapt.training.loop import FitPlan, fit, start_fit


@dataclass(frozen=True, kw_only=True, eq=False)
class Shots:
    """What is learned from: `images [N, D]` unit rows, `labels [N]` int64 in [0, C), `patches [N, P, V]`."""

    images: Tensor
    labels: Tensor
    patches: Tensor | None = None


@dataclass(frozen=True, kw_only=True)
class Schedule:
    """How long and how fast something small learns."""

    steps: int
    batch_size: int
    learning_rate: float
    weight_decay: float
    warmup_fraction: float = 0.05
    gradient_clip_norm: float = 1.0
    seed: int = 0


PROBE = Schedule(steps=300, batch_size=64, learning_rate=0.01, weight_decay=0.01)

_MANY_IMAGES = 16

TIP = Schedule(steps=200, batch_size=64, learning_rate=1e-3, weight_decay=0.01)


def train_prompts(
    tower: TextTower,
    labels: Sequence[str],
    *,
    spec: FewShotStage,
    template: str,
    temperature: float,
    shots: Shots,
    report: Report,
) -> PromptClassifier:
    """Learns the contexts of a prompt; the text tower stays as it is.

    The number of steps is fixed: no image chooses among checkpoints.

    Args:
        tower: student or teacher.
        labels: C class names.
        spec: which contexts, and the schedule.
        template: where they start; with `{label}`.
        temperature: divides the cosines.
        shots: with patches where the spec has an instance context.
        report: told what is done.

    Raises:
        RecipeError: nothing to learn, or the template has too few tokens for the layout.
        TrainingError: a loss that is not finite.
    """
    texts = prompt_texts(tower, template, labels)
    learner = new_learner(tower, texts, spec, shots)
    device = tower.embedding.weight.device
    learner.to(device)
    classifier = PromptClassifier(
        tower=tower,
        learner=learner,
        texts=texts,
        classes=torch.arange(len(labels)),
        chunk_texts=spec.chunk_texts,
        rescored_classes=spec.rescored_classes,
    )
    with torch.no_grad():
        start = tower.embed(texts.batch)
    images = shots.images.to(device)
    there = shots.labels.to(device)
    per_class = len(shots.labels) / len(labels)
    weight = spec.template_weight / per_class
    candidates = _candidates(images @ start.T, shots.labels, spec.instance_classes)

    def of_classes(rows: Tensor) -> Tensor:
        made = classifier.class_rows()
        near = (made * start).sum(dim=-1)
        return prompt_loss(
            images[rows] @ made.T, there[rows], near, temperature=temperature, template_weight=weight
        )

    def of_instances(rows: Tensor) -> Tensor:
        assert shots.patches is not None
        some = candidates[rows]
        made = classifier.image_rows(some, shots.patches[rows].to(device))
        cosines = torch.einsum("bd,bkd->bk", images[rows], made)
        near = (made * start[some]).sum(dim=-1)
        own = torch.zeros(len(rows), dtype=torch.int64, device=device)  # the first candidate is the own class
        return prompt_loss(cosines, own, near, temperature=temperature, template_weight=weight)

    def loss(_: nn.Module, rows: Tensor) -> Tensor:
        if not spec.instance:
            return of_classes(rows)
        value = of_instances(rows[: spec.instance_images])
        return value + of_classes(rows) if spec.general or spec.domain else value

    schedule = Schedule(
        steps=spec.steps,
        batch_size=spec.batch_size,
        learning_rate=spec.learning_rate,
        weight_decay=spec.weight_decay,
        warmup_fraction=spec.warmup_fraction,
        gradient_clip_norm=spec.gradient_clip_norm,
        seed=spec.seed,
    )
    trust = min(1.0, per_class / _MANY_IMAGES) ** 2
    slower = {"domain": spec.domain_rate * trust, "instance": spec.instance_rate * trust}
    _learn(learner, loss, len(shots.labels), schedule, device, slower=slower, stage="prompts", report=report)
    learner.eval()
    return classifier


def train_probe(shots: Shots, classes: int, *, report: Report, schedule: Schedule = PROBE) -> LinearProbe:
    """A linear classifier on the frozen image embeddings."""
    probe = LinearProbe(classes=classes, dim=shots.images.shape[1]).to(shots.images.device)

    def loss(model: nn.Module, rows: Tensor) -> Tensor:
        return F.cross_entropy(model(shots.images[rows]), shots.labels[rows])

    _learn(probe, loss, len(shots.labels), schedule, shots.images.device, stage="probe", report=report)
    return probe.eval()


def train_tip(tip: TipAdapter, shots: Shots, *, report: Report, schedule: Schedule = TIP) -> TipAdapter:
    """Tip-Adapter-F: trains the cache's keys in place."""

    def loss(model: nn.Module, rows: Tensor) -> Tensor:
        return F.cross_entropy(model(shots.images[rows]), shots.labels[rows])

    _learn(tip, loss, len(shots.labels), schedule, shots.images.device, stage="cache", report=report)
    return tip.eval()


def new_learner(tower: TextTower, texts: PromptTexts, spec: FewShotStage, shots: Shots) -> PromptLearner:
    """Untrained contexts for some classes: with them every prompt is its template.

    Raises:
        RecipeError: no context is on, images have no patches, or the template has too few tokens.
    """
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
    if texts.before + texts.after == 0:
        raise RecipeError("few_shot.template is {label} alone; its other tokens are the learnable ones")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(spec.seed)
        return PromptLearner(
            spec=spec,
            before=texts.before,
            after=texts.after,
            classes=len(texts.slot),
            token_dim=tower.token_dim,
            patch_dim=shots.patches.shape[-1] if shots.patches is not None else 1,
            token_scale=tower.token_scale,
        )


def _candidates(cosines: Tensor, labels: Tensor, count: int) -> Tensor:
    """`[N, min(count, C)]` int64: each image's own class first, then others, most similar first."""
    own = labels.to(cosines.device)[:, None]
    order = cosines.scatter(1, own, float("inf")).argsort(dim=1, descending=True)
    return order[:, :count].cpu()


def _learn(
    module: nn.Module,
    loss: Callable[[nn.Module, Tensor], Tensor],
    images: int,
    schedule: Schedule,
    device: torch.device,
    *,
    stage: str,
    report: Report,
    slower: Mapping[str, float] = MappingProxyType({}),
) -> None:
    """Trains a module; `slower` gives some of its parts a share of the learning rate, by name."""
    size = min(schedule.batch_size, images)
    per_epoch = steps_per_epoch(images, size)
    plan = FitPlan(
        steps_per_epoch=per_epoch,
        epochs=math.ceil(schedule.steps / per_epoch),
        warmup_fraction=schedule.warmup_fraction,
        gradient_clip_norm=schedule.gradient_clip_norm,
        seed=schedule.seed,
    )
    groups = [
        {
            "params": [value],
            "lr": schedule.learning_rate * slower.get(name.split(".")[0], 1.0),
            "weight_decay": schedule.weight_decay,
        }
        for name, value in module.named_parameters()
    ]
    accelerator = Accelerator(cpu=device.type == "cpu")
    state = start_fit(module, groups, plan=plan, accelerator=accelerator)
    same_length = np.zeros(images, dtype=np.int64)

    def batches(epoch: int, first: int) -> Iterator[Tensor]:
        for rows in epoch_batches(same_length, batch_size=size, seed=schedule.seed, epoch=epoch, first=first):
            yield torch.from_numpy(rows)

    for log in fit(state, batches, loss, examples_per_step=size):
        report(Progress(stage=stage, done=log.step, total=plan.steps, note=f"loss {log.loss:.3f}"))


Scorer = Callable[[Tensor, Tensor | None], Tensor]

CONTEXTS: dict[str, dict[str, bool]] = {
    "structured": {"general": True, "domain": True, "instance": True},
    "coop": {"general": True, "domain": False, "instance": False},
    "domain": {"general": True, "domain": True, "instance": False},
    "instance": {"general": False, "domain": False, "instance": True},
    "cocoop": {"general": True, "domain": False, "instance": True, "instance_alone": False},
}

"""Which contexts a prompt method learns; `cocoop` is like CoCoOp: shared tokens moved by the image."""

METHODS = ("template", "ensemble", "probe", "tip", "tip-f", *CONTEXTS)

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
class FewShotTask:
    """What all methods get.

    `labels` are C class names; `template_rows` and `ensemble_rows [C, D]` the zero-shot classifiers; `shots`
    with patches where a method has an instance context.
    """

    tower: TextTower
    labels: Sequence[str]
    template: str
    temperature: float
    spec: FewShotStage
    shots: Shots
    template_rows: Tensor
    ensemble_rows: Tensor


@dataclass(frozen=True, kw_only=True, eq=False)
class Learned:
    """A method after learning: `scores` maps `images [N, D]` and their patches to `[N, C]`."""

    name: str
    scores: Scorer
    seconds: float
    classifier: PromptClassifier | None = None
    """Of prompt methods."""


def learn(task: FewShotTask, methods: Sequence[str], *, report: Report) -> Iterator[Learned]:
    """Learns one method after another; nothing but the shots is looked at.

    Args:
        task: shots, names, templates.
        methods: of `METHODS`, or `prompts` for the contexts that the task's own spec has on.
        report: told what is done.
    """
    for name in methods:
        started = time.perf_counter()

        def told(progress: Progress) -> None:
            stage = f"{SHOWN[name]}: {progress.stage}"  # noqa: B023
            report(Progress(stage=stage, done=progress.done, total=progress.total, note=progress.note))

        if name in CONTEXTS or name == "prompts":
            spec = task.spec.model_copy(update=CONTEXTS.get(name, {}))
            classifier = train_prompts(
                task.tower,
                task.labels,
                spec=spec,
                template=task.template,
                temperature=task.temperature,
                shots=task.shots,
                report=told,
            )
            scores: Scorer = classifier.scores
        else:
            classifier, scores = None, _baseline(name, task, told)
        yield Learned(name=name, scores=scores, seconds=time.perf_counter() - started, classifier=classifier)


def _baseline(name: str, task: FewShotTask, report: Report) -> Scorer:
    if name in ("template", "ensemble"):
        rows = task.template_rows if name == "template" else task.ensemble_rows
        return lambda images, _: F.normalize(images, dim=-1) @ rows.T
    if name == "probe":
        module: torch.nn.Module = train_probe(task.shots, len(task.labels), report=report)
    else:
        module = TipAdapter(
            shots=task.shots.images,
            labels=task.shots.labels,
            classes=task.ensemble_rows,
            temperature=task.temperature,
        )
        if name == "tip-f":
            module = train_tip(module, task.shots, report=report)

    def scores(images: Tensor, patches: Tensor | None) -> Tensor:
        with torch.inference_mode():
            found: Tensor = module(images)
        return found

    return scores
