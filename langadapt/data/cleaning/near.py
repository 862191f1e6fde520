"""Pairs of texts that differ by few words: candidates from shared segments, then the exact edit distance.

MinHash is not used: captions are short and alike. At the similarity of two changed words in a pair of
eight-word sentences (Jaccard 0.78) its bands either miss or let through most pairs that only share "a man in
a". Two edits, however, leave at least two of four half sentences untouched, so equal halves find every such
pair, and the distance decides exactly.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from langadapt.data.cleaning.fold import TokenRows

U64 = NDArray[np.uint64]
I64 = NDArray[np.int64]
_LADDER = np.array([1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64, 96, 128], np.int64)
_ODD = 0x9E3779B97F4A7C15
_GROUP_WINDOW = 1000


@dataclass(frozen=True, kw_only=True, eq=False)
class Segments:
    """Hashes of one side's parts: `parts [variants, parts, R]`; `valid [variants, R]`; `bags [2, R]` bit sets
    of its tokens.

    Two texts of nearly equal length share at least one variant, in which their parts are cut at the same
    places.
    """

    parts: U64
    valid: NDArray[np.bool_]
    bags: U64


def segments(rows: TokenRows, *, thirds: bool) -> Segments:
    """Cuts texts into first and last half (or first, second and last third).

    Args:
        rows: tokens of the texts.
        thirds: three parts instead of two.
    """
    lengths = rows.lengths
    share = 3 if thirds else 2
    powers = _powers(int(lengths.max(initial=1)) + 1)
    position = np.arange(len(rows.ids)) - np.repeat(rows.offsets[:-1], lengths)
    spread = mix(rows.ids.astype(np.uint64))
    sums = np.zeros(len(rows.ids) + 1, np.uint64)
    np.cumsum(spread * powers[0][position], out=sums[1:])

    def part(first: I64, size: I64) -> U64:
        start = rows.offsets[:-1] + first
        value = (sums[start + size] - sums[start]) * powers[1][first]
        return mix(value + size.astype(np.uint64) * np.uint64(_ODD))

    sizes = [_step(lengths // share), _step(np.maximum(lengths - 2, 0) // share)]
    parts = []
    for size in sizes:
        own = [part(np.zeros_like(size), size), part(lengths - size, size)]
        parts.append([own[0], part(size, size), own[1]] if thirds else own)
    return Segments(
        parts=np.array(parts, np.uint64),
        valid=np.array([sizes[0] > 0, (sizes[1] > 0) & (sizes[1] != sizes[0])]),
        bags=bags(rows),
    )


def bags(rows: TokenRows) -> U64:
    """For each text the set of its tokens as 128 bits, uint64 `[2, R]`: one edit changes at most two bits."""
    if not len(rows.ids):
        return np.zeros((2, len(rows)), np.uint64)
    spread = mix(rows.ids.astype(np.uint64))
    bit = np.left_shift(np.uint64(1), spread & np.uint64(63))
    upper = (spread & np.uint64(64)).astype(bool)
    start = np.minimum(rows.offsets[:-1], len(rows.ids) - 1)
    found = np.array(
        [np.bitwise_or.reduceat(np.where(side, bit, np.uint64(0)), start) for side in (~upper, upper)]
    )
    found[:, rows.lengths == 0] = 0
    return found


def group_pairs(keys: U64, window: int = _GROUP_WINDOW) -> Iterator[tuple[I64, I64]]:
    """Pairs of places that hold equal keys, the earlier one second.

    Args:
        keys: uint64 `[R]`.
        window: in a group of equal keys each place meets at most so many before it.
    """
    order = np.argsort(keys, kind="stable")
    ordered = keys[order]
    new = np.ones(len(keys), bool)
    new[1:] = ordered[1:] != ordered[:-1]
    first = np.maximum.accumulate(np.where(new, np.arange(len(keys)), 0))
    behind = np.arange(len(keys)) - first
    places = np.flatnonzero(behind)
    for distance in range(1, window + 1):
        places = places[behind[places] >= distance]
        if not len(places):
            return
        yield order[places], order[places - distance]


def edits_within(one: Sequence[int], other: Sequence[int], most: int) -> int:
    """Insertions, deletions and substitutions that turn one row of tokens into the other; `most + 1` if more.

    Example:
        >>> edits_within([1, 2, 3], [1, 9, 3, 4], 2)
        2
    """
    start, end_one, end_other = 0, len(one), len(other)
    while start < end_one and start < end_other and one[start] == other[start]:
        start += 1
    while end_one > start and end_other > start and one[end_one - 1] == other[end_other - 1]:
        end_one, end_other = end_one - 1, end_other - 1
    one, other = one[start:end_one], other[start:end_other]
    if abs(len(one) - len(other)) > most:
        return most + 1
    row = list(range(len(other) + 1))
    for number, token in enumerate(one, start=1):
        diagonal, row[0] = row[0], number
        for place, found in enumerate(other, start=1):
            diagonal, row[place] = (
                row[place],
                min(diagonal + (token != found), row[place] + 1, row[place - 1] + 1),
            )
        if min(row) > most:
            return most + 1
    return min(row[-1], most + 1)


def mix(values: U64) -> U64:
    """Spreads 64-bit numbers evenly (the finisher of splitmix64)."""
    values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return values ^ (values >> np.uint64(31))


def _step(sizes: I64) -> I64:
    """The largest step of the ladder that is not above each size; 0 below the first."""
    place = np.searchsorted(_LADDER, sizes, side="right")
    return np.where(place > 0, _LADDER[np.maximum(place - 1, 0)], 0)


def _powers(count: int) -> U64:
    """Powers of an odd number and of its inverse modulo 2^64: `[2, count]`."""
    both = np.ones((2, count), np.uint64)
    for row, base in enumerate((_ODD, pow(_ODD, -1, 1 << 64))):
        both[row, 1:] = np.cumprod(np.full(count - 1, base, np.uint64))
    return both
