"""The scores that belong together: the student between the teacher it imitates and the teacher without it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

from langadapt.metrics.retrieval import RetrievalScores
from langadapt.metrics.signature import comparable
from langadapt.metrics.translation import TranslationScores


@dataclass(frozen=True, kw_only=True)
class ScoreCard:
    """One benchmark in one language."""

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
    """The teacher on English that a translation model made of the captions."""
    translation: TranslationScores | None = None
    """How near that English is to the captions' own English sides, where they are known."""

    @property
    def retention(self) -> float | None:
        """Fraction of the ceiling's mR6 that the student keeps; None without both or with a ceiling of 0."""
        if self.student is None or self.ceiling is None or self.ceiling.mr6 == 0.0:
            return None
        return self.student.mr6 / self.ceiling.mr6

    @property
    def signature(self) -> str | None:
        """The student's."""
        return self.student.signature if self.student else None

    @property
    def label(self) -> str:
        """Name and language, for headings."""
        return f"{self.name} ({self.language})"

    def rows(self) -> list[tuple[str, RetrievalScores]]:
        """The scores that are there, best known first, with the names under which they are shown."""
        named = (
            ("student", self.student),
            ("teacher, English", self.ceiling),
            ("teacher, translated", self.translated),
            ("teacher, raw captions", self.floor),
        )
        return [(name, scores) for name, scores in named if scores is not None]

    def to_dict(self) -> dict[str, Any]:
        """Plain values under stable keys."""
        return {
            "name": self.name,
            "language": self.language,
            "student": self.student.to_dict() if self.student else None,
            "ceiling": self.ceiling.to_dict() if self.ceiling else None,
            "floor": self.floor.to_dict() if self.floor else None,
            "retention": self.retention,
            "signature": self.signature,
            "images": self.images,
            "captions": self.captions,
            "image_free": self.image_free,
            **({"translated": self.translated.to_dict()} if self.translated else {}),
            **({"translation": self.translation.to_dict()} if self.translation else {}),
        }

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """Undo `to_dict`; retention and signature are taken from the scores."""
        return cls(
            name=values["name"],
            language=values["language"],
            student=_scores(values["student"]),
            ceiling=_scores(values["ceiling"]),
            floor=_scores(values["floor"]),
            images=values["images"],
            captions=values["captions"],
            image_free=values["image_free"],
            translated=_scores(values.get("translated")),
            translation=TranslationScores(**values["translation"]) if "translation" in values else None,
        )


def card_warnings(cards: Sequence[ScoreCard]) -> list[str]:
    """One line for each two scores that stand side by side though their conditions differ.

    Inside a card the text model and the language may differ, that is what the card shows. Two cards of one
    benchmark may differ in the text model only; cards of different benchmarks say by their names that they
    are not one comparison.
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


def _scores(values: Mapping[str, Any] | None) -> RetrievalScores | None:
    return RetrievalScores.from_dict(values) if values is not None else None


def _warning(one: str, other: str, keys: list[str]) -> str:
    return f"not comparable: {one} and {other} differ in {', '.join(keys)}"
