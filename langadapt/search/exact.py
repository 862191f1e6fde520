"""The best rows for some queries, exactly, in memory that does not grow with the rows."""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from langadapt.errors import DataError
from langadapt.metrics.rows import exact_unit_rows
from langadapt.search.catalogue import Rows

_CHUNK_ROWS = 16384
_ROUNDING = 2.0**-23


@dataclass(frozen=True, kw_only=True)
class Best:
    """The best rows of one query, best first: `slots [k]` int64, `scores [k]` float32 cosines."""

    slots: NDArray[np.int64]
    scores: NDArray[np.float32]


def best_rows(queries: Rows, rows: Rows, rank: NDArray[np.int64], *, count: int) -> list[Best]:
    """Exact search.

    The float32 products only choose candidates, with room for all of their rounding; these are scored again
    exactly, so that equal rows tie and the order depends neither on chunks nor on the machine.

    Args:
        queries: `[Q, D]` float32 unit rows.
        rows: `[N, D]` float32 unit rows, memory-mapped.
        rank: `[N]` what goes first among equal scores; -1 leaves a row out.
        count: how many per query.

    Returns:
        For each query up to `count` rows.

    Raises:
        DataError: a row is not finite.
    """
    best = [Best(slots=np.zeros(0, np.int64), scores=np.zeros(0, np.float32)) for _ in queries]
    slack = np.float32(2 * rows.shape[1] * _ROUNDING)
    for start in range(0, len(rows), _CHUNK_ROWS):
        chunk = np.asarray(rows[start : start + _CHUNK_ROWS])
        live = rank[start : start + _CHUNK_ROWS] >= 0
        scores = queries @ chunk.T
        if not np.isfinite(scores).all():
            raise DataError(
                "a row of the index is not finite; make it anew: `langadapt index` with --rebuild"
            )
        for number, query in enumerate(queries):
            row = np.where(live, scores[number], -np.inf)
            floor = _floor(row, best[number], count) - slack
            near = np.flatnonzero((row >= floor) & live)
            if len(near):
                best[number] = merged(
                    best[number], exact(query, chunk[near], near + start), rank, count=count
                )
    return best


def exact(query: Rows, rows: Rows, slots: NDArray[np.int64]) -> Best:
    """Cosines of a query and `[n, D]` rows, summed without rounding; in the rows' order."""
    left = exact_unit_rows(torch.tensor(query[None]), "query").double()
    right = exact_unit_rows(torch.tensor(rows), "image").double()
    return Best(slots=slots.astype(np.int64), scores=(right @ left[0]).float().numpy())


def merged(one: Best, other: Best, rank: NDArray[np.int64], *, count: int) -> Best:
    """The best of both, higher scores first, equal ones by rank."""
    slots = np.concatenate([one.slots, other.slots])
    scores = np.concatenate([one.scores, other.scores])
    order = np.lexsort((rank[slots], -scores))[:count]
    return Best(slots=slots[order], scores=scores[order])


def _floor(scores: Rows, best: Best, count: int) -> np.float32:
    """What a row must reach at least to be among the best, as far as float32 tells."""
    floor = best.scores[-1] if len(best.scores) == count else np.float32(-np.inf)
    if len(scores) > count:
        floor = max(floor, np.partition(scores, len(scores) - count)[len(scores) - count])
    return np.float32(floor)
