"""Bootstrap intervals: how far a score would move on another draw of images."""

from dataclasses import dataclass

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


def recall_interval(text_hits: Tensor, image_hits: Tensor, image_of_text: Tensor) -> Interval:
    """Bootstrap the mean of all recalls, in percent; images are resampled together with their captions.

    Captions of one image succeed and fail together, so the image is the unit that is drawn. Ranks stay those
    of the full pool. `text_hits [T, K]` and `image_hits [I, K]`, bool, say whether a positive is among the
    best k, for each of K values of k; `image_of_text [T]` is int64 in [0, I).
    """
    images = len(image_hits)
    owner = image_of_text.cpu()
    hits_of_texts = torch.zeros(images, dtype=torch.float64)
    hits_of_texts.index_add_(0, owner, text_hits.cpu().double().mean(dim=1))
    texts = torch.bincount(owner, minlength=images).double()
    return _bootstrap(
        torch.stack([hits_of_texts, image_hits.cpu().double().mean(dim=1)], dim=1),
        torch.stack([texts, torch.ones_like(texts)], dim=1),
    )


def mean_interval(values: Tensor) -> Interval:
    """Bootstrap the mean, in percent, of values `[N]` from 0 to 1; they are the units that are drawn."""
    sums = values.cpu().double()[:, None]
    return _bootstrap(sums, torch.ones_like(sums))


def _bootstrap(sums: Tensor, sizes: Tensor) -> Interval:
    """Percentile bootstrap with seed 0: of the mean over K of `sum(sums) / sum(sizes)`, both `[N, K]`.

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
    tail = (1.0 - LEVEL) / 2.0
    low, high = torch.cat(means).quantile(torch.tensor([tail, 1.0 - tail], dtype=torch.float64)).tolist()
    return Interval(low=low, high=high, level=LEVEL)
