"""Duplicates against a slow search through all pairs."""

import random

import numpy as np
import pytest

from langadapt.cleaning.duplicates import edits_within, find_duplicates, pair_features
from langadapt.cleaning.words import side_of


def distance(one: list[str], other: list[str]) -> int:
    """The whole table of the edit distance."""
    table = [[max(i, j) if 0 in (i, j) else 0 for j in range(len(other) + 1)] for i in range(len(one) + 1)]
    for i, a in enumerate(one, start=1):
        for j, b in enumerate(other, start=1):
            steps = (table[i - 1][j] + 1, table[i][j - 1] + 1, table[i - 1][j - 1] + (a != b))
            table[i][j] = min(steps)
    return table[-1][-1]


def test_edit_distance() -> None:
    rng = random.Random(1)
    for _ in range(300):
        one, other = ([rng.choice("abc") for _ in range(rng.randrange(8))] for _ in range(2))
        for most in range(5):
            assert edits_within(one, other, most) == min(distance(one, other), most + 1)


def rows_with_edits() -> list[tuple[list[str], list[str]]]:
    rng = random.Random(3)
    words = [f"w{i}" for i in range(60)]
    rows: list[tuple[list[str], list[str]]] = []
    for _ in range(45):
        row = tuple([rng.choice(words) for _ in range(rng.randrange(3, 16))] for _ in range(2))
        rows.append((row[0], row[1]))
        for _ in range(rng.randrange(4)):
            copy = ([*row[0]], [*row[1]])
            for _ in range(rng.randrange(3)):
                side = copy[rng.randrange(2)]
                place = rng.randrange(len(side))
                side[place : place + rng.randrange(2)] = [rng.choice(words)] * rng.randrange(2)
            if copy[0] and copy[1]:
                rows.append(copy)
    rng.shuffle(rows)
    return rows


@pytest.mark.parametrize("at_once", [4_000_000, 17])
def test_finds_what_a_search_through_all_pairs_finds(at_once: int, monkeypatch: pytest.MonkeyPatch) -> None:
    # Few keys at once: the shares in which many rows are compared change nothing.
    monkeypatch.setattr("langadapt.cleaning.duplicates._AT_ONCE", at_once)
    share = 0.15
    rows = rows_with_edits()
    sides = [side_of([" ".join(row[side]) for row in rows]) for side in (0, 1)]
    found = find_duplicates(pair_features(sides[0], sides[1]), share, lambda progress: None)
    exact, near = [], []
    for number, (english, target) in enumerate(rows):
        equal = [other for other in range(number) if rows[other] == (english, target)]
        exact.append(min(equal, default=-1))
        close = []
        for other in range(number):
            longer = max(len(english), len(rows[other][0])) + max(len(target), len(rows[other][1]))
            edits = distance(english, rows[other][0]) + distance(target, rows[other][1])
            # Two edits are found whatever they are; more are found where thirds are left.
            if exact[other] < 0 and near[other] < 0 and edits <= min(2, int(share * longer)):
                close.append(other)
        near.append(min(close, default=-1) if not equal else -1)
    assert found.exact.tolist() == exact
    assert sum(place >= 0 for place in near) > 10
    assert sum(place >= 0 for place in exact) > 8
    wrong = [n for n, place in enumerate(near) if place >= 0 and found.near[n] < 0]
    assert wrong == []
    for number in np.flatnonzero(found.near >= 0).tolist():
        english, target = rows[number]
        other = rows[int(found.near[number])]
        longer = max(len(english), len(other[0])) + max(len(target), len(other[1]))
        assert distance(english, other[0]) + distance(target, other[1]) <= int(share * longer)
        assert found.near[int(found.near[number])] < 0, "what is repeated is itself kept"
