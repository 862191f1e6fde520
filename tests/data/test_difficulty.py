"""Draws follow the stated chances, and the bank survives whatever a run does to it."""

from pathlib import Path

import numpy as np
import pytest

from langadapt.errors import DataError
from langadapt.training.difficulty import DifficultyBank, SamplingRule


def bank(tmp_path: Path, values: list[float], **rule: float) -> DifficultyBank:
    return DifficultyBank.create(
        tmp_path / "bank.bin", np.array(values, dtype=np.float32), rule=SamplingRule(**rule)
    )


def test_single_draws_follow_the_written_formula(tmp_path: Path) -> None:
    values = [0.0, 0.1, 0.2, 0.3, 0.4] * 600  # three blocks
    made = bank(tmp_path, values, strength=2.0, floor_fraction=0.25)
    total = sum(v**2 for v in values)
    expected = [0.25 / 3000 + 0.75 * v**2 / total for v in values]
    np.testing.assert_allclose(made.chances(np.arange(3000)), expected, rtol=1e-6)
    levels = np.zeros(5)
    for step in range(2000):
        levels += np.bincount(made.draw(10, seed=1, step=step) % 5, minlength=5)
    shares = [sum(expected[level::5]) for level in range(5)]
    np.testing.assert_allclose(levels / 20_000, shares, atol=0.011)  # three standard deviations


def test_a_batch_holds_no_pair_twice_and_depends_on_seed_and_step_alone(tmp_path: Path) -> None:
    made = bank(tmp_path, [1.0] * 3 + [0.0] * 5000, floor_fraction=0.0)
    first = made.draw(64, seed=3, step=9)
    assert len(set(first.tolist())) == 64
    assert {0, 1, 2} <= set(first.tolist())
    np.testing.assert_array_equal(first, made.draw(64, seed=3, step=9))
    assert not np.array_equal(first, made.draw(64, seed=3, step=10))
    assert not np.array_equal(first, made.draw(64, seed=4, step=9))


def test_strength_zero_and_a_bank_of_zeros_are_uniform(tmp_path: Path) -> None:
    for values, strength in (([0.1, 0.9] * 10, 0.0), ([0.0] * 20, 1.0)):
        made = bank(tmp_path, values, strength=strength)
        np.testing.assert_allclose(made.chances(np.arange(20)), 1 / 20)
        assert sorted(made.draw(20, seed=0, step=0).tolist()) == list(range(20))


def test_an_update_moves_the_average_and_the_chances_at_once(tmp_path: Path) -> None:
    made = bank(tmp_path, [0.5] * 3000, floor_fraction=0.0)
    made.update(np.array([7, 2999]), np.array([1.0, 0.0], dtype=np.float32), momentum=0.9)
    np.testing.assert_allclose(made.values[[7, 2999]], [0.55, 0.45])
    total = 0.5 * 2998 + 1.0
    np.testing.assert_allclose(made.chances(np.array([7, 2999, 8])), np.array([0.55, 0.45, 0.5]) / total)


def test_the_hardest_share_is_left_to_the_floor(tmp_path: Path) -> None:
    values = np.linspace(0.0, 0.999, 1000)
    made = bank(tmp_path, values.tolist(), floor_fraction=0.5, noise_fraction=0.2)
    chances = made.chances(np.arange(1000))
    np.testing.assert_allclose(chances[801:], 0.5 / 1000)
    assert (chances[2:799] > 0.5 / 1000).all()
    np.testing.assert_allclose(chances.sum(), 1.0)


def test_a_copy_goes_on_like_the_original(tmp_path: Path) -> None:
    made = bank(tmp_path, np.random.default_rng(0).random(5000).tolist(), noise_fraction=0.1)
    made.update(np.arange(0, 5000, 3), np.full(1667, 0.3, dtype=np.float32), momentum=0.5)
    made.save(tmp_path / "copy.bin")
    made.refresh()
    again = DifficultyBank.open(tmp_path / "copy.bin", pairs=5000, rule=made.rule)
    for step in range(5):
        rows = made.draw(100, seed=0, step=step)
        np.testing.assert_array_equal(rows, again.draw(100, seed=0, step=step))
        for one in (made, again):
            one.update(rows, np.full(100, 0.9, dtype=np.float32), momentum=0.9)


def test_bad_values_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"pair 1500 is 1\.5"):
        bank(tmp_path, [0.5] * 1500 + [1.5])
    made = bank(tmp_path, [0.5] * 10)
    with pytest.raises(DataError, match="pair 0 is nan"):
        made.update(np.array([3]), np.array([np.nan], dtype=np.float32), momentum=0.9)
    np.testing.assert_array_equal(made.values, np.full(10, 0.5, dtype=np.float32))
    with pytest.raises(DataError, match="11 difficulties expected, found 10"):
        DifficultyBank.open(tmp_path / "bank.bin", pairs=11, rule=SamplingRule())
    with pytest.raises(DataError, match="a batch of 11 cannot be drawn from 10 pairs"):
        made.draw(11, seed=0, step=0)
