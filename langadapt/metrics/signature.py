"""One line that states the conditions of a score, to stand beside the number.

Source: the idea is sacrebleu's (Post, 2018).
"""

from dataclasses import dataclass, fields

from langadapt.errors import DataError

METRIC_VERSION = "1"
"""Counts up when the same embeddings would get another number."""


class _Line:
    """A dataclass that prints as `key:value|key:value`, in the order of its fields."""

    def __post_init__(self) -> None:
        str(self)

    def __str__(self) -> str:
        """Return the line; raise a DataError for a value that is empty, or holds a separator."""
        items = [(field.name, str(getattr(self, field.name))) for field in fields(self)]  # type: ignore[arg-type]
        items = [item for item in items if item not in (("precision", ""), ("contaminated", ""))]
        for name, value in items:
            if "|" in value or value.splitlines() != [value]:
                raise DataError(f"signature: {name} is empty, or holds '|' or line breaks: {value!r}")
        return "|".join(f"{name}:{value}" for name, value in items)


@dataclass(frozen=True, kw_only=True)
class Signature(_Line):
    """Conditions of a retrieval score."""

    benchmark: str
    images: int
    captions: int
    which: str
    """Which captions of an image: `all`, `first`, ..."""
    language: str
    k: str = "1,5,10"
    ties: str = "against"
    duplicates: str = "strict"
    """Only a caption's own image is right, even where captions or images repeat."""
    text: str
    """Text model, with revision."""
    image: str
    """Image model, with revision."""
    precision: str = ""
    """Kind of device and dtype in which the embeddings were computed, `cuda-bfloat16`; those of others differ
    in the last digits. Not printed while empty."""
    version: str = METRIC_VERSION
    contaminated: str = ""
    """`kept(n)` where n rows with test captions were knowingly trained on. Not printed while empty, which
    says nothing: perhaps nobody has checked."""


@dataclass(frozen=True, kw_only=True)
class ClassSignature(_Line):
    """Conditions of a classification score; what is not described means the same as in `Signature`."""

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
    image: str
    precision: str = ""
    version: str = METRIC_VERSION
    contaminated: str = ""


def comparable(a: str, b: str) -> list[str]:
    """List the keys, other than the text model, in which two signatures differ; none: scores may be compared.

    Keys come in the order of `a`, then those only in `b`. Each may be of any version of the metric.
    """
    left, right = signature_values(a), signature_values(b)
    return [key for key in {**left, **right} if key != "text" and left.get(key) != right.get(key)]


def signature_values(line: str) -> dict[str, str]:
    """Read a signature's keys and values; raise a DataError for a line that is none."""
    values: dict[str, str] = {}
    for part in line.split("|"):
        key, colon, value = part.partition(":")
        if not colon or not key or key in values:
            raise DataError(f"signature: {part!r} in {line!r} is no new key:value")
        values[key] = value
    return values
