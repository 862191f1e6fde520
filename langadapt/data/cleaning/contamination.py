"""Training text against the captions of test sets: equal ones, and those that differ by a word or two."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from langadapt.data.cleaning.fold import TokenHash, TokenRows, fold_key, fold_tokens, token_rows
from langadapt.data.cleaning.near import bags, edits_within, mix, segments

I64 = NDArray[np.int64]
U64 = NDArray[np.uint64]
SHORTEST = 3
"""Captions of fewer words are compared with nothing: `dogs` is no leak."""


@dataclass(frozen=True, kw_only=True)
class Captions:
    """One side of a test set's captions: `english` or in the language."""

    set_name: str
    english: bool
    texts: Sequence[str]


@dataclass(frozen=True, kw_only=True, eq=False)
class SideIndex:
    """One side of all test sets, made for looking up: sorted keys of whole captions and of their thirds."""

    keys: U64
    tokens: TokenRows
    bags: U64
    parts: tuple[tuple[U64, I64], ...]
    """For each variant and third: sorted hashes and the captions that they belong to."""


@dataclass(frozen=True, kw_only=True, eq=False)
class TestIndex:
    """Both sides, English first, and how many captions of which set they hold."""

    __test__ = False
    sides: tuple[SideIndex, SideIndex]
    sets: Mapping[str, int]


def index_captions(captions: Sequence[Captions]) -> TestIndex:
    """Prepares the captions of all test sets for `leaked`."""
    hashes = TokenHash()
    sides = []
    for english in (True, False):
        texts = sorted({text for item in captions if item.english is english for text in item.texts})
        words = [fold_tokens(text) for text in texts]
        kept = [number for number, row in enumerate(words) if len(row) >= SHORTEST]
        tokens = token_rows((words[number] for number in kept), hashes)
        keys = np.unique(np.array([fold_key(words[number]) for number in kept], np.uint64))
        sides.append(
            SideIndex(keys=keys, tokens=tokens, bags=bags(tokens), parts=tuple(_sorted_parts(tokens)))
        )
    sets: dict[str, int] = {}
    for item in captions:
        sets[item.set_name] = sets.get(item.set_name, 0) + len(item.texts)
    return TestIndex(sides=(sides[0], sides[1]), sets=sets)


def leaked_exactly(index: SideIndex, keys: U64, lengths: I64) -> NDArray[np.bool_]:
    """Texts that equal a caption but for case, punctuation and white space.

    Args:
        index: one side of the test sets.
        keys: `fold_key` of each text, `[R]`.
        lengths: words of each text, `[R]`.
    """
    place = np.minimum(np.searchsorted(index.keys, keys), max(len(index.keys) - 1, 0))
    return (
        (index.keys[place] == keys) & (lengths >= SHORTEST) if len(index.keys) else np.zeros(len(keys), bool)
    )


def nearest_caption(index: SideIndex, rows: TokenRows, most_share: float) -> NDArray[np.float32]:
    """How much of each text must change to make a caption of it: edits by words of the longer one, `[R]`; inf
    if more.

    Args:
        index: one side of the test sets.
        rows: tokens of the texts.
        most_share: of words that may be inserted, deleted or substituted; below 1/3 nothing is missed but a
        text whose both
            ends changed their lengths.
    """
    found = np.full(len(rows), np.inf, np.float32)
    if not len(index.tokens) or not len(rows):
        return found
    own = bags(rows)
    for text, caption in _candidates(index, rows):
        longer = np.maximum(rows.lengths[text], index.tokens.lengths[caption])
        most = np.floor(most_share * longer).astype(np.int64)
        apart = sum(
            np.bitwise_count(own[half][text] ^ index.bags[half][caption]).astype(np.int64) for half in (0, 1)
        )
        for number in np.flatnonzero((most > 0) & (apart <= 2 * most)).tolist():
            row, other, limit = int(text[number]), int(caption[number]), int(most[number])
            edits = edits_within(rows.row(row).tolist(), index.tokens.row(other).tolist(), limit)
            if edits <= limit:
                found[row] = min(found[row], edits / int(longer[number]))
    return found


def _sorted_parts(rows: TokenRows) -> Iterator[tuple[U64, I64]]:
    cut = segments(rows, thirds=True)
    for variant in range(2):
        captions = np.flatnonzero(cut.valid[variant])
        for part in range(3):
            keys = mix(cut.parts[variant, part][captions] + np.uint64(part))
            order = np.argsort(keys, kind="stable")
            yield keys[order], captions[order]


def _candidates(index: SideIndex, rows: TokenRows) -> Iterator[tuple[I64, I64]]:
    """Texts and captions that share a third; each variant of a text meets both of the captions."""
    for number, (keys, texts) in enumerate(_sorted_parts(rows)):
        for variant in range(2):
            known, captions = index.parts[3 * variant + number % 3]
            low = np.searchsorted(known, keys, side="left")
            many = np.searchsorted(known, keys, side="right") - low
            for start in range(0, len(keys), 2000):
                few = slice(start, start + 2000)
                text = np.repeat(texts[few], many[few])
                first = np.repeat(low[few] - (np.cumsum(many[few]) - many[few]), many[few])
                if len(text):
                    yield text, captions[first + np.arange(len(text))]
