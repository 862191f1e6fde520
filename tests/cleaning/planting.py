"""Faults put into clean rows on purpose, each under its own name."""

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass

Pair = tuple[str, str]
PUNCTUATION = ("!", " ...", " ?!", '"', " ;")


@dataclass(frozen=True)
class Planted:
    """A row and the fault that it carries; empty for a row as it was. `origin` is its place among the clean
    rows."""

    pair: Pair
    fault: str
    origin: int


def is_unsegmented(text: str) -> bool:
    return any("\u2e80" <= c <= "\u9fff" for c in text)


def units(text: str) -> list[str]:
    return list(text) if is_unsegmented(text) else text.split()


def joined(parts: Sequence[str], text: str) -> str:
    return "".join(parts) if is_unsegmented(text) else " ".join(parts)


def edited(text: str, edits: int, words: Sequence[str], rng: random.Random) -> str:
    """The text with so many words (characters in Chinese) replaced, deleted or inserted, at different
    places."""
    parts = units(text)
    places = sorted(rng.sample(range(len(parts)), edits), reverse=True)
    for place in places:
        kind = rng.randrange(3)
        if kind == 0:
            parts[place] = rng.choice(words)
        elif kind == 1:
            del parts[place]
        else:
            parts.insert(place, rng.choice(words))
    return joined(parts, text)


def repunctuated(text: str, rng: random.Random) -> str:
    stripped = text.rstrip(" .!?。！？") or text
    return stripped + rng.choice(PUNCTUATION)


def recased(text: str, rng: random.Random) -> str:
    return rng.choice([text.upper(), text.title(), text.lower(), text.swapcase()])


def plant(
    clean: Sequence[Pair],
    *,
    other: Sequence[str],
    leaks: Sequence[Pair],
    each: int,
    block: int,
    seed: int,
    long_enough: Callable[[Pair], bool],
) -> list[Planted]:
    """Clean rows with `each` faults of every kind spread over them, and blocks that have slipped by one to
    three rows.

    Args:
        clean: rows of a corpus.
        other: sentences of a third language, for the target side.
        leaks: captions of a test set, English and target.
        each: rows per kind of fault.
        block: rows in a slipped block; there are `each // block` of them.
        long_enough: which rows may become a near duplicate.
    """
    rng = random.Random(seed)
    rows = [Planted(pair, "", place) for place, pair in enumerate(clean)]
    english_words = sorted({word for a, _ in clean[:2000] for word in units(a) if word.isalpha()})
    target_words = sorted({word for _, b in clean[:2000] for word in units(b) if word.isalpha()})
    starts = rng.sample(range(len(clean) // (3 * block)), each // block)
    for number in starts:
        first = number * 3 * block + block
        shift = rng.choice([1, 2, 3])
        for place in range(first, first + block):
            rows[place] = Planted((clean[place][0], clean[place + shift][1]), "misaligned", place)
    free = [place for place, row in enumerate(rows) if not row.fault]
    for place in rng.sample(free, each):
        rows[place] = Planted((clean[place][1], clean[place][0]), "swapped", place)
    added: list[tuple[int, Planted]] = []

    slipped = {place for place, row in enumerate(rows) if row.fault == "misaligned"}

    def add(fault: str, pair: Pair, origin: int) -> None:
        # Behind its origin, so that the original is the one that is kept, and not inside a slipped block.
        behind = rng.randrange(max(origin, 0), len(clean))
        while behind in slipped:
            behind = max(behind - 1, 0) if behind - 1 > origin else behind + 1
        added.append((behind, Planted(pair, fault, origin)))

    free = [place for place, row in enumerate(rows) if not row.fault]
    near = [place for place in free if long_enough(clean[place])]
    for place in rng.sample(free, each):
        add("duplicate", clean[place], place)
    for place in rng.sample(free, each):
        a, b = clean[place]
        add("duplicate_punctuation", (repunctuated(a, rng), repunctuated(b, rng)), place)
    for place in rng.sample(free, each):
        a, b = clean[place]
        add("duplicate_case", (recased(a, rng), recased(b, rng)), place)
    for place in rng.sample(near, each):
        a, b = clean[place]
        pair = (
            (edited(a, 1, english_words, rng), b)
            if rng.random() < 0.5
            else (a, edited(b, 1, target_words, rng))
        )
        add("near_one_word", pair, place)
    for place in rng.sample(near, each):
        a, b = clean[place]
        kind = rng.randrange(3)
        pair = (
            (edited(a, 2, english_words, rng), b),
            (a, edited(b, 2, target_words, rng)),
            (edited(a, 1, english_words, rng), edited(b, 1, target_words, rng)),
        )[kind]
        add("near_two_words", pair, place)
    for _ in range(each):
        place = rng.choice(free)
        add("wrong_language", (clean[place][0], rng.choice(other)), -1)
    for place in rng.sample(free, each):
        add("copy", (clean[place][0], clean[place][0]), -1)
    for fault, change in (
        ("leak", lambda text: text),
        ("leak_case", lambda text: recased(text, rng)),
        ("leak_punctuation", lambda text: repunctuated(text, rng)),
    ):
        for _ in range(each):
            a, b = rng.choice(leaks)
            add(fault, (change(a), change(b)), -1)
    for behind, row in sorted(added, key=lambda item: -item[0]):
        rows.insert(behind + 1, row)
    return rows
