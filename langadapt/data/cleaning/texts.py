"""Rows as the rules see them: mended, as words, as numbers."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from langadapt.data.cleaning.fold import TokenHash, TokenRows, fold_tokens, join_rows, token_rows
from langadapt.data.cleaning.mend import MENDS
from langadapt.data.cleaning.rules import CleaningRules


@dataclass(frozen=True, kw_only=True, eq=False)
class Side:
    """One side of some rows: mended texts, their words, and the words as numbers."""

    texts: Sequence[str]
    words: Sequence[list[str]]
    tokens: TokenRows

    def __len__(self) -> int:
        return len(self.texts)

    @property
    def characters(self) -> NDArray[np.float64]:
        """Length of each text."""
        return np.fromiter(map(len, self.texts), np.float64, len(self.texts))


@dataclass(frozen=True, kw_only=True, eq=False)
class Mended:
    """Both sides, and how many rows each mending rule changed."""

    english: Side
    target: Side
    counts: Mapping[str, int]
    examples: Mapping[str, tuple[int, ...]]
    """The first rows that each mending rule changed."""


def mended_rows(
    english: Sequence[str], target: Sequence[str], rules: CleaningRules, hashes: TokenHash, *, shown: int = 3
) -> Mended:
    """Mends texts and takes them apart.

    Args:
        english: raw English sides.
        target: raw target sides.
        rules: which mending rules run.
        hashes: word numbers, kept from call to call.
        shown: examples for each rule.
    """
    active = [(name, mend) for name, mend in MENDS.items() if rules.runs(name)]
    changed: dict[str, set[int]] = {}
    out: tuple[list[str], list[str]] = ([], [])
    for row, pair in enumerate(zip(english, target, strict=True)):
        for side, text in enumerate(pair):
            new = text
            for name, mend in active:
                old, new = new, mend(new)
                if new != old:
                    changed.setdefault(name, set()).add(row)
            out[side].append(new)
    return Mended(
        english=side_of(out[0], hashes),
        target=side_of(out[1], hashes),
        counts={name: len(rows) for name, rows in changed.items()},
        examples={name: tuple(sorted(rows)[:shown]) for name, rows in changed.items()},
    )


def side_of(texts: Sequence[str], hashes: TokenHash) -> Side:
    """Texts with their words and numbers."""
    words = [fold_tokens(text) for text in texts]
    return Side(texts=texts, words=words, tokens=token_rows(words, hashes))


def exchanged(mended: Mended, rows: NDArray[np.bool_]) -> Mended:
    """The same rows with the sides of some of them exchanged."""
    if not rows.any():
        return mended
    count = len(mended.english)
    both = join_rows([mended.english.tokens, mended.target.tokens])
    own, other = np.arange(count), np.arange(count) + count
    texts = [*mended.english.texts, *mended.target.texts]
    words = [*mended.english.words, *mended.target.words]

    def side(places: NDArray[np.int64]) -> Side:
        chosen = places.tolist()
        return Side(
            texts=[texts[i] for i in chosen], words=[words[i] for i in chosen], tokens=both.take(places)
        )

    return replace(mended, english=side(np.where(rows, other, own)), target=side(np.where(rows, own, other)))
