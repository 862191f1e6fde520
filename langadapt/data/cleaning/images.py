"""Training images against test images: the same file name, or the same picture to the eye."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from langadapt.data.images import ImageFile, open_image
from langadapt.errors import DataError
from langadapt.progress import Progress, Report

MOST_BITS = 8
"""Differing bits of 64 up to which two pictures are compared closely: copies differ in fewer."""
LEAST_LIKENESS = 0.97
"""Correlation of two thumbnails from which they are one picture: scaled, compressed and brightened copies of
photos reach 0.98, other photos and drawn scenes with one background 0.95."""
_THUMBNAIL = 24


@dataclass(frozen=True, kw_only=True)
class LeakedImage:
    """A training image that is a test image, by their ids."""

    train: str
    test: str


def difference_hash(image: Image.Image) -> int:
    """64 bits that say where brightness rises from left to right in a 9 x 8 thumbnail.

    It stays nearly the same when an image is scaled, compressed or changed in brightness; a mirrored or
    cropped image gets another one.

    Source: N. Krawetz, "Kind of Like That", hackerfactor.com, 2013 (dHash).
    """
    grey = np.asarray(image.convert("L").resize((9, 8), Image.Resampling.LANCZOS), np.int16)
    return int.from_bytes(np.packbits(grey[:, 1:] > grey[:, :-1]).tobytes(), "big")


def leaked_images(
    train: Mapping[str, ImageFile], test: Mapping[str, ImageFile], report: Report
) -> list[LeakedImage]:
    """Training images that are test images, in the order of the training images.

    Pictures are compared, not ids. An image that cannot be read is no other's copy.

    Args:
        train: file of each training image by its id.
        test: the same of the test images.
        report: told what is done.
    """
    if not test:
        return []
    names = list(test)
    known = np.array(list(_hashes([test[name] for name in names], "test images", report)), np.uint64)
    found = []
    hashes = _hashes(list(train.values()), "training images", report)
    for name, value in zip(train, hashes, strict=True):
        near = [names[place] for place in _near(known, value)]
        like = _likeness(train[name], [test[other] for other in near])
        if near and max(like) >= LEAST_LIKENESS:
            found.append(LeakedImage(train=name, test=near[like.index(max(like))]))
    return found


def _likeness(image: ImageFile, others: Sequence[ImageFile]) -> list[float]:
    """Correlation of an image's thumbnail with each of some others'."""
    if not others:
        return []
    own = _thumbnail(open_image(image))
    return [float((own * _thumbnail(open_image(other))).mean()) for other in others]


def _near(known: NDArray[np.uint64], value: int) -> list[int]:
    # One colour all over has no rises: such pictures are all alike.
    if not len(known) or value == 0:
        return []
    bits = np.bitwise_count(known ^ np.uint64(value))
    places: list[int] = np.flatnonzero(bits <= MOST_BITS).tolist()
    return places


def _thumbnail(image: Image.Image) -> NDArray[np.float32]:
    """Brightness in 24 x 24 places, of mean 0 and variance 1."""
    side = (_THUMBNAIL, _THUMBNAIL)
    grey = np.asarray(image.convert("L").resize(side, Image.Resampling.LANCZOS), np.float32)
    grey -= grey.mean()
    scaled: NDArray[np.float32] = grey / max(float(np.sqrt((grey**2).mean())), 1e-6)
    return scaled


def _hashes(images: Sequence[ImageFile], stage: str, report: Report) -> Iterator[int]:
    for number, image in enumerate(images, start=1):
        try:
            value = difference_hash(open_image(image))
        except DataError:  # the reader of the set says so, where its images are needed
            value = 0
        yield value
        report(Progress(stage=f"{stage} compared", done=number, total=len(images)))
