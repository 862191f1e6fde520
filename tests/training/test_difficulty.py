"""Draws follow the stated chances, and updates and bad values do what they should."""

import numpy as np
import pytest

from langadapt.errors import DataError
from langadapt.recipes.stages import HardSampling
from langadapt.training.hard_sampling import DifficultyBank, wrong_captions


def bank(values: list[float], **rule: float) -> DifficultyBank:
    return DifficultyBank(np.array(values, dtype=np.float32), HardSampling(**{"strength": 1.0, **rule}))


def shares(made: DifficultyBank, kinds: int, *, count: int = 10, steps: int = 2000) -> np.ndarray:
    """Share of the draws that fell on each kind of pair; a pair's kind is its index modulo their number."""
    drawn = [made.draw(count, seed=1, step=step) % kinds for step in range(steps)]
    return np.bincount(np.concatenate(drawn), minlength=kinds) / (count * steps)


def test_single_draws_follow_the_written_formula() -> None:
    levels = np.array([0.0, 0.1, 0.2, 0.3, 0.4])
    made = bank([*levels] * 600, strength=2.0, floor_fraction=0.25)
    expected = 0.25 / 5 + 0.75 * levels**2 / (levels**2).sum()
    np.testing.assert_allclose(shares(made, 5), expected, atol=0.011)  # three standard deviations


def test_a_batch_holds_no_pair_twice_and_depends_on_seed_and_step_alone() -> None:
    made = bank([1.0] * 3 + [0.0] * 5000, floor_fraction=0.0)
    first = made.draw(64, seed=3, step=9)
    assert len(set(first.tolist())) == 64
    assert {0, 1, 2} <= set(first.tolist())
    np.testing.assert_array_equal(first, made.draw(64, seed=3, step=9))
    assert not np.array_equal(first, made.draw(64, seed=3, step=10))
    assert not np.array_equal(first, made.draw(64, seed=4, step=9))


def test_strength_zero_and_a_bank_of_zeros_are_uniform() -> None:
    for values, strength in (([0.1, 0.9] * 1000, 0.0), ([0.0] * 2000, 1.0)):
        made = bank(values, strength=strength)
        np.testing.assert_allclose(shares(made, 2, count=100, steps=200), 0.5, atol=0.011)
    assert sorted(bank([0.0] * 20).draw(20, seed=0, step=0).tolist()) == list(range(20))


def test_an_update_moves_the_average_and_the_draws_at_once() -> None:
    made = bank([0.5] * 3000, floor_fraction=0.0, momentum=0.9)
    made.update(np.array([7, 2999]), np.array([1.0, 0.0], dtype=np.float32))
    np.testing.assert_allclose(made.values[[7, 2999]], [0.55, 0.45])
    made = bank([0.5, 0.5] * 1000, floor_fraction=0.0, momentum=0.0)
    made.update(np.arange(0, 2000, 2), np.zeros(1000, dtype=np.float32))
    np.testing.assert_array_equal(shares(made, 2, steps=20), [0.0, 1.0])


def test_the_hardest_share_is_left_to_the_floor() -> None:
    made = bank([0.2, 0.4, 0.6, 0.8, 0.99] * 400, floor_fraction=0.5, noise_fraction=0.2)
    expected = 0.5 / 5 + 0.5 * np.array([0.2, 0.4, 0.6, 0.8, 0.0]) / 2.0
    np.testing.assert_allclose(shares(made, 5), expected, atol=0.011)


def test_bad_values_are_refused() -> None:
    with pytest.raises(DataError, match=r"pair 1500 is 1\.5"):
        bank([0.5] * 1500 + [1.5])
    made = bank([0.5] * 10)
    with pytest.raises(DataError, match="pair 0 is nan"):
        made.update(np.array([3]), np.array([np.nan], dtype=np.float32))
    np.testing.assert_array_equal(made.values, np.full(10, 0.5, dtype=np.float32))
    with pytest.raises(DataError, match="a batch of 11 cannot be drawn from 10 pairs"):
        made.draw(11, seed=0, step=0)


def test_the_share_of_wrong_captions_is_found_from_their_ranks() -> None:
    right, wrong = (
        np.repeat([1, 2, 9, 40], 20),
        np.arange(1, 101),
    )  # of 100 images: near the top, and anywhere
    assert wrong_captions(right, 100) == 0.0
    assert wrong_captions(np.concatenate([right, wrong[::5]]), 100) == pytest.approx(0.2, abs=0.01)
    assert wrong_captions(wrong, 100) == 1.0
    assert wrong_captions(np.full(4, 3), 4) == 1.0
    assert wrong_captions(np.full(4, 2), 4) == 0.0
