"""Bootstrap intervals: how far a score would move on another draw of images."""

from dataclasses import dataclass
from typing import Self

import torch
from torch import Tensor

LEVEL = 0.95
"""Fraction of the resamples inside an interval."""

_RESAMPLES = 1000
_DRAWS_AT_ONCE = 4_000_000


@dataclass(frozen=True, kw_only=True)
class Interval:
    """Bounds in percent; `level` is the fraction of resamples between them."""

    low: float
    high: float
    level: float

    def __str__(self) -> str:
        """Bounds with one decimal, 100 without."""
        return "–".join(f"{bound:.1f}".replace("100.0", "100") for bound in (self.low, self.high))


@dataclass(frozen=True, kw_only=True)
class Hits:
    """What each image of a retrieval set adds to mR6, so that two models are compared image by image.

    Captions of one image succeed and fail together, so the image is the unit that is drawn. Ranks stay those
    of the full pool.
    """

    captions: tuple[int, ...]
    """Number of each image's captions."""
    t2i: tuple[int, ...]
    """For how many pairs of an own caption and a cutoff k the image is among the caption's best k."""
    i2t: tuple[int, ...]
    """For how many cutoffs an own caption is among the image's best k."""
    cutoffs: int

    @classmethod
    def of(cls, text_hits: Tensor, image_hits: Tensor, image_of_text: Tensor) -> Self:
        """Count `text_hits [T, K]` and `image_hits [I, K]`, bool; `image_of_text [T]` is int64 in [0, I)."""
        images, owner = len(image_hits), image_of_text.cpu()
        found = torch.zeros(images, dtype=torch.int64).index_add_(0, owner, text_hits.cpu().long().sum(dim=1))
        return cls(
            captions=tuple(torch.bincount(owner, minlength=images).tolist()),
            t2i=tuple(found.tolist()),
            i2t=tuple(image_hits.cpu().long().sum(dim=1).tolist()),
            cutoffs=image_hits.shape[1],
        )

    def resampled(self) -> Tensor:
        """Return mR6, in percent, of each of 1,000 draws `[1000]`; the same images for every model."""
        sums = torch.tensor([self.t2i, self.i2t], dtype=torch.float64).T / self.cutoffs
        sizes = torch.tensor([self.captions, [1] * len(self.captions)], dtype=torch.float64).T
        return _resampled(sums, sizes)


def interval_of(values: Tensor) -> Interval:
    """Return the percentile interval of what resamples gave: scores, their differences or ratios."""
    tail = (1.0 - LEVEL) / 2.0
    low, high = values.quantile(torch.tensor([tail, 1.0 - tail], dtype=torch.float64)).tolist()
    return Interval(low=low, high=high, level=LEVEL)


def mean_interval(values: Tensor) -> Interval:
    """Bootstrap the mean, in percent, of values `[N]` from 0 to 1; they are the units that are drawn."""
    sums = values.cpu().double()[:, None]
    return interval_of(_resampled(sums, torch.ones_like(sums)))


def _resampled(sums: Tensor, sizes: Tensor) -> Tensor:
    """Bootstrap with seed 0, `[1000]` in percent: the mean over K of `sum(sums) / sum(sizes)`, both `[N, K]`.

    Source: Efron and Tibshirani, An Introduction to the Bootstrap, 1993, chapter 13.
    """
    generator = torch.Generator().manual_seed(0)
    units = len(sums)
    at_once = max(1, _DRAWS_AT_ONCE // units)
    means = []
    for start in range(0, _RESAMPLES, at_once):
        rows = min(at_once, _RESAMPLES - start)
        drawn = torch.randint(units, (rows, units), generator=generator)
        counts = torch.zeros(rows, units, dtype=torch.float64)
        counts.scatter_add_(1, drawn, torch.ones(1, 1, dtype=torch.float64).expand(rows, units))
        means.append(100.0 * ((counts @ sums) / (counts @ sizes)).mean(dim=1))
    return torch.cat(means)
