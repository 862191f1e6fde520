"""Ragged token ids and the batches cut from them."""

import numpy as np
import pytest

from langadapt.data.tokens import Tokens, by_length, padded_index, require_text, tokenize
from langadapt.errors import DataError

TEXTS = ["a b c", "d", "e f"]


def letters(texts: list[str]) -> list[list[int]]:
    return [[ord(word) for word in text.split()] for text in texts]


def tokens() -> Tokens:
    return tokenize(TEXTS, letters, pad_id=7)


@pytest.mark.parametrize("at_once", [1, 2, 100])
def test_texts_become_one_ragged_array(at_once: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("langadapt.data.tokens._TEXTS_AT_ONCE", at_once)
    made = tokens()
    assert made.ids.tolist() == [97, 98, 99, 100, 101, 102]
    assert made.offsets.tolist() == [0, 3, 4, 6]
    assert made.lengths.tolist() == [3, 1, 2]
    assert (made.ids.dtype, made.offsets.dtype, len(made)) == (np.int32, np.int64, 3)


def test_a_batch_is_trimmed_to_its_longest_or_of_the_asked_length() -> None:
    batch = tokens().batch(np.array([2, 1]))
    assert batch.input_ids.tolist() == [[101, 102], [100, 7]]
    assert batch.mask.tolist() == [[True, True], [True, False]]
    fixed = tokens().batch(np.array([0, 1, 0]), length=4)
    assert fixed.input_ids.tolist() == [[97, 98, 99, 7], [100, 7, 7, 7], [97, 98, 99, 7]]
    assert fixed.mask.sum(dim=1).tolist() == [3, 1, 3]


def test_padding_points_at_a_position_that_exists() -> None:
    made = tokens()
    index, mask = padded_index(made.offsets[1:3], made.lengths[1:3], length=5)
    assert index[mask].tolist() == [3, 4, 5]
    assert index.max() < len(made.ids)
    assert index.min() >= 0


def test_no_texts_are_no_tokens() -> None:
    made = tokenize([], letters, pad_id=7)
    assert (len(made), made.ids.tolist(), made.offsets.tolist()) == (0, [], [0])
    assert list(by_length(made.lengths, batch_tokens=10)) == []


@pytest.mark.parametrize("blank", ["", "  ", "\t\n", "\u3000"])
def test_a_blank_text_is_named_by_its_row(blank: str) -> None:
    with pytest.raises(DataError, match="text 1 is empty"):
        tokenize(["a", blank, "b"], letters, pad_id=7)
    with pytest.raises(DataError, match="text 0 is empty"):
        require_text([blank])


def test_batches_of_like_length_hold_every_row_once_within_the_budget() -> None:
    lengths = np.random.default_rng(0).integers(1, 30, 200)
    batches = list(by_length(lengths, batch_tokens=100))
    assert sorted(np.concatenate(batches).tolist()) == list(range(200))
    assert all(len(rows) * lengths[rows].max() <= 100 for rows in batches)
    assert np.all(np.diff(lengths[np.concatenate(batches)]) <= 0)
    assert len(batches) < 1.2 * lengths.sum() / 100 + 2  # and the budget is used


def test_a_text_longer_than_the_budget_is_a_batch_of_its_own() -> None:
    assert [rows.tolist() for rows in by_length(np.array([3, 50, 4]), batch_tokens=10)] == [[1], [2, 0]]
