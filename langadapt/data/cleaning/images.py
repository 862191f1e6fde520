"""Training images against test images: the same file name, or the same picture to the eye."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from langadapt.data.images import open_image
from langadapt.progress import Progress, Report

MOST_BITS = 4
"""Differing bits of 64 up to which two pictures are taken for one: scaling and compression change fewer."""


@dataclass(frozen=True, kw_only=True)
class LeakedImage:
    """A training image that is a test image, and how it was recognised: `id` or `picture`."""

    train: str
    test: str
    by: str


def difference_hash(image: Image.Image) -> int:
    """64 bits that say where brightness rises from left to right in a 9 x 8 thumbnail.

    It stays nearly the same when an image is scaled, compressed or changed in brightness; a mirrored or
    cropped image gets another one.

    Source: N. Krawetz, "Kind of Like That", hackerfactor.com, 2013 (dHash).
    """
    grey = np.asarray(image.convert("L").resize((9, 8), Image.Resampling.LANCZOS), np.int16)
    return int.from_bytes(np.packbits(grey[:, 1:] > grey[:, :-1]).tobytes(), "big")


def leaked_images(
    train: Mapping[str, Path], test: Mapping[str, Path], report: Report, *, most_bits: int = MOST_BITS
) -> list[LeakedImage]:
    """Training images that are test images, in the order of the training images.

    Args:
        train: file of each training image by its id, usually the file's name.
        test: the same of the test images.
        report: told what is done.
        most_bits: differing bits of 64 up to which two pictures are one.

    Raises:
        DataError: an image cannot be read.
    """
    names = list(test)
    known = np.array(list(_hashes([test[name] for name in names], "test images", report)), np.uint64)
    found = []
    hashes = _hashes(list(train.values()), "training images", report)
    for name, value in zip(train, hashes, strict=True):
        if name in test:
            found.append(LeakedImage(train=name, test=name, by="id"))
        elif (place := _nearest(known, value, most_bits)) is not None:
            found.append(LeakedImage(train=name, test=names[place], by="picture"))
    return found


def _nearest(known: NDArray[np.uint64], value: int, most_bits: int) -> int | None:
    # One colour all over has no rises: such pictures are all alike.
    if not len(known) or value == 0:
        return None
    bits = np.bitwise_count(known ^ np.uint64(value))
    place = int(bits.argmin())
    return place if bits[place] <= most_bits else None


def _hashes(paths: Sequence[Path], stage: str, report: Report) -> Iterator[int]:
    for number, path in enumerate(paths, start=1):
        yield difference_hash(open_image(path))
        report(Progress(stage=stage, done=number, total=len(paths)))
