"""Small pictures that live inside a page."""

import base64
import io
from dataclasses import dataclass
from pathlib import Path

from langadapt.data.images import ImageFile, open_image

_LONG_SIDE_PIXELS = 320
_QUALITY = 82


@dataclass(frozen=True, kw_only=True)
class Thumbnail:
    """An image that a search found."""

    path: Path
    label: str
    """Shown below it and read aloud instead of it."""
    correct: bool | None
    """Whether it is a right one; None where nobody knows."""


def data_uri(path: ImageFile) -> str:
    """The image, at most 320 pixels wide and high, as a JPEG data URI.

    Raises:
        DataError: the file is missing or is no image.
    """
    raw = small_jpeg(path, long_side_pixels=_LONG_SIDE_PIXELS)
    return f"data:image/jpeg;base64,{base64.b64encode(raw).decode()}"


def small_jpeg(path: ImageFile, *, long_side_pixels: int) -> bytes:
    """The image as a JPEG file of at most that size, without whatever else its file holds.

    Raises:
        DataError: the file is missing or is no image.
    """
    image = open_image(path)
    image.thumbnail((long_side_pixels, long_side_pixels))
    raw = io.BytesIO()
    image.save(raw, "JPEG", quality=_QUALITY, optimize=True)
    return raw.getvalue()
