"""Filter of one chunk of neighbouring rows: every rule that needs no other chunk."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from langadapt.cleaning.alignment import slipped_rows
from langadapt.cleaning.contamination import SideIndex, leaked_exactly, nearest_caption
from langadapt.cleaning.profile import CorpusProfile, clearly, identifier
from langadapt.cleaning.rules import CODES, EXAMPLES, CleaningRules
from langadapt.cleaning.words import NormalisedRows, ScriptShare, Side, fold_key, normalise_rows

Mask = NDArray[np.bool_]


@dataclass(frozen=True, kw_only=True, eq=False)
class FilteredRows:
    """A chunk's normalised rows and what became of them."""

    english: Side
    target: Side
    verdicts: NDArray[np.uint8]
    """`[R]`, 0 kept, else the number of the rule that dropped the row."""
    leaks: Mask
    """`[R]`, whether a side is a test caption's."""
    normalised: dict[str, int]
    examples: dict[str, tuple[int, ...]]
    """The first rows that each normalising rule changed."""


@dataclass(frozen=True, kw_only=True, eq=False)
class RowFilter:
    """The rules, and what was learned for them."""

    codes: tuple[str, ...]
    """ISO 639 codes of the target language."""
    scripts: tuple[str, ...]
    rules: CleaningRules
    profile: CorpusProfile
    tests: tuple[SideIndex, SideIndex] | None
    """Test captions, English first; None leaves contamination unchecked."""

    def __call__(self, english: Sequence[str], target: Sequence[str], source: int) -> FilteredRows:
        """Filter neighbouring rows of one source, given by its number."""
        rules = self.rules
        pairs = normalise_rows(english, target, rules)
        verdicts = np.zeros(len(english), np.uint8)

        def drop(rule: str, rows: Mask) -> None:
            if rules.runs(rule):
                verdicts[rows & (verdicts == 0)] = CODES[rule]

        drop("empty", np.asarray((pairs.english.tokens.lengths == 0) | (pairs.target.tokens.lengths == 0)))
        drop("length", _bad_length(pairs.english, rules) | _bad_length(pairs.target, rules))
        words = zip(pairs.english.words, pairs.target.words, strict=True)
        drop("copy", np.array(["".join(a) == "".join(b) for a, b in words], bool))
        sides = zip(self._shares, (pairs.english, pairs.target), strict=True)
        shares = np.array([[share(words) for words in side.words] for share, side in sides])
        swapped = self._swapped(pairs, shares) & (verdicts == 0)
        counts, examples = dict(pairs.counts), dict(pairs.examples)
        if rules.swapped == "exchange" and rules.runs("swapped_exchanged") and rules.runs("swapped"):
            counts["swapped_exchanged"] = int(swapped.sum())
            examples["swapped_exchanged"] = tuple(np.flatnonzero(swapped)[:EXAMPLES].tolist())
            pairs = pairs.exchange(swapped)
            shares = np.where(swapped, 1.0, shares)
        else:
            drop("swapped", swapped)
        drop("script", np.asarray((shares < rules.script_share).any(axis=0)))
        if rules.runs("language"):
            drop("language", self._foreign(pairs, verdicts == 0))
        ratio = self.profile.ratios.get(source)
        if ratio is not None:
            far = ratio.far(pairs.english.characters, pairs.target.characters)
            drop("length_ratio", far > rules.ratio_spread)
        if rules.runs("misaligned"):
            drop("misaligned", self._slipped(pairs, verdicts == 0))
        return FilteredRows(
            english=pairs.english,
            target=pairs.target,
            leaks=self._leaks(pairs, drop),
            verdicts=verdicts,
            normalised=counts,
            examples=examples,
        )

    def off(self, *, judged: bool) -> dict[str, str]:
        """Return the rules that do not run, with the reason; `judged`: a model judges the agreement."""
        rules = self.rules
        off = dict(self.profile.off)
        missing = {"English": identifier("en"), "the target": identifier(*self.codes)}
        if all(isinstance(reason, str) for reason in missing.values()) and self.profile.sides is None:
            off["language"] = "; ".join(f"{side}: {reason}" for side, reason in missing.items())
        contaminated = ("contaminated", "contaminated_near")
        if self.tests is None:
            off |= dict.fromkeys(contaminated, "no test captions: contamination is unchecked")
        elif rules.keep_contaminated:
            off |= dict.fromkeys(contaminated, "found rows are kept, as asked")
        if not judged:
            off["disagreement"] = "no model was named to judge it"
        if rules.near_share == 0:
            off["near_duplicate"] = "near_share is 0"
        if rules.swapped == "exchange":
            off["swapped"] = "swapped rows are exchanged"
        else:
            off["swapped_exchanged"] = "swapped rows are dropped"
        return {**off, **dict.fromkeys(rules.off, "turned off")}

    def notes(self) -> list[str]:
        """Return what a rule does only in part."""
        notes = []
        judge = "nobody judges" if self.profile.sides is None else "only the corpus' own words judge"
        for side, codes in (("English", ("en",)), ("target", self.codes)):
            if isinstance(missing := identifier(*codes), str):
                notes.append(f"language, {side} side: {judge} ({missing})")
        if (area := self.profile.separation) is not None:
            notes.append(f"misaligned: pairs and neighbours are told apart with an area of {area:.3f}")
        return notes

    @cached_property
    def _shares(self) -> tuple[ScriptShare, ScriptShare]:
        """Of Latin, and of the language's own scripts."""
        return ScriptShare(scripts=["Latn"]), ScriptShare(scripts=self.scripts)

    def _swapped(self, pairs: NormalisedRows, shares: NDArray[np.float64]) -> Mask:
        found = np.zeros(len(pairs.english), bool)
        latin, own = self._shares
        for row in np.flatnonzero((shares < 0.5).all(axis=0)).tolist():
            found[row] = own(pairs.english.words[row]) >= 0.5 and latin(pairs.target.words[row]) >= 0.5
        if self.profile.sides is not None and "Latn" in self.scripts:
            found |= np.logical_and(*self._reads_like_the_other(pairs))
        return found

    def _reads_like_the_other(self, pairs: NormalisedRows) -> tuple[Mask, Mask]:
        """Return which English sides read like the target column, and which target sides like English."""
        sides, english, target = self.profile.sides, pairs.english.tokens, pairs.target.tokens
        assert sides is not None
        english_odds, target_odds = sides.english_odds(english), sides.english_odds(target)
        return clearly(-english_odds, english.lengths), clearly(target_odds, target.lengths)

    def _foreign(self, pairs: NormalisedRows, alive: Mask) -> Mask:
        sides = self.profile.sides
        found = np.zeros(len(alive), bool)
        if sides is not None:
            found = np.logical_or(*self._reads_like_the_other(pairs))
        both = (pairs.english, ("en",)), (pairs.target, self.codes)
        for number, (side, codes) in enumerate(both):
            if isinstance(is_foreign := identifier(*codes), str):
                continue
            doubtful = alive & ~found
            if sides is not None:
                doubtful &= sides.known_share(side.tokens, side=number) < self.rules.known_share
            for row in np.flatnonzero(doubtful).tolist():
                found[row] = is_foreign(side.texts[row])
        return found

    def _slipped(self, pairs: NormalisedRows, alive: Mask) -> Mask:
        alignment = self.profile.alignment
        if alignment is None:
            return np.zeros(len(alive), bool)

        def evidence(rows: NDArray[np.int64], partners: NDArray[np.int64]) -> NDArray[np.float64]:
            return alignment.evidence(pairs.english.take(rows), pairs.target.take(partners))

        return slipped_rows(evidence, alive, alignment.doubtful)

    def _leaks(self, pairs: NormalisedRows, drop: Callable[[str, Mask], None]) -> Mask:
        rules = self.rules
        exact = np.zeros(len(pairs.english), bool)
        if self.tests is None:
            return exact
        near = []
        for index, side in zip(self.tests, (pairs.english, pairs.target), strict=True):
            keys = np.array([fold_key(words) for words in side.words], np.uint64)
            exact |= leaked_exactly(index, keys, side.tokens.lengths)
            near.append(nearest_caption(index, side.tokens, rules.leak_share_both))
        close = (np.minimum(*near) <= rules.leak_share) | (np.maximum(*near) <= rules.leak_share_both)
        if not rules.keep_contaminated:
            drop("contaminated", exact)
            drop("contaminated_near", close)
        wanted = (rules.runs("contaminated"), rules.runs("contaminated_near"))
        return np.asarray((exact & wanted[0]) | (close & wanted[1]))


def _bad_length(side: Side, rules: CleaningRules) -> Mask:
    words = side.tokens.lengths
    return np.asarray(
        (words < rules.least_words) | (words > rules.most_words) | (side.characters > rules.most_characters)
    )
