"""Every few-shot method side by side, learned from the same shots."""

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from langadapt.models.prompt_classifier import PromptClassifier
from langadapt.models.prompted import TextTower
from langadapt.nn.few_shot import TipAdapter
from langadapt.progress import Progress, Report
from langadapt.recipes.few_shot import FewShotStage
from langadapt.training.few_shot import Shots, train_probe, train_prompts, train_tip

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
