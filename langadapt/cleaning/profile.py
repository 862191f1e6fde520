"""What is learned from a corpus: length ratio, words of each column, alignment. Also language detection."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec

import numpy as np
from numpy.typing import NDArray

from langadapt.cleaning.alignment import Alignment, learn_alignment, learn_lexicon
from langadapt.cleaning.rules import CleaningRules
from langadapt.cleaning.words import ScriptShare, TokenRows, normalise_rows

LEAST_ROWS = 1000
"""From fewer rows nothing is learned."""

_LEAST_SEPARATION = 0.8
_RUN = 16
_MOST_ROWS = 40_000
_WORDS = 1 << 18
_MOST = 4.0
_CLEAR_PERCENT = 80


@dataclass(frozen=True, kw_only=True)
class SampleRow:
    """A row of the sample; `index` counts the rows of its source."""

    english: str
    target: str
    source: int
    index: int


class Sample:
    """Runs of neighbouring rows, spread evenly over a stream: when full, every second run goes."""

    def __init__(self) -> None:
        self._stride, self._seen = 1, 0
        self._runs: dict[int, list[SampleRow]] = {}

    def add(self, row: SampleRow) -> None:
        """Keep the row, or not."""
        run, self._seen = self._seen // _RUN, self._seen + 1
        if run % self._stride:
            return
        self._runs.setdefault(run, []).append(row)
        if len(self._runs) * _RUN > _MOST_ROWS:
            self._stride *= 2
            self._runs = {number: rows for number, rows in self._runs.items() if number % self._stride == 0}

    @property
    def rows(self) -> list[SampleRow]:
        """The kept rows in order."""
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
        """Return the robust standard deviations between each row's ratio and the usual one."""
        ratio = np.log(np.maximum(target, 1) / np.maximum(english, 1))
        return np.asarray(np.abs(ratio - self.median) * (english * target) ** 0.25 / self.spread)


@dataclass(frozen=True, kw_only=True, eq=False)
class Sides:
    """Hashed words: log-odds to be English, float32 `[2^18]`; whether a column has them, bool `[2, 2^18]`."""

    odds: NDArray[np.float32]
    known: NDArray[np.bool_]

    def english_odds(self, rows: TokenRows) -> NDArray[np.float32]:
        """Return the sum of each text's log-odds to stand in the English column."""
        return _sums(self.odds[rows.ids % _WORDS], rows)

    def known_share(self, rows: TokenRows, *, side: int) -> NDArray[np.float32]:
        """Return the share of each text's words that its column (0 English, 1 target) has elsewhere too."""
        found = self.known[side][rows.ids % _WORDS].astype(np.float32)
        return np.asarray(_sums(found, rows) / np.maximum(rows.lengths, 1), np.float32)


@dataclass(frozen=True, kw_only=True, eq=False)
class CorpusProfile:
    """Everything that is learned before rows are filtered; `off` says why a rule cannot run."""

    ratios: Mapping[int, LengthRatio]
    sides: Sides | None
    alignment: Alignment | None
    separation: float | None
    off: Mapping[str, str]


def learn_profile(rows: Sequence[SampleRow], scripts: Sequence[str], rules: CleaningRules) -> CorpusProfile:
    """Learn from a sample, in order; rows in a wrong script (`scripts`: ISO 15924), empty ones and copies
    are left out first."""
    pairs = normalise_rows([row.english for row in rows], [row.target for row in rows], rules)
    own, latin = ScriptShare(scripts=scripts), ScriptShare(scripts=["Latn"])
    kept = np.flatnonzero(
        [
            bool(a and b) and a != b and latin(a) >= 0.5 and own(b) >= 0.5
            for a, b in zip(pairs.english.words, pairs.target.words, strict=True)
        ]
    )
    english, target = pairs.english.take(kept), pairs.target.take(kept)
    source, index = np.array([(row.source, row.index) for row in rows], np.int64).reshape(-1, 2)[kept].T
    characters = np.stack([english.characters, target.characters])
    ratios = {
        int(number): _length_ratio(characters[:, source == number])
        for number in np.unique(source)
        if (source == number).sum() >= LEAST_ROWS // 10
    }
    if len(kept) < LEAST_ROWS:
        few = f"learned from at least {LEAST_ROWS:,} good rows, the sample has {len(kept):,}"
        off = {"misaligned": few, "swapped": f"without another script it is {few}"}
        return CorpusProfile(ratios=ratios, sides=None, alignment=None, separation=None, off=off)
    # Three of four runs teach the lexicon, the fourth the weights.
    teaches = index // _RUN % 4 != 0
    taught, rest = np.flatnonzero(teaches), np.flatnonzero(~teaches)
    lexicon = learn_lexicon(english.tokens.take(taught), target.tokens.take(taught))
    follows = np.append((np.diff(index[rest]) == 1) & (np.diff(source[rest]) == 0), False)
    alignment = learn_alignment(lexicon, english.take(rest), target.take(rest), follows)
    off = {}
    if alignment.separation < _LEAST_SEPARATION:
        off["misaligned"] = (
            f"pairs and neighbours cannot be told apart in this corpus: area {alignment.separation:.2f} "
            f"under the curve, {_LEAST_SEPARATION} needed"
        )
    return CorpusProfile(
        ratios=ratios,
        sides=_learn_sides(english.tokens, target.tokens),
        alignment=None if off else alignment,
        separation=alignment.separation,
        off=off,
    )


def _length_ratio(characters: NDArray[np.float64]) -> LengthRatio:
    ratio = np.log(characters[1] / characters[0])
    median = float(np.median(ratio))
    spread = np.median(np.abs(ratio - median) * (characters[0] * characters[1]) ** 0.25) * 1.4826
    return LengthRatio(median=median, spread=max(float(spread), 0.1))


def _learn_sides(english: TokenRows, target: TokenRows) -> Sides:
    """Count words by column; no list of languages is needed, only that most rows are not swapped."""
    counts = np.stack([np.bincount(side.ids % _WORDS, minlength=_WORDS) for side in (english, target)])
    shares = (counts + 0.5) / (counts.sum(axis=1, keepdims=True) + 1.0)
    odds = np.clip(np.log(shares[0] / shares[1]), -_MOST, _MOST)
    # A word that was met once or twice has no usual column; and what one row in 2,000 holds may be another
    # language's.
    odds[counts.sum(axis=0) < 3] = 0
    return Sides(odds=odds.astype(np.float32), known=counts >= max(3, len(english) // 2000))


def clearly(odds: NDArray[np.float32], lengths: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Tell which texts clearly belong to a column, from their log-odds and numbers of words, `[R]` each."""
    return (odds > 4.0) & (odds > 0.8 * lengths)


def _sums(values: NDArray[np.float32], rows: TokenRows) -> NDArray[np.float32]:
    sums = np.zeros(len(values) + 1, np.float64)
    np.cumsum(values, out=sums[1:])
    return (sums[rows.offsets[1:]] - sums[rows.offsets[:-1]]).astype(np.float32)


# ISO 639 codes that CLD2 writes in its own way, and what it cannot tell apart.
_ALIASES = {"he": ("iw",), "jv": ("jw",), "nb": ("no",), "zh": ("zh-Hant",), "fil": ("tl",), "ckb": ("ku",)}

_TWINS = (
    "no nn da", "id ms", "hr sr bs", "cs sk", "en sco", "zu xh ss nr", "tn st nso", "rw rn", "zh zh-Hant ja",
)  # fmt: skip


@cache
def identifier(*codes: str) -> Callable[[str], bool] | str:
    """Return what says whether a text is clearly in another language than that with these ISO 639 codes.

    The shortest code comes first. Return the reason where there is no such thing.
    """
    if find_spec("pycld2") is None:
        return "pycld2 is not installed; `pip install langadapt[clean]` brings it"
    import pycld2

    known = {code for name, code in pycld2.LANGUAGES if name in pycld2.DETECTED_LANGUAGES}
    written = [name for code in codes for name in (code, *_ALIASES.get(code, ()))]
    own = [name for name in written if name in known]
    if not own:
        return f"CLD2 does not know {codes[0]}"
    accepted = set(own).union(*(line.split() for line in _TWINS if not set(own).isdisjoint(line.split())))

    def is_foreign(text: str) -> bool:
        try:
            # The hint makes it expect the language: what it still calls another one is one.
            reliable, _, found = pycld2.detect(text, bestEffort=True, hintLanguage=own[0])
        except pycld2.error:
            return False
        name, percent = found[0][1], found[0][2]
        clear = reliable and percent >= _CLEAR_PERCENT and name and name != "un"
        return bool(clear and not any(item[1] in accepted for item in found))

    return is_foreign
