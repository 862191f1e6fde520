"""How hard each pair is, for millions of pairs: a memory-mapped bank, and draws that prefer the hard ones."""

from dataclasses import dataclass
from pathlib import Path
from typing import Self

import numpy as np
from numpy.typing import NDArray

from langadapt.errors import DataError
from langadapt.files.atomic import replacing

_CHUNK = 1 << 20

_BINS = 1024

_ROUNDS = 200


@dataclass(frozen=True, kw_only=True)
class SamplingRule:
    """From difficulty to the chance of being drawn."""

    strength: float = 1.0
    """Exponent of the difficulty; 0 draws all pairs alike."""
    floor_fraction: float = 0.3
    """Share of the draws that are uniform whatever the difficulty, so that no pair is forgotten."""
    noise_fraction: float = 0.0
    """The hardest share of pairs is drawn by the floor alone: where labels are wrong, it is mostly they."""

    def __post_init__(self) -> None:
        if self.strength < 0 or not 0 <= self.floor_fraction <= 1 or not 0 <= self.noise_fraction < 1:
            raise ValueError(f"strength >= 0, floor in [0, 1] and noise in [0, 1) expected, got {self}")


class DifficultyBank:
    """One difficulty in [0, 1] per pair, kept in a file.

    Resident memory is 4 bytes a pair at most, all of it mapped pages. A draw costs about
    `1 / mean(difficulty ** strength)` reads of single values, however large the bank is.

    Args:
        values: writable memory map, float32 `[pairs]`.
        rule: how difficulty becomes a chance.

    Source: the memory bank of the hard-sampling domain adapter (the talk); the uniform floor follows
        prioritised replay (Schaul et al., 2016, section 3.3).
    """

    def __init__(self, *, values: NDArray[np.float32], rule: SamplingRule) -> None:
        self.values = values
        self.rule = rule
        self.limit = 1.0
        """Pairs above it are left to the floor; `refresh` sets it."""
        self.refresh()

    @classmethod
    def create(cls, path: Path, difficulty: NDArray[np.float32], *, rule: SamplingRule) -> Self:
        """Writes a bank's file, whole or not at all, and opens it.

        Args:
            path: replaced where it exists.
            difficulty: float32 `[pairs]` in [0, 1], measured with the frozen general model.
            rule: of the draws.

        Raises:
            DataError: no pairs, or a value outside [0, 1].
        """
        if difficulty.ndim != 1 or not len(difficulty):
            raise DataError(f"{path}: a difficulty per pair expected, got shape {difficulty.shape}")
        for start in range(0, len(difficulty), _CHUNK):
            _check(difficulty[start : start + _CHUNK], first=start)
        with replacing(path) as temporary:
            difficulty.astype(np.float32, copy=False).tofile(temporary)
        return cls.open(path, pairs=len(difficulty), rule=rule)

    @classmethod
    def open(cls, path: Path, *, pairs: int, rule: SamplingRule) -> Self:
        """Opens a bank's file.

        Raises:
            DataError: it does not hold that many pairs.
        """
        size = path.stat().st_size if path.is_file() else -1
        if size != 4 * pairs:
            raise DataError(f"{path}: {pairs} difficulties expected, found {max(size, 0) // 4}; delete it")
        return cls(values=np.memmap(path, dtype=np.float32, mode="r+", shape=(pairs,)), rule=rule)

    def save(self, path: Path) -> None:
        """Writes a copy, whole or not at all; a run resumes from the copy of its checkpoint."""
        with replacing(path) as temporary:
            self.values.tofile(temporary)

    def refresh(self) -> None:
        """Finds anew which pairs are the hardest share; once an epoch is enough."""
        if not self.rule.noise_fraction:
            return
        counts = np.zeros(_BINS, dtype=np.int64)
        for start in range(0, len(self.values), _CHUNK):
            counts += np.histogram(self.values[start : start + _CHUNK], bins=_BINS, range=(0.0, 1.0))[0]
        kept = np.cumsum(counts) <= (1.0 - self.rule.noise_fraction) * len(self.values)
        self.limit = float(kept.sum()) / _BINS

    def update(self, rows: NDArray[np.int64], measured: NDArray[np.float32], *, momentum: float) -> None:
        """Moves the difficulty of some pairs towards what was just measured.

        Args:
            rows: int64 `[B]`, no row twice.
            measured: float32 `[B]` in [0, 1].
            momentum: share of the old value that stays.

        Raises:
            DataError: a value outside [0, 1], as after a loss that is not finite.
        """
        _check(measured, first=0)
        self.values[rows] = momentum * self.values[rows] + (1.0 - momentum) * measured

    def chances(self, rows: NDArray[np.int64]) -> NDArray[np.float64]:
        """Chance of each row in a single draw, float64 `[B]`; their sum over the bank is 1."""
        pairs, floor = len(self.values), self.rule.floor_fraction
        starts = range(0, pairs, _CHUNK)
        total = sum(float(self._weight(self.values[at : at + _CHUNK]).sum()) for at in starts)
        if total == 0:
            return np.full(len(rows), 1.0 / pairs)
        return floor / pairs + (1.0 - floor) * self._weight(self.values[rows]) / total

    def draw(self, count: int, *, seed: int, step: int) -> NDArray[np.int64]:
        """Draws different pairs for one batch.

        Args:
            count: how many, at most the bank's pairs.
            seed: of the run.
            step: with the seed and the bank's values it determines the draw.

        Returns:
            Row numbers, int64 `[count]`, none twice.

        Raises:
            DataError: fewer pairs than that.
        """
        if count > len(self.values):
            raise DataError(f"a batch of {count} cannot be drawn from {len(self.values)} pairs")
        generator = np.random.default_rng([seed, step])
        drawn = np.empty(0, dtype=np.int64)
        for _ in range(_ROUNDS):
            rows = generator.integers(0, len(self.values), size=4 * count)
            uniform = generator.random(len(rows)) < self.rule.floor_fraction
            # Rejection: a row stays with its weight as the chance. Uniform draws must meet the same odds.
            odds = self._weight(self.values[rows])
            odds[uniform] = odds.mean()
            drawn = _first_times(np.concatenate([drawn, rows[generator.random(len(rows)) < odds]]))[:count]
            if len(drawn) == count:
                return drawn
        # Almost all weight lies on fewer pairs than a batch: uniform draws fill it.
        while len(drawn) < count:
            rows = generator.integers(0, len(self.values), size=4 * count)
            drawn = _first_times(np.concatenate([drawn, rows]))[:count]
        return drawn

    def _weight(self, values: NDArray[np.float32]) -> NDArray[np.float64]:
        raised: NDArray[np.float64] = values.astype(np.float64) ** self.rule.strength
        if self.rule.noise_fraction:
            raised[values > self.limit] = 0.0
        return raised


def _first_times(rows: NDArray[np.int64]) -> NDArray[np.int64]:
    return rows[np.sort(np.unique(rows, return_index=True)[1])]


def _check(values: NDArray[np.float32], *, first: int) -> None:
    wrong = ~((values >= 0.0) & (values <= 1.0))
    if wrong.any():
        row = int(wrong.argmax())
        raise DataError(f"difficulty of pair {first + row} is {values[row]}, expected 0 to 1")
