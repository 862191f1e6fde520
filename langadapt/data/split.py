"""Training and held-out sentences, split so that no English sentence is on both sides."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from langadapt.errors import DataError


@dataclass(frozen=True, kw_only=True)
class Split:
    """Row numbers, int64: `train [n]`, and `held_out [m]` with one row per English sentence."""

    train: NDArray[np.int64]
    held_out: NDArray[np.int64]


def split_by_english(english: Sequence[str], *, held_out: int, generator: torch.Generator) -> Split:
    """Holds out some English sentences with all their translations.

    Sentences are compared without case, outer space and inner spacing. At most a tenth of the distinct ones
    is held out.

    Args:
        english: English side of each row.
        held_out: number of distinct English sentences wanted.
        generator: decides which.

    Raises:
        DataError: fewer than 20 distinct English sentences.
    """
    keys = [" ".join(text.casefold().split()) for text in english]
    distinct = list(dict.fromkeys(keys))
    if len(distinct) < 20:
        raise DataError(f"{len(distinct)} distinct English sentences are too few to train and hold some out")
    wanted = min(held_out, len(distinct) // 10)
    chosen = {distinct[i] for i in torch.randperm(len(distinct), generator=generator)[:wanted].tolist()}
    train = [row for row, key in enumerate(keys) if key not in chosen]
    first = {key: row for row, key in reversed(list(enumerate(keys))) if key in chosen}
    return Split(train=np.array(train, np.int64), held_out=np.array(sorted(first.values()), np.int64))
