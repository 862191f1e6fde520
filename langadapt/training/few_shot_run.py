"""One few-shot run from images to table: draws shots, learns every method, scores them on other images."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from langadapt.data.classification import (
    ClassificationSet,
    base_and_novel,
    classification_from_folder,
    divided,
    draw_shots,
    has_splits,
)
from langadapt.data.images import image_bytes
from langadapt.errors import DataError, Report, counted
from langadapt.files.paths import real_path
from langadapt.files.store import fingerprint
from langadapt.metrics.classification import ClassificationScores, classification_scores
from langadapt.metrics.signature import ClassSignature
from langadapt.models import LanguageModel
from langadapt.models.caches import stored_images, stored_patches
from langadapt.models.load import precision
from langadapt.models.prompts import TowerName, class_embeddings, text_tower
from langadapt.models.prompts_artifact import PromptFacts, prompt_labels, write_prompts
from langadapt.models.teacher import learned_temperature
from langadapt.training.few_shot import SHOWN, FewShotTask, Learned, Shots, learn

BASELINES = ("template", "ensemble", "probe", "tip", "tip-f", "coop", "instance")

_TEST_FRACTION = 1 / 3


@dataclass(frozen=True, kw_only=True)
class MethodRow:
    """One method: scores by part of the classes (`all`, or `base` and `novel`)."""

    name: str
    scores: dict[str, ClassificationScores]
    seconds: float


@dataclass(frozen=True, kw_only=True)
class FewShotReport:
    """All methods on one set, from the same shots."""

    name: str
    shots: int
    parts: tuple[str, ...]
    rows: tuple[MethodRow, ...]

    def to_dict(self) -> dict[str, Any]:
        rows = {
            row.name: {"seconds": row.seconds, **{part: asdict(s) for part, s in row.scores.items()}}
            for row in self.rows
        }
        return {"name": self.name, "shots": self.shots, "rows": rows}


@dataclass(frozen=True, kw_only=True, eq=False)
class Seen(Shots):
    """Embedded images of a set, and the set."""

    data: ClassificationSet


@dataclass(frozen=True, kw_only=True)
class FewShotRun:
    """What is learned from which images, and where it is written."""

    folder: Path
    """Images by class; a third of each class is scored where there are no folders `train` and `test`."""
    classes: Path | None
    """Class names; None: those of the folders."""
    shots: int
    out: Path
    tower: TowerName
    model: str
    """What the prompts say they belong to: run folder, or org/name on the Hub."""
    baselines: bool
    novel: bool
    """Learn the first half of the classes; score both halves."""


def run_few_shot(model: LanguageModel, run: FewShotRun, *, report: Report) -> FewShotReport:
    """Learn the recipe's prompt (and the baselines), write it, and score all on test images.

    Raises DataError or RecipeError: too few images, a shot among the tests, a layout that does not fit.
    """
    recipe = model.artifact.recipe
    seed = recipe.few_shot.seed
    language = "en" if run.tower == "teacher" else recipe.code
    read = partial(classification_from_folder, run.folder, run.classes, language=language)
    if has_splits(run.folder):
        train, test = read(split="train"), read(split="test")
    else:
        data = read()
        train, test = map(data.rows, divided(data, test_fraction=_TEST_FRACTION, seed=seed))
    prompt_labels(train.classes, run.tower)
    train = train.rows(draw_shots(train, run.shots, seed=seed))
    known = {image_bytes(image): image for image in train.images}
    for image in test.images:
        if (same := known.get(image_bytes(image))) is not None:
            raise DataError(f"{image}: the same image as {same}, which is learned from; remove one of them")
    parts = {"all": list(range(len(train.classes)))}
    if run.novel:
        parts = dict(zip(("base", "novel"), base_and_novel(len(train.classes)), strict=True))
    patches = recipe.few_shot.instance or run.baselines
    learner = _seen(model, train.only(next(iter(parts.values()))), patches=patches, report=report)
    task = few_shot_task(model, learner, run.tower)
    own = {part: test.only(numbers) for part, numbers in parts.items()}
    tests = {part: _seen(model, data, patches=patches, report=report) for part, data in own.items()}
    rows = []
    for learned in learn(task, ("prompts", *BASELINES) if run.baselines else ("prompts",), report=report):
        if learned.name == "prompts":
            _write(model, run, task, learner.data, learned)
        scores = {
            part: score_method(model, learned, seen, task, run.tower, unseen=part == "novel")
            for part, seen in tests.items()
            if part != "novel" or learned.classifier is not None or learned.name in ("template", "ensemble")
        }
        rows.append(MethodRow(name=SHOWN[learned.name], scores=scores, seconds=learned.seconds))
    return FewShotReport(name=test.name, shots=run.shots, parts=tuple(parts), rows=tuple(rows))


def _write(
    model: LanguageModel, run: FewShotRun, task: FewShotTask, data: ClassificationSet, learned: Learned
) -> None:
    assert learned.classifier is not None
    images = fingerprint(*map(image_bytes, data.images))
    facts = PromptFacts(
        spec=task.spec,
        template=task.template,
        classes=data.classes,
        tower=run.tower,
        text=task.tower.label,
        image=model.teacher.source.label,
        run=str(real_path(run.model)) if Path(run.model).is_dir() else run.model,
        training={"shots": run.shots, "images": images, "seconds": round(learned.seconds, 1)},
    )
    write_prompts(run.out, learned.classifier, facts)


def few_shot_task(model: LanguageModel, learner: Seen, kind: TowerName) -> FewShotTask:
    recipe = model.artifact.recipe
    templates = _templates(model, kind)
    template = recipe.few_shot.template or templates[0]
    return FewShotTask(
        tower=text_tower(model, kind),
        labels=prompt_labels(learner.data.classes, kind),
        template=template,
        temperature=recipe.few_shot.temperature or learned_temperature(model.teacher),
        spec=recipe.few_shot,
        shots=learner,
        template_rows=_zero_shot_rows(model, learner.data, [template], kind),
        ensemble_rows=_zero_shot_rows(model, learner.data, templates, kind),
    )


def _zero_shot_rows(
    model: LanguageModel, data: ClassificationSet, templates: Sequence[str], kind: TowerName
) -> Tensor:
    """Class embeddings `[C, D]` of plain templates, normalised."""
    names = [[label] for label in prompt_labels(data.classes, kind)]
    encode = model.encode_text if kind == "student" else model.teacher.text.embed
    return class_embeddings(names, templates, encode)


def score_method(
    model: LanguageModel, learned: Learned, seen: Seen, task: FewShotTask, kind: TowerName, *, unseen: bool
) -> ClassificationScores:
    """Score a method on test images; `unseen` says that it has not learned their classes."""
    labels = prompt_labels(seen.data.classes, kind)
    if not unseen:
        scores = learned.scores(seen.images, seen.patches)
    elif learned.classifier is not None:
        none = torch.full((len(labels),), -1)
        scores = learned.classifier.with_names(task.template, labels, none).scores(seen.images, seen.patches)
    else:
        templates = [task.template] if learned.name == "template" else _templates(model, kind)
        scores = seen.images @ _zero_shot_rows(model, seen.data, templates, kind).T
    signature = ClassSignature(
        benchmark=seen.data.name,
        images=len(seen.images),
        classes=len(labels),
        names=fingerprint(*labels)[:8],
        language=seen.data.language,
        prompts=f"{learned.name}-{len(task.shots.labels)}-images",
        text=task.tower.label,
        image=model.teacher.source.label,
        precision=precision(model.teacher.device),
    )
    return classification_scores(scores, seen.labels, signature=str(signature))


def _templates(model: LanguageModel, kind: TowerName) -> Sequence[str]:
    recipe = model.artifact.recipe
    return recipe.templates if kind == "student" else recipe.english_prompts


def _seen(model: LanguageModel, data: ClassificationSet, *, patches: bool, report: Report) -> Seen:
    return Seen(
        data=data,
        labels=torch.from_numpy(data.labels),
        images=stored_images(model.teacher, data.images, progress=counted(report, "images")),
        patches=stored_patches(model.teacher, data.images) if patches else None,
    )
