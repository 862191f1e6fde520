"""What a corpus says about itself: usual length ratio, whose words stand in which column, which words
translate which."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from langadapt.data.cleaning.blocks import Alignment, learn_alignment
from langadapt.data.cleaning.fold import TokenHash
from langadapt.data.cleaning.lexicon import Lexicon, learn_lexicon
from langadapt.data.cleaning.rules import CleaningRules
from langadapt.data.cleaning.scripts import ScriptShare
from langadapt.data.cleaning.sides import Sides, learn_sides
from langadapt.data.cleaning.texts import mended_rows

LEAST_ROWS = 1000
"""From fewer rows nothing is learned."""
_LEAST_SEPARATION = 0.8
_RUN = 16
_MOST_ROWS = 40_000


@dataclass(frozen=True, kw_only=True)
class SampleRow:
    """A row of the sample and where it stands: `place` counts the rows of its source."""

    english: str
    target: str
    source: int
    place: int


class Sample:
    """Runs of neighbouring rows spread evenly over a stream of unknown length: when full, every second run
    goes."""

    def __init__(self, *, most_rows: int = _MOST_ROWS) -> None:
        self._most, self._stride, self._seen = most_rows, 1, 0
        self._runs: dict[int, list[SampleRow]] = {}

    def see(self, row: SampleRow) -> None:
        """Takes the row or leaves it."""
        run, self._seen = self._seen // _RUN, self._seen + 1
        if run % self._stride:
            return
        self._runs.setdefault(run, []).append(row)
        if len(self._runs) * _RUN > self._most:
            self._stride *= 2
            self._runs = {number: rows for number, rows in self._runs.items() if number % self._stride == 0}

    @property
    def rows(self) -> list[SampleRow]:
        """What was kept, in order."""
        return [row for run in self._runs.values() for row in run]


@dataclass(frozen=True, kw_only=True)
class LengthRatio:
    """Median of log(target characters / English characters) of a source, and its spread at length 1.

    The spread of the log ratio falls with the root of the (geometric mean) length (Gale and Church, 1993),
    and both are learned, because a constant for Chinese would be wrong for German and one for captions wrong
    for news.
    """

    median: float
    spread: float

    def far(self, english: NDArray[np.float64], target: NDArray[np.float64]) -> NDArray[np.float64]:
        """Robust standard deviations between each row's ratio and the usual one."""
        ratio = np.log(np.maximum(target, 1) / np.maximum(english, 1))
        return np.asarray(np.abs(ratio - self.median) * (english * target) ** 0.25 / self.spread)


@dataclass(frozen=True, kw_only=True, eq=False)
class CorpusProfile:
    """Everything that is learned before the rows are judged; `off` says why a rule cannot run."""

    ratios: Mapping[int, LengthRatio]
    sides: Sides | None
    lexicon: Lexicon | None
    alignment: Alignment | None
    separation: float | None
    off: Mapping[str, str]


def learn_profile(rows: Sequence[SampleRow], scripts: Sequence[str], rules: CleaningRules) -> CorpusProfile:
    """Learns from a sample; rows in a wrong script, empty ones and copies are left out first.

    Args:
        rows: the sample, in order.
        scripts: ISO 15924 codes of the target language.
        rules: limits; part of the mending.
    """
    mended = mended_rows([row.english for row in rows], [row.target for row in rows], rules, TokenHash())
    english, target = mended.english, mended.target
    own, latin = ScriptShare(scripts=scripts), ScriptShare(scripts=["Latn"])
    good = np.array(
        [
            bool(a and b) and a != b and latin(a) >= 0.5 and own(b) >= 0.5
            for a, b in zip(english.words, target.words, strict=True)
        ],
        bool,
    )
    kept = np.flatnonzero(good)
    characters = np.stack([english.characters, target.characters])[:, kept]
    source = np.array([row.source for row in rows], np.int64)[kept]
    ratios = {
        int(number): _length_ratio(characters[:, source == number])
        for number in np.unique(source)
        if (source == number).sum() >= LEAST_ROWS // 10
    }
    few = f"learned from at least {LEAST_ROWS:,} good rows, the sample has {len(kept):,}"
    if len(kept) < LEAST_ROWS:
        return CorpusProfile(
            ratios=ratios, sides=None, lexicon=None, alignment=None, separation=None,
            off={"misaligned": few, "swapped": f"without another script it is {few}"},
        )  # fmt: skip
    e, t = english.tokens.take(kept), target.tokens.take(kept)
    place = np.array([row.place for row in rows], np.int64)[kept]
    # Three of four runs teach the lexicon, the fourth the weights.
    teaches = place // _RUN % 4 != 0
    rest = np.flatnonzero(~teaches)
    lexicon = learn_lexicon(e.take(np.flatnonzero(teaches)), t.take(np.flatnonzero(teaches)))
    follows = np.append((np.diff(place[rest]) == 1) & (np.diff(source[rest]) == 0), False)
    learned = learn_alignment(lexicon, e.take(rest), t.take(rest), characters[:, rest], follows)
    off = {}
    if learned.separation < _LEAST_SEPARATION:
        off["misaligned"] = (
            f"pairs and neighbours cannot be told apart in this corpus: area {learned.separation:.2f} under "
            f"the curve, {_LEAST_SEPARATION} needed"
        )
    return CorpusProfile(
        ratios=ratios,
        sides=learn_sides(e, t),
        lexicon=None if off else lexicon,
        alignment=None if off else learned.alignment,
        separation=learned.separation,
        off=off,
    )


def _length_ratio(characters: NDArray[np.float64]) -> LengthRatio:
    ratio = np.log(characters[1] / characters[0])
    median = float(np.median(ratio))
    spread = np.median(np.abs(ratio - median) * (characters[0] * characters[1]) ** 0.25) * 1.4826
    return LengthRatio(median=median, spread=max(float(spread), 0.1))
