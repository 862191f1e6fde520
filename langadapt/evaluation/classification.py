"""Zero-shot classification: class names in the language against images, between ceiling and floor."""

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor

from langadapt.data.classification import ClassificationSet
from langadapt.evaluation.tables import Column, Row, ScoreTable, few_images
from langadapt.files.store import fingerprint
from langadapt.metrics.classification import ClassificationScores, class_similarities, classification_scores
from langadapt.metrics.signature import ClassSignature
from langadapt.models import LanguageModel
from langadapt.models.caches import ImageProgress, stored_images
from langadapt.models.load import precision
from langadapt.models.prompts import class_embeddings, prompts_label

_ENSEMBLE = "student, all templates"

_COLUMNS = (
    Column(name="top-1", strong=True),
    *(Column(name=name) for name in ("top-5", "per class", "95 %", "retention")),
)
_TOP_5 = 5

_CLASS_COLUMNS = (Column(name="recall"), Column(name="images"), Column(name="mostly taken for", words=True))


@dataclass(frozen=True, kw_only=True)
class ClassificationCard:
    """The scores of one classification set in one language, each under the name that it is shown with."""

    name: str
    language: str
    classes: tuple[str, ...]
    images: int
    rows: tuple[tuple[str, ClassificationScores], ...]
    """The student's first."""
    retention: float | None
    """top1 of the student's ensemble / top1 of the teacher with English names; None without the latter."""

    def table(self) -> ScoreTable:
        """All scores side by side; the first row stands out."""
        kept = self.retention
        chosen = len(self.classes) > _TOP_5  # the best five of five are always right
        rows = [
            Row(
                name=name,
                cells=(
                    f"{scores.top1:.1f}",
                    *((f"{scores.top5:.1f}",) if chosen else ()),
                    f"{scores.mean_per_class:.1f}",
                    str(scores.interval),
                    f"{kept:.1%}" if kept is not None and name == _ENSEMBLE else "",
                ),
                student=number == 0,
                percent=scores.top1,
                interval=scores.interval,
            )
            for number, (name, scores) in enumerate(self.rows)
        ]
        whose = "" if self.rows[0][0] == _ENSEMBLE else f" ({_ENSEMBLE})"
        of_what = f"of the teacher's top-1 with English names{whose}"
        return ScoreTable(
            unit="percent",
            columns=tuple(column for column in _COLUMNS if chosen or column.name != "top-5"),
            rows=tuple(rows),
            title=f"{self.name} ({self.language})",
            warnings=few_images(self.images),
            pool=f"{self.images:,} images, {len(self.classes):,} classes",
            retention=None if kept is None else (kept, of_what),
            signatures=tuple((name, scores.signature) for name, scores in self.rows),
        )

    @property
    def sentence(self) -> str:
        """What the first row says, for everybody."""
        scores = self.rows[0][1]
        right = f"right for {scores.top1:.1f} % of {self.images:,} images ({scores.interval})"
        return f"{self.name} ({self.language}): {right}; guessing gives {100 / len(self.classes):.1f} %"

    def class_table(self, *, most: int | None = None) -> ScoreTable:
        """Recall, images and most frequent mistake of each class with images, worst first."""
        scores = self.rows[0][1]
        order = sorted((recall, index) for index, recall in enumerate(scores.per_class) if recall is not None)
        rows = []
        for recall, index in order[:most]:
            counts = list(scores.confusion[index])
            total, counts[index] = sum(counts), 0
            mistaken = self.classes[counts.index(max(counts))] if max(counts) else ""
            rows.append(Row(name=self.classes[index], cells=(f"{recall:.1f}", str(total), mistaken)))
        more = f" (the worst {len(rows)} of {len(order)})" if len(rows) < len(order) else ""
        return ScoreTable(unit=f"class{more}", columns=_CLASS_COLUMNS, rows=tuple(rows))

    def to_dict(self) -> dict[str, Any]:
        """Plain values under stable keys."""
        return {**vars(self), "rows": {name: asdict(scores) for name, scores in self.rows}}


@dataclass(frozen=True, kw_only=True)
class LearnedScorer:
    """Something learned that scores images with classes; stands as a row of its own beside the templates."""

    name: str
    prompts: str
    """As it stands in the signature."""
    scores: Callable[[ClassificationSet], Tensor]
    """A set to `[images, classes]`, higher is better."""


def classification_json(cards: Sequence[ClassificationCard]) -> str:
    """One JSON object: `classifications`, each as `ClassificationCard.to_dict`."""
    content = {"classifications": [card.to_dict() for card in cards]}
    return json.dumps(content, ensure_ascii=False, allow_nan=False, indent=2)


def evaluate_classification(
    data: ClassificationSet,
    model: LanguageModel,
    *,
    learned: Sequence[LearnedScorer] = (),
    progress: ImageProgress | None = None,
) -> ClassificationCard:
    """Score an adapted language model as a zero-shot classifier.

    Rows: what was learned (if anything), the student with the recipe's templates together and with the first
    alone, the teacher with English names (ceiling, where the set has them), and the teacher with the raw
    names in the raw templates (floor).
    """
    recipe, teacher = model.artifact.recipe, model.teacher
    templates = recipe.templates
    images = stored_images(teacher, data.images, progress=progress)
    labels = torch.from_numpy(data.labels)
    names = [item.names for item in data.classes]
    english_names = [item.english for item in data.classes]

    def scored(scores: Tensor, prompts: str, *, text: str, english: bool = False) -> ClassificationScores:
        called = english_names if english else names
        signature = ClassSignature(
            benchmark=data.name,
            images=len(images),
            classes=len(data.classes),
            names=fingerprint(*(name for group in called for name in (*group, "")))[:8],
            language="en" if english else data.language,
            prompts=prompts,
            text=text,
            image=teacher.source.label,
            precision=precision(teacher.device),
            contaminated="" if text == teacher.source.label else model.artifact.contaminated,
        )
        return classification_scores(scores, labels, signature=str(signature))

    def student(templates: Sequence[str]) -> ClassificationScores:
        rows = class_embeddings(names, templates, model.encode_text)
        return scored(class_similarities(images, rows), prompts_label(templates), text=model.label)

    def of_teacher(templates: Sequence[str], *, english: bool) -> ClassificationScores:
        called = english_names if english else names
        rows = class_embeddings(called, templates, lambda texts: teacher.text.embed(texts))
        found = class_similarities(images, rows)
        return scored(found, prompts_label(templates), text=teacher.source.label, english=english)

    ensemble = student(templates)
    rows = [(item.name, scored(item.scores(data), item.prompts, text=model.label)) for item in learned]
    rows.append((_ENSEMBLE, ensemble))
    if len(templates) > 1:
        rows.append(("student, first template", student(templates[:1])))
    retention = None
    if all(english_names):
        ceiling = of_teacher(recipe.english_prompts, english=True)
        rows.append(("teacher, English names", ceiling))
        retention = ensemble.top1 / ceiling.top1 if ceiling.top1 else None
    if model.student is not None:  # else it is the first row once more
        rows.append(("teacher, raw names", of_teacher(templates, english=False)))
    return ClassificationCard(
        name=data.name,
        language=data.language,
        classes=tuple(item.shown for item in data.classes),
        images=len(images),
        rows=tuple(rows),
        retention=retention,
    )
