"""A retrieval test set: texts, the images they belong to, and the English texts that give the ceiling."""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from langadapt.errors import DataError


@dataclass(frozen=True, kw_only=True, eq=False)
class RetrievalSet:
    """Texts that look for images, or, without images, for their own English sides.

    `image_of_text` numbers `images`; without images it numbers `english_gallery`.
    """

    name: str
    language: str
    images: tuple[Path, ...] | None
    """Image files; None for an image-free set."""
    texts: tuple[str, ...]
    image_of_text: NDArray[np.int64]
    """int64 `[texts]`, read-only."""
    english: tuple[str, ...] | None
    """English side of each text, where it is known."""
    ceiling_texts: tuple[str, ...] | None
    """English captions of the same images: what the teacher alone reaches with them is the ceiling."""
    ceiling_image_of_text: NDArray[np.int64] | None
    which_captions: str
    """`all` or `first` (of each image)."""

    def __post_init__(self) -> None:
        if self.english is not None and len(self.english) != len(self.texts):
            raise DataError(f"{self.name}: {len(self.english)} English sides beside {len(self.texts)} texts")
        if self.images is None and self.english is None:
            raise DataError(f"{self.name}: has neither images nor English sides; give one of them")
        _check_owners(self.name, "texts", self.image_of_text, len(self.texts), self.image_count)
        if (self.ceiling_texts is None) != (self.ceiling_image_of_text is None):
            raise DataError(f"{self.name}: the ceiling needs both its texts and their images")
        if self.ceiling_texts is not None and self.ceiling_image_of_text is not None:
            _check_owners(
                self.name,
                "English captions",
                self.ceiling_image_of_text,
                len(self.ceiling_texts),
                self.image_count,
            )

    @cached_property
    def english_gallery(self) -> tuple[str, ...]:
        """The distinct English sides in order; without images they play the images' part."""
        return tuple(dict.fromkeys(self.english or ()))

    @property
    def image_count(self) -> int:
        """Size of the pool: images, or distinct English sides."""
        return len(self.english_gallery if self.images is None else self.images)


def _check_owners(name: str, what: str, owners: NDArray[np.int64], texts: int, images: int) -> None:
    if len(owners) != texts:
        raise DataError(f"{name}: {len(owners)} image numbers beside {texts} {what}")
    if not texts or not np.array_equal(np.unique(owners), np.arange(images)):
        raise DataError(f"{name}: each of the {images} images needs a text and each text an image ({what})")
