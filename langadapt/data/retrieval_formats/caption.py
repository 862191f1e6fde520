"""What every format reads: captions with the name of their image."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from langadapt.data.lines import read_lines
from langadapt.errors import DataError
from langadapt.recipes.data import CaptionColumns


@dataclass(frozen=True, slots=True)
class Caption:
    """One caption. `image` is a file name below the images' folder, or blank in an image-free set."""

    image: str
    text: str
    english: str | None = None


@dataclass(frozen=True, kw_only=True)
class CaptionFiles:
    """Where captions lie and what a format must know to read them."""

    captions: tuple[Path, ...]
    language: str
    image_names: Path | None = None
    columns: CaptionColumns = field(default_factory=CaptionColumns)
    image_free: bool = False


def read_names(path: Path) -> Iterator[str]:
    """Image names or ids, one per line; `name.jpg#123` loses what follows `#`.

    Raises:
        DataError: unreadable file, a blank line, no names.
    """
    empty = True
    for line in read_lines(path):
        name = line.text.partition("#")[0].strip()
        if not name:
            raise DataError(f"{path}: line {line.number} is blank; remove it")
        empty = False
        yield name
    if empty:
        raise DataError(f"{path}: holds no image names; fetch it again")


def jpg(name: str) -> str:
    """The file name of an image id: `.jpg` is added where it is missing."""
    return name if name.lower().endswith((".jpg", ".jpeg", ".png")) else f"{name}.jpg"
