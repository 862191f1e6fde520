"""Exact search finds what comparing everything finds, ties included, in constant memory."""

import tracemalloc

import numpy as np
import pytest
from numpy.typing import NDArray

from langadapt.errors import DataError
from langadapt.search import nearest
from langadapt.search.nearest import search_exact


def unit(rows: NDArray[np.float64]) -> NDArray[np.float32]:
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


@pytest.mark.parametrize("chunk", [3, 7, 500])
def test_agrees_with_sorting_everything(chunk: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(nearest, "_CHUNK_ROWS", chunk)
    draws = np.random.default_rng(0)
    # Rows of few values from few directions: many near ties and, by repetition, exact ones.
    rows = unit(draws.integers(-2, 3, (200, 8)) + 0.5)[draws.integers(0, 60, 200)]
    rank = draws.permutation(200).astype(np.int64)
    rank[draws.integers(0, 200, 30)] = -1
    queries = unit(draws.normal(size=(5, 8)))
    for query, best in zip(queries, search_exact(queries, rows, rank, count=25), strict=True):
        scores = [round(sum(float(a) * float(b) for a, b in zip(query, row, strict=True)), 6) for row in rows]
        order = sorted((slot for slot in range(200) if rank[slot] >= 0), key=lambda s: (-scores[s], rank[s]))
        assert best.slots.tolist() == order[:25]
        np.testing.assert_allclose(best.scores, [scores[slot] for slot in order[:25]], atol=2e-6)


def test_fewer_rows_than_asked_for() -> None:
    rows = unit(np.eye(4))
    (best,) = search_exact(rows[:1], rows, np.array([2, -1, 0, 1]), count=10)
    assert best.slots.tolist() == [0, 2, 3]


def test_all_rows_alike_keep_their_order() -> None:
    rows = np.repeat(unit(np.array([[3.0, 1, 2]])), 1000, axis=0)
    rank = np.arange(1000)[::-1].copy()
    (best,) = search_exact(rows[:1], rows, rank, count=3)
    assert best.slots.tolist() == [999, 998, 997]


def test_a_row_that_is_not_finite_is_said() -> None:
    rows = unit(np.eye(4))
    rows[2, 0] = np.nan
    with pytest.raises(DataError, match=r"not finite.*--rebuild"):
        search_exact(rows[:1], rows, np.arange(4), count=2)


def test_memory_does_not_grow_with_the_rows() -> None:
    def peak(count: int) -> int:
        rows = np.zeros((count, 16), np.float32)
        rows[:, 0] = 1
        rows[:: count // 10, 1] = 1
        rank = np.arange(count)
        tracemalloc.start()
        search_exact(unit(np.ones((1, 16))), rows, rank, count=5)
        found = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return found

    assert peak(400_000) < 1.2 * peak(50_000)
