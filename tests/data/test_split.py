"""Held-out sentences that training has never seen."""

import pytest
import torch

from langadapt.data.parallel import Split, split_by_english
from langadapt.errors import DataError


def split(english: list[str], *, held_out: int = 5, seed: int = 0) -> Split:
    return split_by_english(english, held_out=held_out, generator=torch.Generator().manual_seed(seed))


def variants(count: int) -> list[str]:
    """Each sentence four times, written in four ways, far from each other."""
    plain = [f"sentence Number {i} of straße" for i in range(count)]
    return [
        *plain,
        *(text.upper() for text in plain),
        *(f"  {text}\n" for text in plain),
        *(text.replace(" ", " \t ").lower() for text in plain),
    ]


def test_no_sentence_stands_on_both_sides() -> None:
    english = variants(60)
    made = split(english)
    assert len(made.held_out) == 5
    held_out = {row % 60 for row in made.held_out.tolist()}
    assert len(held_out) == 5, "one row per sentence"
    assert {row % 60 for row in made.train.tolist()} == set(range(60)) - held_out
    assert len(made.train) == 4 * 55, "all other rows train"
    assert made.held_out.max() < 60, "its first row"


def test_at_most_a_tenth_is_held_out() -> None:
    english = [f"sentence {i}" for i in range(39)]
    made = split(english, held_out=1000)
    assert (len(made.held_out), len(made.train)) == (3, 36)


def test_the_generator_decides() -> None:
    english = variants(60)
    same, other = split(english), split(english, seed=1)
    assert same.held_out.tolist() == split(english).held_out.tolist()
    assert same.held_out.tolist() != other.held_out.tolist()


def test_too_few_sentences_are_refused() -> None:
    with pytest.raises(DataError, match="19 distinct English sentences are too few"):
        split(variants(19))
    assert len(split(variants(20)).held_out) == 2
