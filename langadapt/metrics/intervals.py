"""How far a score would move on another draw of images."""

from dataclasses import dataclass

import torch
from torch import Tensor

_DRAWS_AT_ONCE = 4_000_000


@dataclass(frozen=True, kw_only=True)
class Interval:
    """Bounds in percent; `level` is the fraction of resamples between them."""

    low: float
    high: float
    level: float


def bootstrap_interval(
    text_hits: Tensor,
    image_hits: Tensor,
    image_of_text: Tensor,
    *,
    generator: torch.Generator | None = None,
    resamples: int = 1000,
    level: float = 0.95,
) -> Interval:
    """Percentile bootstrap of the mean of all recalls; images are resampled together with their captions.

    Captions of one image succeed and fail together, so the image is the unit that is drawn. Ranks stay those
    of the full pool.

    Args:
        text_hits: `[T, K]` bool, text t has a positive among its best k for each of K values of k.
        image_hits: `[I, K]` bool, the same for images.
        image_of_text: `[T]` int64 in [0, I).
        generator: source of the draws, on the CPU; None is a fresh one with seed 0.
        resamples: number of draws of I images.
        level: fraction in (0, 1).

    Returns:
        Interval in percent.

    Source: Efron and Tibshirani, An Introduction to the Bootstrap, 1993, chapter 13.
    """
    generator = generator or torch.Generator().manual_seed(0)
    images = len(image_hits)
    owner = image_of_text.cpu()
    text_hits_of_image = torch.zeros(images, dtype=torch.float64).index_add_(
        0, owner, text_hits.cpu().double().mean(dim=1)
    )
    texts_of_image = torch.bincount(owner, minlength=images).double()
    sums = torch.stack([text_hits_of_image, texts_of_image, image_hits.cpu().double().mean(dim=1)], dim=1)

    means = []
    at_once = max(1, _DRAWS_AT_ONCE // images)
    for start in range(0, resamples, at_once):
        rows = min(at_once, resamples - start)
        drawn = torch.randint(images, (rows, images), generator=generator)
        counts = torch.zeros(rows, images, dtype=torch.float64)
        counts.scatter_add_(1, drawn, torch.ones(1, 1, dtype=torch.float64).expand(rows, images))
        hits, texts, hits_of_images = (counts @ sums).unbind(dim=1)
        means.append(50.0 * (hits / texts + hits_of_images / images))
    tail = (1.0 - level) / 2.0
    low, high = torch.cat(means).quantile(torch.tensor([tail, 1.0 - tail], dtype=torch.float64)).tolist()
    return Interval(low=low, high=high, level=level)


def mean_interval(
    values: Tensor,
    *,
    generator: torch.Generator | None = None,
    resamples: int = 1000,
    level: float = 0.95,
) -> Interval:
    """Percentile bootstrap of a mean; the values are the units that are drawn.

    Args:
        values: `[N]` bool or floating, each 0 to 1.
        generator: source of the draws, on the CPU; None is a fresh one with seed 0.
        resamples: number of draws of N values.
        level: fraction in (0, 1).

    Returns:
        Interval in percent.

    Source: Efron and Tibshirani, An Introduction to the Bootstrap, 1993, chapter 13.
    """
    generator = generator or torch.Generator().manual_seed(0)
    numbers = values.cpu().double()
    means = []
    at_once = max(1, _DRAWS_AT_ONCE // len(numbers))
    for start in range(0, resamples, at_once):
        rows = min(at_once, resamples - start)
        drawn = torch.randint(len(numbers), (rows, len(numbers)), generator=generator)
        means.append(100.0 * numbers[drawn].mean(dim=1))
    tail = (1.0 - level) / 2.0
    low, high = torch.cat(means).quantile(torch.tensor([tail, 1.0 - tail], dtype=torch.float64)).tolist()
    return Interval(low=low, high=high, level=level)
