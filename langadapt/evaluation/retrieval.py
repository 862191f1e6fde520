"""Score cards of retrieval: the student beside the teacher on English, translated and raw captions."""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from pydantic import TypeAdapter
from rich.console import Group
from rich.text import Text
from torch import Tensor

from langadapt.data.retrieval import RetrievalSet
from langadapt.errors import DataError, Progress, Report, counted
from langadapt.evaluation.tables import Column, Row, ScoreTable, few_images, to_terminal
from langadapt.files.atomic import is_sealed, sealed, write_text
from langadapt.files.json import read_json
from langadapt.metrics.intervals import Interval, interval_of
from langadapt.metrics.retrieval import CUTOFFS, RetrievalScores, retrieval_scores
from langadapt.metrics.signature import Signature, comparable
from langadapt.models import LanguageModel
from langadapt.models.caches import stored_images
from langadapt.models.load import precision
from langadapt.models.translator import TranslationScores, Translator, translation_scores

_COLUMNS = (
    *(Column(name=f"R@{k}", group=direction) for direction in ("t2i", "i2t") for k in CUTOFFS),
    Column(name="mR3_t2i", page_only=True),
    Column(name="mR3_i2t", page_only=True),
    Column(name="mR6", strong=True),
    Column(name="95 %"),
    Column(name="retention", page_only=True),
)


@dataclass(frozen=True, kw_only=True)
class ScoreCard:
    """Scores of one benchmark in one language."""

    name: str
    language: str
    student: RetrievalScores | None
    """The adapted model on captions in the language."""
    ceiling: RetrievalScores | None
    """The teacher on the English side of the same captions."""
    floor: RetrievalScores | None
    """The teacher on the captions in the language, as they are."""
    images: int
    captions: int
    image_free: bool = False
    """Captions are matched with their English sides instead of images."""
    translated: RetrievalScores | None = None
    """The teacher on a machine translation of the captions into English."""
    translation: TranslationScores | None = None
    """Quality of that translation, where the captions have English sides."""
    title: str = ""
    """The benchmark's name for people."""

    @property
    def retention(self) -> float | None:
        """Fraction of the ceiling's mR6 that the student keeps; None without both or with a ceiling of 0."""
        if self.student is None or self.ceiling is None or self.ceiling.mr6 == 0.0:
            return None
        return self.student.mr6 / self.ceiling.mr6

    @property
    def retention_interval(self) -> Interval | None:
        """Of `retention`, in percent, over the same images for both; None without their hits."""
        sides = [scores.hits for scores in (self.student, self.ceiling) if scores and scores.hits]
        if len(sides) < 2 or len(sides[0].i2t) != len(sides[1].i2t):
            return None
        student, ceiling = (hits.resampled() for hits in sides)
        return interval_of(100 * student / ceiling) if bool((ceiling > 0).all()) else None

    @property
    def sentence(self) -> str:
        """What the scores say, for everybody."""
        if self.student is None:
            return f"{self.label}: no student was scored"
        if self.retention is not None:
            apart = self.retention_interval
            bounds = f" ({apart.low:.0f}–{apart.high:.0f} %)" if apart else ""
            return f"{self.label}: keeps {100 * self.retention:.0f} % of the English score{bounds}"
        found = "each text's English side" if self.image_free else "the right image, and its texts"
        score = f"finds {found} with mR6 {self.student.mr6:.1f} of 100 ({self.student.interval})"
        floor = f"; the teacher without the adapter {self.floor.mr6:.1f}" if self.floor else ""
        chance = 100 * sum(min(1.0, k / self.images) for k in CUTOFFS) / len(CUTOFFS)
        return f"{self.label}: {score}{floor}" + (f", guessing {chance:.1f}" if self.image_free else "")

    @property
    def signature(self) -> str | None:
        """The student's."""
        return self.student.signature if self.student else None

    @property
    def label(self) -> str:
        """Name and language, for headings."""
        return f"{self.name} ({self.language})"

    def rows(self) -> list[tuple[str, RetrievalScores]]:
        """The scores that are there, the student's first, with the names under which they are shown."""
        named = (
            ("student", self.student),
            ("teacher, English", self.ceiling),
            ("teacher, translated", self.translated),
            ("teacher, raw captions", self.floor),
        )
        return [(name, scores) for name, scores in named if scores is not None]

    def table(self) -> ScoreTable:
        """All scores side by side."""
        kept, pool = self.retention, f"{self.captions:,} captions, {self.images:,} images"
        if self.image_free:
            pool = f"{self.captions:,} captions against their {self.images:,} English sides, no images"
        rows = [
            Row(
                name=name,
                cells=(
                    *(f"{recall:.1f}" for recall in scores.recalls()),
                    *(f"{mean:.1f}" for mean in (scores.mr3_t2i, scores.mr3_i2t, scores.mr6)),
                    str(scores.interval),
                    f"{kept:.1%}" if scores is self.student and kept is not None else "",
                ),
                student=scores is self.student,
                percent=scores.mr6,
                interval=scores.interval,
            )
            for name, scores in self.rows()
        ]
        signatures = [(name, scores.signature) for name, scores in self.rows()]
        absent = {"student", "teacher, English", "teacher, raw captions"}.difference(dict(signatures))
        remarks = [f"Not measured: {'; '.join(sorted(absent))}."] if absent else []
        if self.translation is not None:
            remarks.append(f"Translated captions against the English ones: {self.translation}.")
            signatures.append(("chrF++", self.translation.chrf_signature))
            signatures.append(("BLEU", self.translation.bleu_signature))
        return ScoreTable(
            unit="percent",
            warnings=few_images(self.images, "English sides" if self.image_free else "images"),
            columns=_COLUMNS,
            rows=tuple(rows),
            title=self.label,
            pool=pool,
            retention=None if kept is None else (kept, "of the teacher's mR6 on English captions"),
            remarks=tuple(remarks),
            signatures=tuple(signatures),
        )

    def to_dict(self) -> dict[str, Any]:
        """Plain values under stable keys."""
        values = {**vars(self), "translation": self.translation and asdict(self.translation)}
        plain = {
            name: value.to_dict() if isinstance(value, RetrievalScores) else value
            for name, value in values.items()
            if value is not None or not name.startswith("transl")
        }
        return {**plain, "retention": self.retention, "signature": self.signature}


_CARDS = TypeAdapter(list[ScoreCard])


def score_report(cards: Sequence[ScoreCard], *, signatures: bool = False) -> Group:
    """Tables, warnings, and a sentence on each: `Console().print(score_report(cards))`, 80 columns wide."""
    tables = to_terminal([card.table() for card in cards], card_warnings(cards), signatures=signatures)
    return Group(tables, *(Text(card.sentence, "bold") for card in cards))


def score_json(cards: Sequence[ScoreCard]) -> str:
    """One JSON object: `cards`, each as `ScoreCard.to_dict`, `warnings`, and a sum over both."""
    content = {"cards": [card.to_dict() for card in cards], "warnings": card_warnings(cards)}
    return json.dumps(sealed(content), ensure_ascii=False, allow_nan=False, indent=2)


def read_score_cards(path: Path) -> list[ScoreCard]:
    """Read what `score_json` wrote; a file that is damaged, or was changed since, is a DataError."""
    try:
        content = read_json(path)
        cards = _CARDS.validate_python(content["cards"])  # means are computed again
    except (ValueError, KeyError, TypeError) as error:
        raise DataError(f"{path}: damaged; score the adapter again") from error
    if not is_sealed(content):
        raise DataError(f"{path}: was changed after it was written; score the adapter again")
    return cards


def keep_scores(path: Path, cards: Sequence[ScoreCard], *, report: Report) -> None:
    """Write cards into `scores.json` beside earlier ones of other sets; report where those are damaged."""
    earlier = []
    if path.is_file():
        try:
            earlier = read_score_cards(path)
        except DataError as error:
            report(Progress(stage=f"earlier scores are left out: {error}"))
    new = {(card.name, card.image_free) for card in cards}
    kept = [card for card in earlier if (card.name, card.image_free) not in new]
    write_text(path, score_json([*kept, *cards]))


def card_warnings(cards: Sequence[ScoreCard]) -> list[str]:
    """One line for each two scores that stand side by side though their conditions differ.

    Inside a card the text model and the language may differ, that is what it shows. Cards of one benchmark
    may differ in the text model only; different benchmarks say by their names that they are not comparable.
    """
    lines = []
    for card in cards:
        rows = card.rows()
        for name, scores in rows[1:]:
            keys = [key for key in comparable(rows[0][1].signature, scores.signature) if key != "language"]
            if keys:
                lines.append(_warning(f"{card.label}, {rows[0][0]}", name, keys))
    students = [(card.label, card.signature) for card in cards if card.signature]
    for number, (label, signature) in enumerate(students):
        for earlier, other in students[:number]:
            keys = comparable(other, signature)
            if keys and "benchmark" not in keys:
                lines.append(_warning(earlier, label, keys))
    return lines


def _warning(one: str, other: str, keys: list[str]) -> str:
    return f"not comparable: {one} and {other} differ in {', '.join(keys)}"


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """A score card and the embeddings behind it: `text [T, D]` of the student, `gallery [I, D]`."""

    card: ScoreCard
    text: Tensor
    gallery: Tensor


def evaluate_retrieval(
    retrieval: RetrievalSet,
    model: LanguageModel,
    *,
    report: Report = lambda progress: None,
    translator: Translator | None = None,
) -> Evaluation:
    """Score an adapted language model on a retrieval set.

    The student's row stands beside the ceiling (teacher on English captions of the same images, where the
    set has them), the floor (teacher on the raw captions) and, with a translator, its translations.
    In an image-free set the teacher's embeddings of the English sides take the images' part; no ceiling.
    """
    teacher = model.teacher
    if retrieval.images is None:
        assert retrieval.english_gallery is not None
        gallery = teacher.text.embed(retrieval.english_gallery)
    else:
        bar = counted(report, f"images of {retrieval.name}")
        gallery = stored_images(teacher, retrieval.images, progress=bar)
    own = torch.tensor(retrieval.image_of_text)
    text = model.encode_text(list(retrieval.texts))

    def scores(
        embedded: Tensor, name: str, *, image_of_text: Tensor = own, language: str = retrieval.language
    ) -> RetrievalScores:
        signature = Signature(
            benchmark=retrieval.name if retrieval.images is not None else f"{retrieval.name}-text",
            images=len(gallery),
            captions=len(embedded),
            which=retrieval.which_captions,
            language=language,
            text=name,
            image=teacher.source.label,
            precision=precision(teacher.device),
            contaminated=model.artifact.contaminated if name == model.label else "",
        )
        return retrieval_scores(
            embedded, gallery, image_of_text, signature=str(signature), device=teacher.device
        )

    ceiling = None
    if retrieval.images is not None and retrieval.ceiling_texts is not None:
        images = torch.tensor(retrieval.ceiling_image_of_text)
        english = teacher.text.embed(retrieval.ceiling_texts)
        ceiling = scores(english, teacher.source.label, image_of_text=images, language="en")
    translated, translation = None, None
    if translator is not None:
        texts = [text or "." for text in translator.translate(retrieval.texts)]  # a blank one says nothing
        translated = scores(teacher.text.embed(texts), f"{teacher.source.label}+{translator.label}")
        if retrieval.english is not None:
            translation = translation_scores(texts, retrieval.english, language="en")
    card = ScoreCard(
        name=retrieval.name,
        language=retrieval.language,
        student=scores(text, model.label),
        ceiling=ceiling,
        floor=scores(teacher.text.embed(retrieval.texts), teacher.source.label) if model.student else None,
        images=len(gallery),
        captions=len(text),
        image_free=retrieval.images is None,
        translated=translated,
        translation=translation,
        title=retrieval.title,
    )
    return Evaluation(card=card, text=text, gallery=gallery)


def best_images(evaluation: Evaluation, rows: Sequence[int], *, count: int) -> list[list[int]]:
    """Return for some texts the `count` best rows of the gallery, best first."""
    similarity = evaluation.text[list(rows)] @ evaluation.gallery.T
    indices: list[list[int]] = similarity.topk(min(count, similarity.shape[1]), dim=1).indices.tolist()
    return indices


def image_rank(evaluation: Evaluation, row: int, image: int) -> int:
    """Return the rank of an image for a text, 1 for the best; ties count against it."""
    similarity = evaluation.gallery @ evaluation.text[row]
    return int((similarity >= similarity[image]).sum())


def first_found(evaluation: Evaluation, retrieval: RetrievalSet) -> str:
    """Return the first text whose own image is found first, or the first text where there is none."""
    best = best_images(evaluation, range(len(retrieval.texts)), count=1)
    right = (row for row, (image,) in enumerate(best) if image == retrieval.image_of_text[row])
    return retrieval.texts[next(right, 0)]
