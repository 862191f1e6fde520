"""Rows that say what an earlier row says: equal but for case and punctuation, or within few words."""

import itertools
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from langadapt.data.cleaning.fold import TokenRows, pair_key
from langadapt.data.cleaning.near import edits_within, group_pairs, mix, segments
from langadapt.data.cleaning.texts import Side
from langadapt.progress import Progress, Report

I64 = NDArray[np.int64]
U64 = NDArray[np.uint64]
_LONG = 9
"""From so many words on both sides three edits are possible, and thirds are compared too."""
_AT_ONCE = 4_000_000
"""Keys that are sorted together; more are shared out by their value."""
HALVES, THIRDS = 4, 6
PARTS = 2 * (HALVES + THIRDS)
"""Hashes of a row's parts: English halves and thirds (two variants each), then the target's."""


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
    """Features of some rows."""
    parts, bags = [], []
    for side in (english, target):
        halves, thirds = (segments(side.tokens, thirds=three) for three in (False, True))
        for cut in (halves, thirds):
            # 0 says that this variant has no such part.
            shown = np.where(cut.valid[:, None, :], np.maximum(cut.parts, np.uint64(1)), np.uint64(0))
            parts.append(shown.reshape(shown.shape[0] * shown.shape[1], len(side)))
        bags.append(halves.bags)
    keys = [pair_key(a, b) for a, b in zip(english.words, target.words, strict=True)]
    return PairFeatures(
        keys=np.array(keys, np.uint64),
        parts=np.concatenate(parts),
        bags=np.concatenate(bags),
        english=english.tokens,
        target=target.tokens,
    )


def find_duplicates(features: PairFeatures, near_share: float, report: Report) -> Duplicates:
    """Finds rows that repeat an earlier row which is itself kept.

    Args:
        features: of all rows, in order.
        near_share: of the words of both sides together in which a near duplicate may differ; 0 looks for
        none.
        report: told what is done.
    """
    exact = np.full(len(features), -1, np.int64)
    for places in _shares(np.asarray(features.keys)):
        keys = np.asarray(features.keys[places])
        _, first, back = np.unique(keys, return_index=True, return_inverse=True)
        origin = places[first[back]]
        exact[places] = np.where(origin < places, origin, -1)
    near = np.full(len(features), -1, np.int64)
    if near_share > 0 and len(features):
        lengths = (features.english.lengths, features.target.lengths)
        for row, other in _near_pairs(features, exact < 0, near_share, lengths, report):
            if near[other] < 0 and near[row] < 0:
                near[row] = other
    return Duplicates(exact=exact, near=near)


def _near_pairs(
    features: PairFeatures, alive: NDArray[np.bool_], share: float, lengths: tuple[I64, I64], report: Report
) -> Iterator[tuple[int, int]]:
    """Pairs within the share of edits, the later row first, in the order of the later and then the earlier
    row."""
    total = lengths[0] + lengths[1]
    codes: list[U64] = []
    columns = list(_columns())
    for number, column in enumerate(columns):
        for rows, earlier in _candidates(features, alive, lengths, column):
            most = np.floor(share * np.maximum(total[rows], total[earlier])).astype(np.int64)
            apart = np.zeros(len(rows), np.int64)
            for bag in features.bags:
                apart += np.bitwise_count(bag[rows] ^ bag[earlier])
            close = (most > 0) & (apart <= 2 * most)
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


@dataclass(frozen=True, kw_only=True)
class _Column:
    """Two parts of a pair, each choice of variants as places in `parts`; whether only long rows are looked
    at."""

    places: tuple[tuple[int, int], ...]
    long: bool


def _columns() -> Iterator[_Column]:
    """Two edits leave two of a pair's four halves untouched; two edits on each side leave a third on each."""
    target = HALVES + THIRDS
    halves, thirds = HALVES // 2, THIRDS // 2
    for (side, part), (side2, part2) in itertools.combinations(
        itertools.product((0, target), range(halves)), 2
    ):
        places = [
            (side + halves * variant + part, side2 + halves * variant2 + part2)
            for variant, variant2 in itertools.product(range(2), repeat=2)
            if side != side2 or variant == variant2
        ]
        yield _Column(places=tuple(places), long=False)
    for part, part2 in itertools.product(range(thirds), repeat=2):
        places = [
            (HALVES + thirds * variant + part, target + HALVES + thirds * variant2 + part2)
            for variant, variant2 in itertools.product(range(2), repeat=2)
        ]
        yield _Column(places=tuple(places), long=True)


def _candidates(
    features: PairFeatures, alive: NDArray[np.bool_], lengths: tuple[I64, I64], column: _Column
) -> Iterator[tuple[I64, I64]]:
    """Rows that share both parts, the later row first. A row's variants stand in one list: texts of unlike
    length are cut alike in different variants."""
    keys, owners = [], []
    for place, place2 in column.places:
        one, other = np.asarray(features.parts[place]), np.asarray(features.parts[place2])
        wanted = alive & (one != 0) & (other != 0)
        if column.long:
            wanted &= (lengths[0] >= _LONG) & (lengths[1] >= _LONG)
        rows = np.flatnonzero(wanted)
        keys.append(mix(one[rows] * np.uint64(3) + mix(other[rows])))
        owners.append(rows)
    key, owner = np.concatenate(keys), np.concatenate(owners)
    del keys, owners
    order = np.argsort(owner, kind="stable")
    key, owner = key[order], owner[order]
    for places in _shares(key):
        for later, earlier in group_pairs(key[places]):
            yield owner[places[later]], owner[places[earlier]]


def _shares(keys: U64) -> Iterator[I64]:
    """Places of the keys, so shared out that equal keys stay together and few are sorted at once."""
    shares = -(-len(keys) // _AT_ONCE)
    for share in range(shares):
        yield np.flatnonzero(keys % np.uint64(shares) == share) if shares > 1 else np.arange(len(keys))
