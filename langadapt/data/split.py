"""Training and held-out rows, split so that no English sentence, or no image, is on both sides."""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from langadapt.data.distinct import distinct
from langadapt.errors import DataError


@dataclass(frozen=True, kw_only=True)
class Split:
    """Row numbers, int64: `train [n]` and `held_out [m]`."""

    train: NDArray[np.int64]
    held_out: NDArray[np.int64]


def split_by_english(english: Iterable[str], *, held_out: int, generator: torch.Generator) -> Split:
    """Holds out some English sentences with all their translations.

    Sentences are compared without case, outer space and inner spacing. At most a tenth of the distinct ones
    is held out.

    Args:
        english: English side of each row.
        held_out: number of distinct English sentences wanted.
        generator: decides which.

    Returns:
        Row numbers; of each held-out English sentence the first row.

    Raises:
        DataError: fewer than 20 distinct English sentences.
    """
    same = distinct(" ".join(text.casefold().split()) for text in english)
    count = len(same.first)
    if count < 20:
        raise DataError(f"{count} distinct English sentences are too few to train and hold some out")
    chosen = np.zeros(count, np.bool_)
    chosen[torch.randperm(count, generator=generator)[: min(held_out, count // 10)].numpy()] = True
    return Split(train=np.flatnonzero(~chosen[same.index]), held_out=same.first[chosen])


def split_by_image(image_of_text: NDArray[np.int64], *, fraction: float, generator: torch.Generator) -> Split:
    """Holds out some images with all their captions.

    Args:
        image_of_text: int64 `[pairs]`, number of each caption's image.
        fraction: share of the images to hold out; at least two are.
        generator: decides which.

    Returns:
        Numbers of pairs; of held-out images all captions.

    Raises:
        DataError: fewer than 10 images.
    """
    images = np.unique(image_of_text)
    if len(images) < 10:
        raise DataError(f"{len(images)} images are too few to train and hold some out; 10 are the least")
    wanted = min(max(2, round(fraction * len(images))), len(images) - 2)
    chosen = images[torch.randperm(len(images), generator=generator)[:wanted].numpy()]
    held_out = np.isin(image_of_text, chosen)
    return Split(train=np.flatnonzero(~held_out), held_out=np.flatnonzero(held_out))
