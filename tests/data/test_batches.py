"""The order in which training sees its rows."""

import numpy as np
import pytest

from langadapt.data.batches import epoch_batches, steps_per_epoch

LENGTHS = np.random.default_rng(0).integers(3, 40, 1003)


def epoch(number: int, *, seed: int = 0, lengths: np.ndarray = LENGTHS, pool: int = 50) -> list[list[int]]:
    batches = epoch_batches(lengths, batch_size=16, seed=seed, epoch=number, pool_batches=pool)
    return [rows.tolist() for rows in batches]


@pytest.mark.parametrize("rows", [1, 5, 16, 17, 800, 1003])
@pytest.mark.parametrize("pool", [3, 50])
def test_an_epoch_brings_each_row_at_most_once_and_leaves_out_less_than_a_batch(rows: int, pool: int) -> None:
    batches = epoch(0, lengths=LENGTHS[:rows], pool=pool)
    seen = [row for batch in batches for row in batch]
    assert len(batches) == steps_per_epoch(rows, 16)
    assert len(set(seen)) == len(seen) == max(rows // 16 * 16, min(rows, 16))
    assert {len(batch) for batch in batches} == {min(rows, 16)}
    assert set(seen) <= set(range(rows))


def test_order_depends_on_seed_and_epoch_alone() -> None:
    assert epoch(3) == epoch(3)
    orders = [epoch(0), epoch(1), epoch(0, seed=1), epoch(1, seed=1)]
    assert all(a != b for i, a in enumerate(orders) for b in orders[:i])
    neighbours = [{frozenset(batch) for batch in order} for order in orders]
    assert not neighbours[0] & neighbours[1]


def test_no_row_is_left_out_of_every_epoch() -> None:
    """Were the rest cut off behind the sorting, the longest rows of a small set would never be seen."""
    lengths = np.arange(16 * 3 + 15)
    seen = [{row for batch in epoch(i, lengths=lengths) for row in batch} for i in range(12)]
    left_out = [set(range(len(lengths))) - rows for rows in seen]
    assert all(len(rows) == 15 for rows in left_out)
    assert not set.intersection(*left_out)
    assert any(rows != left_out[0] for rows in left_out)


def test_like_lengths_stand_together_and_batches_do_not_come_by_length() -> None:
    batches = epoch(0)
    padded = sum(len(batch) * LENGTHS[batch].max() for batch in batches)
    assert padded < 1.1 * LENGTHS.sum()
    longest = [LENGTHS[batch].max() for batch in batches]
    assert longest != sorted(longest)
