"""One chunk of neighbouring rows of one source: every rule that needs no other chunk."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from langadapt.cleaning.alignment import slipped_rows
from langadapt.cleaning.contamination import TestIndex, leaked_exactly, nearest_caption
from langadapt.cleaning.profile import (
    CorpusProfile,
    NoIdentifier,
    english_target,
    foreign_english,
    identifier,
    swapped,
)
from langadapt.cleaning.report import CODES, CleaningRules
from langadapt.cleaning.words import Mended, ScriptShare, Side, TokenHash, exchanged, fold_key, mended_rows

Mask = NDArray[np.bool_]


@dataclass(frozen=True, kw_only=True, eq=False)
class Judge:
    """All that a chunk is judged by."""

    codes: tuple[str, ...]
    """ISO 639 codes of the target language."""
    scripts: tuple[str, ...]
    rules: CleaningRules
    profile: CorpusProfile
    tests: TestIndex | None


@dataclass(frozen=True, kw_only=True, eq=False)
class JudgedChunk:
    """A chunk's mended rows and their fate: `fate [R]` uint8, 0 kept; `leaks [R]` whether a side is a test
    caption's, `turned [R]` whether the sides stood in each other's column."""

    english: Side
    target: Side
    fate: NDArray[np.uint8]
    turned: Mask
    leaks: Mask
    mended: dict[str, int]
    mended_examples: dict[str, tuple[int, ...]]


@dataclass(kw_only=True)
class ChunkJudge:
    """Judges chunk after chunk; keeps what is costly to make."""

    judge: Judge
    hashes: TokenHash = field(default_factory=TokenHash)

    def __post_init__(self) -> None:
        self._latin = ScriptShare(scripts=["Latn"])
        self._own = ScriptShare(scripts=self.judge.scripts)
        self._identifiers = [identifier(["en"]), identifier(self.judge.codes)]

    def __call__(self, english: Sequence[str], target: Sequence[str], source: int) -> JudgedChunk:
        """Judges neighbouring rows of one source, given by its number."""
        rules = self.judge.rules
        mended = mended_rows(english, target, rules, self.hashes)
        fate = np.zeros(len(english), np.uint8)

        def drop(rule: str, rows: Mask) -> None:
            if rules.runs(rule):
                fate[rows & (fate == 0)] = CODES[rule]

        drop("empty", _empty(mended))
        drop("length", _bad_length(mended.english, rules) | _bad_length(mended.target, rules))
        drop("copy", _copies(mended))
        shares = self._script_shares(mended)
        turned = self._swapped(mended, shares) & (fate == 0)
        counts, examples = dict(mended.counts), dict(mended.examples)
        if rules.swapped == "mend" and rules.runs("swapped_mended") and rules.runs("swapped"):
            counts["swapped_mended"] = int(turned.sum())
            examples["swapped_mended"] = tuple(np.flatnonzero(turned)[:3].tolist())
            mended = exchanged(mended, turned)
            shares = np.where(turned, 1.0, shares)
        else:
            drop("swapped", turned)
        drop("script", np.asarray((shares < rules.script_share).any(axis=0)))
        drop(
            "language",
            self._foreign(mended, fate == 0) if rules.runs("language") else np.zeros(len(fate), bool),
        )
        ratio = self.judge.profile.ratios.get(source)
        if ratio is not None:
            drop(
                "length_ratio",
                ratio.far(mended.english.characters, mended.target.characters) > rules.ratio_spread,
            )
        drop("misaligned", self._slipped(mended, fate == 0))
        leaks = self._leaks(mended, drop)
        return JudgedChunk(
            english=mended.english,
            target=mended.target,
            fate=fate,
            turned=turned,
            leaks=leaks,
            mended=counts,
            mended_examples=examples,
        )

    def _script_shares(self, mended: Mended) -> NDArray[np.float64]:
        return np.array(
            [
                [self._latin(row) for row in mended.english.words],
                [self._own(row) for row in mended.target.words],
            ]
        )

    def _swapped(self, mended: Mended, shares: NDArray[np.float64]) -> Mask:
        found = np.zeros(len(mended.english), bool)
        for row in np.flatnonzero((shares < 0.5).all(axis=0)).tolist():
            english, target = mended.english.words[row], mended.target.words[row]
            found[row] = self._own(english) >= 0.5 and self._latin(target) >= 0.5
        sides = self.judge.profile.sides
        if sides is not None and "Latn" in self.judge.scripts:
            lengths = np.stack([mended.english.tokens.lengths, mended.target.tokens.lengths])
            odds = [sides.english_odds(side.tokens) for side in (mended.english, mended.target)]
            found |= swapped(odds[0], odds[1], lengths)
        return found

    def _foreign(self, mended: Mended, alive: Mask) -> Mask:
        sides, rules = self.judge.profile.sides, self.judge.rules
        found = np.zeros(len(alive), bool)
        pair = (mended.english, mended.target)
        if sides is not None:
            odds = [sides.english_odds(side.tokens) for side in pair]
            found |= foreign_english(odds[0], pair[0].tokens.lengths)
            found |= english_target(odds[1], pair[1].tokens.lengths)
        for number, (side, judge) in enumerate(zip(pair, self._identifiers, strict=True)):
            if isinstance(judge, NoIdentifier):
                continue
            doubtful = alive & ~found
            if sides is not None:
                doubtful &= sides.known_share(side.tokens, side=number) < rules.known_share
            for row in np.flatnonzero(doubtful).tolist():
                found[row] = bool(judge.other(side.texts[row]))
        return found

    def _slipped(self, mended: Mended, alive: Mask) -> Mask:
        profile = self.judge.profile
        alignment, lexicon = profile.alignment, profile.lexicon
        if alignment is None or lexicon is None or not self.judge.rules.runs("misaligned"):
            return np.zeros(len(alive), bool)
        characters = np.stack([mended.english.characters, mended.target.characters])
        english, target = mended.english.tokens, mended.target.tokens

        def evidence(rows: NDArray[np.int64], partners: NDArray[np.int64]) -> NDArray[np.float64]:
            chosen = np.stack([characters[0, rows], characters[1, partners]])
            return alignment.evidence(lexicon, english.take(rows), target.take(partners), chosen)

        return slipped_rows(evidence, alive, alignment.doubtful)

    def _leaks(self, mended: Mended, drop: Callable[[str, Mask], None]) -> Mask:
        tests, rules = self.judge.tests, self.judge.rules
        none = np.zeros(len(mended.english), bool)
        if tests is None:
            return none
        exact, near = none.copy(), []
        for index, side in zip(tests.sides, (mended.english, mended.target), strict=True):
            keys = np.array([fold_key(words) for words in side.words], np.uint64)
            exact |= leaked_exactly(index, keys, side.tokens.lengths)
            near.append(nearest_caption(index, side.tokens, rules.leak_share_both))
        close = (np.minimum(*near) <= rules.leak_share) | (np.maximum(*near) <= rules.leak_share_both)
        if not rules.keep_contaminated:
            drop("contaminated", exact)
            drop("contaminated_near", close)
        wanted = np.array([rules.runs("contaminated"), rules.runs("contaminated_near")])
        return np.asarray((exact & wanted[0]) | (close & wanted[1]))


def _empty(mended: Mended) -> Mask:
    return np.asarray((mended.english.tokens.lengths == 0) | (mended.target.tokens.lengths == 0))


def _bad_length(side: Side, rules: CleaningRules) -> Mask:
    words = side.tokens.lengths
    return np.asarray(
        (words < rules.least_words) | (words > rules.most_words) | (side.characters > rules.most_characters)
    )


def _copies(mended: Mended) -> Mask:
    pairs = zip(mended.english.words, mended.target.words, strict=True)
    return np.array(["".join(a) == "".join(b) for a, b in pairs], bool)
