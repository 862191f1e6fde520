"""One few-shot run from images to table: draws shots, learns every method, scores them on other images."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
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
from langadapt.errors import DataError, Progress, RecipeError, Report
from langadapt.files.store import fingerprint
from langadapt.metrics.classification import ClassificationScores, classification_scores
from langadapt.metrics.signature import ClassSignature
from langadapt.models import LanguageModel
from langadapt.models.caches import stored_images, stored_patches
from langadapt.models.prompts import class_embeddings
from langadapt.models.prompts_artifact import PromptFacts, Tower, prompt_labels, text_tower, write_prompts
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
    """All methods on one set, learned from the same shots."""

    name: str
    shots: int
    parts: tuple[str, ...]
    rows: tuple[MethodRow, ...]

    def to_dict(self) -> dict[str, Any]:
        """Plain values under stable keys."""
        rows = {
            row.name: {"seconds": row.seconds, **{part: s.to_dict() for part, s in row.scores.items()}}
            for row in self.rows
        }
        return {"name": self.name, "shots": self.shots, "rows": rows}


@dataclass(frozen=True, kw_only=True, eq=False)
class Seen:
    """Images as the frozen image tower sees them: `[N, D]` unit rows and `[N, P, V]` patches."""

    data: ClassificationSet
    images: Tensor
    patches: Tensor | None

    def part(self, rows: np.ndarray[Any, np.dtype[np.int64]]) -> Shots:
        """Some rows."""
        place = torch.from_numpy(rows)
        patches = None if self.patches is None else self.patches[place]
        labels = torch.from_numpy(self.data.labels)[place]
        return Shots(images=self.images[place], labels=labels, patches=patches)


def run_few_shot(
    model: LanguageModel,
    folder: Path,
    classes: Path | None,
    *,
    shots: int,
    out: Path,
    tower: str,
    run: str,
    baselines: bool,
    novel: bool,
    report: Report,
) -> FewShotReport:
    """Learns the recipe's prompt (and the baselines), writes it into `out`, and scores all on test images.

    Raises:
        DataError: too few images, the same image among shots and test, unreadable images.
        RecipeError: no templates, or a layout that does not fit them.
    """
    recipe = model.artifact.recipe
    if not recipe.prompts:
        raise RecipeError(f"the recipe of {recipe.code} has no prompts; add templates with {{label}} to it")
    kind: Tower = "teacher" if tower == "teacher" else "student"
    language = "en" if kind == "teacher" else recipe.code
    train, test = _train_and_test(folder, classes, language, seed=recipe.few_shot.seed)
    prompt_labels(train.classes, kind)
    chosen = draw_shots(train, shots, seed=recipe.few_shot.seed)
    train = train.rows(chosen)
    _no_image_twice(train, test)
    whole = len(train.classes)
    halves = base_and_novel(whole) if novel else (list(range(whole)), [])
    parts = dict(zip(("base", "novel"), halves, strict=True)) if novel else {"all": halves[0]}
    needs_patches = recipe.few_shot.instance or baselines
    learner = _seen(model, train.only(halves[0]), patches=needs_patches, report=report)
    task = few_shot_task(model, learner, kind)
    fingerprints = fingerprint(*(path.read_bytes() for path in learner.data.images))
    tests = {
        part: _seen(model, test.only(numbers), patches=needs_patches, report=report)
        for part, numbers in parts.items()
    }
    methods = ("prompts", *BASELINES) if baselines else ("prompts",)
    rows = []
    for done in learn(task, methods, report=report):
        if done.name == "prompts":
            assert done.classifier is not None
            facts = PromptFacts(
                spec=recipe.few_shot,
                template=task.template,
                classes=learner.data.classes,
                tower=kind,
                text=task.tower.label,
                image=model.teacher.source.label,
                run=str(Path(run).resolve()) if Path(run).is_dir() else run,
                training={"shots": shots, "images": fingerprints, "seconds": round(done.seconds, 1)},
            )
            write_prompts(out, done.classifier, facts)
        scores = {
            part: score_method(model, done, seen, task, kind, unseen=part == "novel")
            for part, seen in tests.items()
            if part != "novel" or done.classifier is not None or done.name in ("template", "ensemble")
        }
        rows.append(MethodRow(name=SHOWN[done.name], scores=scores, seconds=done.seconds))
    return FewShotReport(name=test.name, shots=shots, parts=tuple(parts), rows=tuple(rows))


def few_shot_task(model: LanguageModel, learner: Seen, kind: Tower) -> FewShotTask:
    """What the methods learn from."""
    recipe = model.artifact.recipe
    templates = recipe.prompts if kind == "student" else recipe.english_prompts
    template = recipe.few_shot.template or templates[0]
    temperature = recipe.few_shot.temperature or learned_temperature(model.teacher)
    every = np.arange(len(learner.data.images))
    return FewShotTask(
        tower=text_tower(model, kind),
        labels=prompt_labels(learner.data.classes, kind),
        template=template,
        temperature=temperature,
        spec=recipe.few_shot,
        shots=learner.part(every),
        template_rows=zero_shot_rows(model, learner.data, [template], kind),
        ensemble_rows=zero_shot_rows(model, learner.data, templates, kind),
    )


def zero_shot_rows(
    model: LanguageModel, data: ClassificationSet, templates: Sequence[str], kind: Tower
) -> Tensor:
    """Unit class rows `[C, D]` of plain templates."""
    names = [[label] for label in prompt_labels(data.classes, kind)]
    if kind == "student":
        return class_embeddings(names, templates, model.encode_text)
    return class_embeddings(names, templates, lambda texts: model.teacher.text.embed(texts))


def score_method(
    model: LanguageModel, done: Learned, seen: Seen, task: FewShotTask, kind: Tower, *, unseen: bool
) -> ClassificationScores:
    """Scores a method on test images; `unseen` says that it has not learned their classes."""
    labels = prompt_labels(seen.data.classes, kind)
    scorer = done.scores
    if unseen and done.classifier is not None:
        none = torch.full((len(labels),), -1)
        scorer = done.classifier.with_names(task.template, labels, none).scores
    elif unseen:
        recipe = model.artifact.recipe
        all_templates = recipe.prompts if kind == "student" else recipe.english_prompts
        templates = [task.template] if done.name == "template" else all_templates
        rows = zero_shot_rows(model, seen.data, templates, kind)

        def scorer(images: Tensor, _: Tensor | None) -> Tensor:
            return images @ rows.T

    signature = ClassSignature(
        benchmark=seen.data.name,
        images=len(seen.images),
        classes=len(labels),
        names=fingerprint(*labels)[:8],
        language=seen.data.language,
        prompts=f"{done.name}-{len(task.shots.labels)}-images",
        text=task.tower.label,
        image=model.teacher.source.label,
    )
    found = scorer(seen.images, seen.patches)
    return classification_scores(found, torch.from_numpy(seen.data.labels), signature=str(signature))


def _train_and_test(
    folder: Path, classes: Path | None, language: str, *, seed: int
) -> tuple[ClassificationSet, ClassificationSet]:
    if has_splits(folder):
        train = classification_from_folder(folder, classes, language=language, split="train")
        return train, classification_from_folder(folder, classes, language=language, split="test")
    data = classification_from_folder(folder, classes, language=language)
    train_rows, test_rows = divided(data, test_fraction=_TEST_FRACTION, seed=seed)
    return data.rows(train_rows), data.rows(test_rows)


def _no_image_twice(train: ClassificationSet, test: ClassificationSet) -> None:
    known = {path.read_bytes(): path for path in train.images}
    for path in test.images:
        if (same := known.get(path.read_bytes())) is not None:
            raise DataError(f"{path}: the same image as {same}, which is learned from; remove one of them")


def _seen(model: LanguageModel, data: ClassificationSet, *, patches: bool, report: Report) -> Seen:
    def told(done: int, total: int) -> None:
        report(Progress(stage="images", done=done, total=total))

    return Seen(
        data=data,
        images=stored_images(model.teacher, data.images, progress=told),
        patches=stored_patches(model.teacher, data.images) if patches else None,
    )
