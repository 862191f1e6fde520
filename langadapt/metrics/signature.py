"""One line that says under which conditions a score was taken, to stand beside the number.

Source: the idea is sacrebleu's (Post, 2018).
"""

from dataclasses import dataclass, fields
from typing import Self

from langadapt.errors import DataError

METRIC_VERSION = "1"
"""Counts up when the same embeddings would get another number."""


@dataclass(frozen=True, kw_only=True)
class Signature:
    """The conditions of one score, in the order in which they are printed."""

    benchmark: str
    images: int
    captions: int
    which: str
    """Which captions of an image: `all`, `first`, ..."""
    language: str
    k: str = "1,5,10"
    ties: str = "against"
    duplicates: str = "strict"
    """`strict`: only the own image is right; `tolerant`: so are equal captions and equal images."""
    text: str
    """Text model, with revision."""
    image: str
    """Image model, with revision."""
    version: str = METRIC_VERSION
    contaminated: str = ""
    """`kept(n)` where n rows that hold test captions were trained on knowingly. Not printed while empty,
    which says nothing: perhaps nobody has checked."""

    def __post_init__(self) -> None:
        _line(self._items())

    def __str__(self) -> str:
        return _line(self._items())

    @classmethod
    def parse(cls, line: str) -> Self:
        """Read what `str` wrote.

        Raises:
            DataError: keys are missing, unknown or repeated, or a count is not a number.
        """
        values = _values(line)
        names = [field.name for field in fields(cls)]
        if sorted({**values, "contaminated": ""}) != sorted(names) or values.get("contaminated") == "":
            raise DataError(f"signature: expected the keys {', '.join(names)}, got {', '.join(values)}")
        for count in ("images", "captions"):
            if not values[count].isdecimal():
                raise DataError(f"signature: {count} must be a number, got {values[count]!r}")
        numbers = {"images": int(values.pop("images")), "captions": int(values.pop("captions"))}
        return cls(**numbers, **values)  # type: ignore[arg-type]

    def _items(self) -> list[tuple[str, str]]:
        return _printed(self)


@dataclass(frozen=True, kw_only=True)
class ClassSignature:
    """The conditions of one classification score, in the order in which they are printed."""

    benchmark: str
    images: int
    classes: int
    names: str
    """Digest of the class names."""
    language: str
    prompts: str
    """How a class becomes a text: `single@...`, `ensemble-7@...` with a digest of the templates, or what was
    learned."""
    k: str = "1,5"
    ties: str = "against"
    text: str
    """Text model, with revision."""
    image: str
    """Image model, with revision."""
    version: str = METRIC_VERSION
    contaminated: str = ""
    """As in `Signature`."""

    def __post_init__(self) -> None:
        str(self)

    def __str__(self) -> str:
        return _line(_printed(self))


def comparable(a: str, b: str) -> list[str]:
    """Keys, other than the text model, in which two signatures differ; none means the scores may be compared.

    Args:
        a: signature of one score; any version of the metric.
        b: signature of the other.

    Returns:
        Keys in the order of `a`, then those only in `b`.

    Raises:
        DataError: a line is no signature.
    """
    left, right = _values(a), _values(b)
    return [key for key in {**left, **right} if key != "text" and left.get(key) != right.get(key)]


def _printed(signature: Signature | ClassSignature) -> list[tuple[str, str]]:
    items = [(field.name, str(getattr(signature, field.name))) for field in fields(signature)]
    return [item for item in items if item != ("contaminated", "")]


def _line(items: list[tuple[str, str]]) -> str:
    for name, value in items:
        if "|" in value or value.splitlines() != [value]:
            raise DataError(f"signature: {name} may not be empty or hold '|' or line breaks, got {value!r}")
    return "|".join(f"{name}:{value}" for name, value in items)


def _values(line: str) -> dict[str, str]:
    values: dict[str, str] = {}
    for part in line.split("|"):
        key, colon, value = part.partition(":")
        if not colon or not key or key in values:
            raise DataError(f"signature: {part!r} in {line!r} is no new key:value")
        values[key] = value
    return values
