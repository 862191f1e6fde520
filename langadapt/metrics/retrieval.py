"""Recall of texts among images and of images among texts."""

from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor

from langadapt.errors import DataError
from langadapt.metrics.intervals import Hits, Interval, interval_of
from langadapt.metrics.ranks import Positives, exact_unit_rows, positive_ranks

CUTOFFS = (1, 5, 10)


@dataclass(frozen=True, kw_only=True)
class Recalls:
    """Share of queries, in percent, with a positive among the best 1, 5 and 10 candidates."""

    r1: float
    r5: float
    r10: float

    @property
    def mean(self) -> float:
        """`mR3` of this direction."""
        return (self.r1 + self.r5 + self.r10) / 3.0


@dataclass(frozen=True, kw_only=True)
class RetrievalScores:
    """Six recalls in percent and the names under which their means are published."""

    t2i: Recalls
    i2t: Recalls
    interval: Interval
    """Of mR6."""
    signature: str
    hits: Hits | None = None
    """Image by image; scores of earlier versions have none."""

    @property
    def mr3_t2i(self) -> float:
        return self.t2i.mean

    @property
    def mr3_i2t(self) -> float:
        return self.i2t.mean

    @property
    def mr6(self) -> float:
        return (self.t2i.mean + self.i2t.mean) / 2.0

    def recalls(self) -> tuple[float, ...]:
        """R@1, R@5, R@10 of t2i, then of i2t."""
        return tuple(getattr(side, f"r{k}") for side in (self.t2i, self.i2t) for k in CUTOFFS)

    def to_dict(self) -> dict[str, Any]:
        """Plain values under stable keys, the means among them."""
        return {**asdict(self), "mr3_t2i": self.mr3_t2i, "mr3_i2t": self.mr3_i2t, "mr6": self.mr6}


def retrieval_scores(
    text: Tensor,
    image: Tensor,
    image_of_text: Tensor,
    *,
    signature: str,
    device: torch.device | None = None,
) -> RetrievalScores:
    """Score both directions of a retrieval set: recalls in percent, with a 95 % interval of mR6.

    In a pool of k candidates or fewer, R@k is 100. Rows of `text [T, D]` and `image [I, D]`, floating point,
    need not be normalised. `image_of_text [T]`, int64, is the one image a text was written for; no image is
    without a text. `signature` states the conditions, see `langadapt.metrics.signature`; `device` is where
    to score, see `positive_ranks`.

    Raise a DataError where shapes do not fit, a row is zero or not finite, an image has no text.
    """
    if image_of_text.shape != text.shape[:1] or image_of_text.dtype != torch.int64:
        got = f"{image_of_text.dtype} {list(image_of_text.shape)}"
        raise DataError(f"image_of_text: expected one int64 for each of {len(text)} texts, got {got}")
    own = Positives(text=torch.arange(len(text), device=image_of_text.device), image=image_of_text)
    ranks = positive_ranks(text, image, positives=own, device=device)
    cutoffs = torch.tensor(CUTOFFS, device=ranks.t2i.device)
    text_hits, image_hits = ranks.t2i[:, None] <= cutoffs, ranks.i2t[:, None] <= cutoffs
    hits = Hits.of(text_hits, image_hits, image_of_text)
    return RetrievalScores(
        t2i=_recalls(text_hits),
        i2t=_recalls(image_hits),
        interval=interval_of(hits.resampled()),
        signature=signature,
        hits=hits,
    )


def mean_recall_text(student: Tensor, teacher: Tensor, others: Tensor | None = None) -> float:
    """Return the mean of R@1, R@5 and R@10, in percent, of student rows among teacher rows; both `[N, D]`.

    Row n of the teacher is what row n of the student should be. Teacher rows that are equal bit for bit (an
    English sentence that occurs twice) are one candidate: finding either is right. Normalised rows `[M, D]`
    of other sentences are wrong for every student row.
    """
    if student.shape != teacher.shape:
        raise DataError(f"student rows {list(student.shape)} and teacher rows {list(teacher.shape)} differ")
    distinct, place = torch.unique(exact_unit_rows(teacher, "teacher"), dim=0, return_inverse=True)
    own = Positives(text=torch.arange(len(student), device=place.device), image=place)
    ranks = positive_ranks(student, distinct, positives=own).t2i
    if others is not None and len(others):
        unit = exact_unit_rows(student, "student")
        ranks += (unit @ others.T >= (unit * distinct[place]).sum(dim=1, keepdim=True)).sum(dim=1)
    return _recalls(ranks[:, None] <= torch.tensor(CUTOFFS, device=ranks.device)).mean


def _recalls(hits: Tensor) -> Recalls:
    r1, r5, r10 = (100.0 * hits.sum(dim=0).double() / len(hits)).tolist()
    return Recalls(r1=r1, r5=r5, r10=r10)
