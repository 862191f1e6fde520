"""Duplicate rows: equal to an earlier one but for case and punctuation, or within few words of it."""

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from langadapt.cleaning.words import Side, TokenRows, hash64
from langadapt.errors import Progress, Report

I64 = NDArray[np.int64]
U64 = NDArray[np.uint64]

_LONG = 9
"""From so many words on both sides three edits are possible, and thirds are compared too."""

_AT_ONCE = 4_000_000
"""Keys that are sorted together; more are shared out by their value."""

_LADDER = np.array([1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64, 96, 128], np.int64)
_ODD = 0x9E3779B97F4A7C15
_GROUP_WINDOW = 1000

HALVES, THIRDS = 4, 6
PARTS = 2 * (HALVES + THIRDS)
"""Hashes of a row's parts: English halves and thirds (two variants each), then the target's."""


def bags(rows: TokenRows) -> U64:
    """Return each text's set of tokens as 128 bits, uint64 `[2, R]`: one edit changes at most two bits."""
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


def bags_near(one: U64, rows: I64, other: U64, others: I64, edits: I64) -> NDArray[np.bool_]:
    """Tell which pairs of a column of `one` and one of `other` may lie within so many edits, above 0."""
    apart = np.zeros(len(rows), np.int64)
    for bag, other_bag in zip(one, other, strict=True):
        apart += np.bitwise_count(bag[rows] ^ other_bag[others])
    return (edits > 0) & (apart <= 2 * edits)


@dataclass(frozen=True, kw_only=True, eq=False)
class PairFeatures:
    """What rows are compared by; arrays in memory or mapped: `keys [R]`, `parts [20, R]`, `bags [4, R]`
    uint64."""

    keys: U64
    parts: U64
    bags: U64
    english: TokenRows
    target: TokenRows

    def __len__(self) -> int:
        return len(self.keys)


@dataclass(frozen=True, kw_only=True, eq=False)
class Duplicates:
    """For each row the earlier row that it repeats, int64 `[R]`, -1 for none."""

    exact: I64
    near: I64


def pair_features(english: Side, target: Side) -> PairFeatures:
    """Compute the features of some rows."""
    sides = [(side.tokens, thirds) for side in (english, target) for thirds in (False, True)]
    parts = [variant for tokens, thirds in sides for variant in segments(tokens, thirds=thirds)]
    words = zip(english.words, target.words, strict=True)
    keys = [hash64("".join(own) + "\t" + "".join(other)) for own, other in words]
    return PairFeatures(
        keys=np.array(keys, np.uint64),
        parts=np.concatenate(parts),
        bags=np.concatenate([bags(english.tokens), bags(target.tokens)]),
        english=english.tokens,
        target=target.tokens,
    )


def find_duplicates(features: PairFeatures, near_share: float, report: Report) -> Duplicates:
    """Find rows that repeat an earlier row which is itself kept.

    A near duplicate may differ in `near_share` of the words of both sides; 0 looks for none.
    """
    exact = np.full(len(features), -1, np.int64)
    for places in _shares(np.asarray(features.keys)):
        keys = np.asarray(features.keys[places])
        _, first, back = np.unique(keys, return_index=True, return_inverse=True)
        origin = places[first[back]]
        exact[places] = np.where(origin < places, origin, -1)
    near = np.full(len(features), -1, np.int64)
    if near_share > 0 and len(features):
        for row, other in _near_pairs(features, exact < 0, near_share, report):
            if near[other] < 0 and near[row] < 0:
                near[row] = other
    return Duplicates(exact=exact, near=near)


def _near_pairs(
    features: PairFeatures, alive: NDArray[np.bool_], share: float, report: Report
) -> Iterator[tuple[int, int]]:
    """Yield pairs within the share of edits, sorted: the later row, then the earlier one."""
    lengths = (features.english.lengths, features.target.lengths)
    total, long = lengths[0] + lengths[1], (lengths[0] >= _LONG) & (lengths[1] >= _LONG)
    codes: list[U64] = []
    columns = [*((places, alive) for places in _HALVES), *((places, alive & long) for places in _THIRDS)]
    for number, (places, wanted) in enumerate(columns):
        for rows, earlier in _candidates(features, wanted, places):
            most = np.floor(share * np.maximum(total[rows], total[earlier])).astype(np.int64)
            close = bags_near(features.bags, rows, features.bags, earlier, most)
            codes.append(rows[close].astype(np.uint64) << np.uint64(32) | earlier[close].astype(np.uint64))
        codes = [np.unique(np.concatenate(codes))] if codes else []
        report(Progress(stage="near duplicates", done=number + 1, total=len(columns)))
    for code in codes[0].tolist() if codes else ():
        row, other = code >> 32, code & 0xFFFFFFFF
        longer = max(lengths[0][row], lengths[0][other]) + max(lengths[1][row], lengths[1][other])
        most = int(share * int(longer))
        left = edits_within(features.english.row(row).tolist(), features.english.row(other).tolist(), most)
        if left <= most:
            right = features.target.row(row).tolist(), features.target.row(other).tolist()
            if edits_within(*right, most - left) <= most - left:
                yield row, other


_TARGET = HALVES + THIRDS
_VARIANTS = [(0, 0), (0, 1), (1, 0), (1, 1)]

# Two edits leave two of a pair's four halves untouched; two edits on each side leave a third on each. For
# each two parts: the rows of `parts` that hold their variants. Halves of one side are of one variant.
_HALVES = [
    [
        (side + 2 * variant + part, side2 + 2 * variant2 + part2)
        for variant, variant2 in _VARIANTS
        if side != side2 or variant == variant2
    ]
    for (side, part), (side2, part2) in itertools.combinations(itertools.product((0, _TARGET), range(2)), 2)
]
_THIRDS = [
    [(HALVES + 3 * a + part, _TARGET + HALVES + 3 * b + part2) for a, b in _VARIANTS]
    for part, part2 in itertools.product(range(3), repeat=2)
]


def _candidates(
    features: PairFeatures, wanted: NDArray[np.bool_], places: Sequence[tuple[int, int]]
) -> Iterator[tuple[I64, I64]]:
    """Yield wanted rows that share two parts, the later row first.

    A row's variants stand in one list: texts of unlike length are cut alike in different variants.
    """
    keys, owners = [], []
    for place, place2 in places:
        one, other = np.asarray(features.parts[place]), np.asarray(features.parts[place2])
        rows = np.flatnonzero(wanted & (one != 0) & (other != 0))
        keys.append(mix(one[rows] * np.uint64(3) + mix(other[rows])))
        owners.append(rows)
    key, owner = np.concatenate(keys), np.concatenate(owners)
    del keys, owners
    order = np.argsort(owner, kind="stable")
    key, owner = key[order], owner[order]
    for share in _shares(key):
        for later, earlier in _equal_pairs(key[share]):
            yield owner[share[later]], owner[share[earlier]]


def _shares(keys: U64) -> Iterator[I64]:
    """Divide rows into shares, so that equal keys stay together and few are sorted at once."""
    shares = -(-len(keys) // _AT_ONCE)
    for share in range(shares):
        yield np.flatnonzero(keys % np.uint64(shares) == share) if shares > 1 else np.arange(len(keys))


def segments(rows: TokenRows, *, thirds: bool) -> U64:
    """Cut texts into first and last half, or into first, second and last third: hashes `[2, parts, R]`.

    Two texts of nearly equal length share at least one of the two variants, in which their parts are cut at
    the same places. 0 says that a variant has no such part.
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
    valid = np.array([sizes[0] > 0, (sizes[1] > 0) & (sizes[1] != sizes[0])])
    return np.where(valid[:, None], np.maximum(np.array(parts, np.uint64), np.uint64(1)), np.uint64(0))


def _equal_pairs(keys: U64) -> Iterator[tuple[I64, I64]]:
    """Yield pairs of rows with equal keys, the earlier one second; each row meets at most 1,000 before it."""
    order = np.argsort(keys, kind="stable")
    ordered = keys[order]
    new = np.ones(len(keys), bool)
    new[1:] = ordered[1:] != ordered[:-1]
    first = np.maximum.accumulate(np.where(new, np.arange(len(keys)), 0))
    behind = np.arange(len(keys)) - first
    places = np.flatnonzero(behind)
    for distance in range(1, _GROUP_WINDOW + 1):
        places = places[behind[places] >= distance]
        if not len(places):
            return
        yield order[places], order[places - distance]


def edits_within(one: Sequence[int], other: Sequence[int], most: int) -> int:
    """Count the edits that turn one row of tokens into the other, up to `most + 1`.

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
    """Spread 64-bit numbers evenly (the finisher of splitmix64)."""
    values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return values ^ (values >> np.uint64(31))


def _step(sizes: I64) -> I64:
    """Return the largest step of the ladder up to each size; 0 below the first."""
    place = np.searchsorted(_LADDER, sizes, side="right")
    return np.where(place > 0, _LADDER[np.maximum(place - 1, 0)], 0)


def _powers(count: int) -> U64:
    """Return powers of an odd number and of its inverse modulo 2^64: `[2, count]`."""
    both = np.ones((2, count), np.uint64)
    for row, base in enumerate((_ODD, pow(_ODD, -1, 1 << 64))):
        both[row, 1:] = np.cumprod(np.full(count - 1, base, np.uint64))
    return both
