"""An invented language beside English: 900 words that translate one another, sentences of 8 to 14 of them."""

import random

_SYLLABLES = ["ka", "mu", "te", "shi", "ro", "pa", "ndo", "zi", "wa", "le", "ngu", "bi", "yo", "ha", "vu"]
_ENGLISH = [
    "an",
    "ber",
    "col",
    "der",
    "est",
    "fin",
    "gra",
    "hol",
    "ing",
    "jus",
    "ker",
    "lin",
    "mon",
    "per",
    "sti",
]


def dictionary(size: int = 900) -> list[tuple[str, str]]:
    """Words and their translations."""
    rng = random.Random(5)
    pairs: dict[str, str] = {}
    used: set[str] = set()
    while len(pairs) < size:
        english = "".join(rng.choice(_ENGLISH) for _ in range(rng.choice([1, 2, 2, 3])))
        own = "".join(rng.choice(_SYLLABLES) for _ in range(rng.choice([1, 2, 2, 3])))
        if english not in pairs and own not in used:
            pairs[english] = own
            used.add(own)
    return list(pairs.items())


def corpus(rows: int, seed: int) -> list[tuple[str, str]]:
    """Sentences and translations: frequent words are frequent on both sides, neighbours change places at
    times."""
    rng = random.Random(seed)
    words = dictionary()
    weights = [1 / (rank + 3) for rank in range(len(words))]
    found = []
    for _ in range(rows):
        chosen = rng.choices(words, weights, k=rng.randrange(8, 15))
        target = [own for _, own in chosen]
        place = rng.randrange(len(target) - 1)
        target[place : place + 2] = target[place + 1], target[place]
        english = " ".join(word for word, _ in chosen)
        found.append((english.capitalize() + ".", " ".join(target).capitalize() + "."))
    return found


def third_language(rows: int, seed: int) -> list[str]:
    """Sentences in words of neither language."""
    rng = random.Random(seed)
    words = ["".join(rng.choice("bcdfgxq") + rng.choice("eiu") for _ in range(3)) for _ in range(300)]
    return [" ".join(rng.choices(words, k=9)) for _ in range(rows)]
