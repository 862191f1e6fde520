"""Accuracy of choosing one class among many, from scores of every image with every class."""

from dataclasses import dataclass

import torch
from torch import Tensor

from langadapt.errors import DataError
from langadapt.metrics.intervals import Interval, mean_interval
from langadapt.metrics.ranks import exact_unit_rows

_TILE_ROWS = 512


@dataclass(frozen=True, kw_only=True)
class ClassificationScores:
    """Shares of images, in percent, and what stands behind them."""

    top1: float
    top5: float
    """Own class among the best five; 100 where there are five classes or fewer."""
    mean_per_class: float
    """Mean of `per_class`: every class counts the same, however many images it has."""
    per_class: tuple[float | None, ...]
    """Recall of each class, in percent; None for a class without images."""
    confusion: tuple[tuple[int, ...], ...]
    """Images by own class (row) and chosen class (column)."""
    interval: Interval
    """Of top1."""
    signature: str


def class_similarities(image: Tensor, classes: Tensor) -> Tensor:
    """Compute the cosines of images and classes, `[N, C]` float32, summed exactly, so that equal rows tie.

    Rows of `image [N, D]` and `classes [C, D]`, floating point, need not be normalised; none may be zero.
    """
    if image.ndim == classes.ndim == 2 and image.shape[1] != classes.shape[1]:
        raise DataError(f"image embeddings are {image.shape[1]} wide, class embeddings {classes.shape[1]}")
    images, columns = exact_unit_rows(image, "image"), exact_unit_rows(classes, "class").double().T
    return torch.cat([(tile.double() @ columns).float() for tile in torch.split(images, _TILE_ROWS)])


def classification_scores(scores: Tensor, labels: Tensor, *, signature: str) -> ClassificationScores:
    """Score a classifier: percentages with a 95 % bootstrap interval of top1 over images.

    The rank of an image's own class is 1 + the number of other classes that score at least as high: ties
    count against the model, and the class that it is said to have chosen is then a wrong one.

    In `scores [N, C]`, floating point, only the order within a row matters, higher is better; `labels [N]`
    are int64 in [0, C); `signature` states the conditions, see `langadapt.metrics.signature`. Raise a
    DataError for shapes that do not fit, a score that is NaN or infinite, or a label out of range.
    """
    _check(scores, labels)
    count = scores.shape[1]
    own = scores.gather(1, labels[:, None])
    ranks = (scores >= own).sum(dim=1)  # the own class itself makes it start at 1
    # Among equal scores the own class loses.
    others = scores.scatter(1, labels[:, None], float("-inf"))
    best_other = others.argmax(dim=1) if count > 1 else labels
    chosen = torch.where(ranks == 1, labels, best_other)
    confusion = torch.bincount(labels * count + chosen, minlength=count * count).view(count, count)
    totals, right = confusion.sum(dim=1), confusion.diagonal()
    per_class = tuple(
        100.0 * hits / total if total else None
        for hits, total in zip(right.tolist(), totals.tolist(), strict=True)
    )
    present = [recall for recall in per_class if recall is not None]
    hits = ranks == 1
    return ClassificationScores(
        top1=100.0 * int(hits.sum()) / len(hits),
        top5=100.0 * int((ranks <= 5).sum()) / len(hits),
        mean_per_class=sum(present) / len(present),
        per_class=per_class,
        confusion=tuple(map(tuple, confusion.tolist())),
        interval=mean_interval(hits),
        signature=signature,
    )


def _check(scores: Tensor, labels: Tensor) -> None:
    if scores.ndim != 2 or not scores.is_floating_point() or scores.numel() == 0:
        raise DataError(f"class scores: expected a float matrix, got {scores.dtype} {list(scores.shape)}")
    if labels.shape != scores.shape[:1] or labels.dtype != torch.int64:
        got = f"{labels.dtype} {list(labels.shape)}"
        raise DataError(f"labels: expected one int64 for each of {len(scores)} images, got {got}")
    finite = scores.isfinite().all(dim=1)
    if not finite.all():
        row = int((~finite).nonzero()[0, 0])
        raise DataError(f"class scores: row {row} has NaN or inf; a broken model has no score")
    low, high = int(labels.min()), int(labels.max())
    if low < 0 or high >= scores.shape[1]:
        raise DataError(f"labels: must lie in 0 to {scores.shape[1] - 1}, got {low} to {high}")
