"""Texts laid into rows: each token once, texts whole, kept apart, hardly any empty place."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from langadapt.data.tokens import PackedBatch, Tokens, in_rows


def packed(lengths: list[int]) -> PackedBatch:
    ids = np.arange(100, 100 + sum(lengths), dtype=np.int32)
    offsets = np.append(0, np.cumsum(lengths))
    return Tokens(ids=ids, offsets=offsets, pad_id=7).packed(np.arange(len(lengths)))


@given(st.lists(st.integers(1, 90), min_size=1, max_size=40))
def test_each_text_lies_whole_in_one_row(lengths: list[int]) -> None:
    batch = packed(lengths)
    width = batch.ids.shape[1]
    rows = batch.rows
    assert batch.ids.flatten()[rows.places()].tolist() == list(range(100, 100 + sum(lengths)))
    for text, (start, length) in enumerate(zip(rows.starts, lengths, strict=True)):
        row, column = divmod(int(start), width)
        assert column + length <= width
        assert rows.texts[row, column : column + length].tolist() == [text] * length
        assert batch.positions[row, column : column + length].tolist() == list(range(length))
    empty = rows.texts == -1
    assert int((~empty).sum()) == sum(lengths)
    assert (batch.ids[empty] == 7).all()
    tokens, texts, places, mask = rows.layout()
    assert torch.equal(tokens[~empty] + 100, batch.ids[~empty])
    assert torch.equal(texts, rows.texts)
    assert mask.sum(dim=1).tolist() == lengths
    assert batch.ids.flatten()[places[mask]].tolist() == list(range(100, 100 + sum(lengths)))


def test_a_mask_keeps_texts_apart_and_leaves_no_place_alone() -> None:
    batch = packed([3, 30, 2, 31])
    rows, width = batch.ids.shape
    for causal in (False, True):
        mask = batch.mask(causal=causal, like=torch.zeros(1))
        assert mask.shape == (rows, 1, width, width)
        for row in range(rows):
            for one in range(width):
                for other in range(width):
                    texts = batch.rows.texts[row]
                    seen = texts[one] == texts[other] and (other <= one or not causal)
                    assert mask[row, 0, one, other] == (0 if seen else float("-inf"))
        assert (mask == 0).any(dim=-1).all(), "a softmax over nothing is not a number"
    assert batch.mask(causal=False, like=torch.zeros(1).bfloat16()).dtype == torch.bfloat16


@pytest.mark.parametrize(("median", "least"), [(8, 0.95), (15.5, 0.9), (40, 0.88)])
def test_rows_of_many_lengths_are_nearly_full(median: float, least: float) -> None:
    draws = np.random.default_rng(0).lognormal(np.log(median), 0.36, 200)
    lengths = np.clip(draws.round(), 4, 77).astype(int).tolist()
    batch = packed(lengths)
    assert sum(lengths) >= least * batch.ids.numel()
    assert batch.ids.shape[1] <= 160, "wide rows cost attention"


def test_texts_of_one_awkward_length_share_a_wider_row() -> None:
    assert 0.8 * packed([17] * 60).ids.numel() < 17 * 60


@given(st.lists(st.integers(1, 90), min_size=1, max_size=400))
def test_few_shapes_add_empty_rows_alone(lengths: list[int]) -> None:
    plain, padded = (in_rows(np.array(lengths), few_shapes=few) for few in (False, True))
    rows, width = plain.texts.shape
    more = padded.texts.shape[0]
    assert torch.equal(padded.texts[:rows], plain.texts)
    assert (padded.texts[rows:] == -1).all()
    assert rows <= more <= rows * 17 / 16
    assert more % (1 << max(0, rows.bit_length() - 5)) == 0
    one, two = plain.layout(), padded.layout(whole=True)
    assert two.places.shape == two.mask.shape == (len(lengths), width)
    assert torch.equal(two.places[two.mask], one.places[one.mask])
    assert torch.equal(two.tokens[:rows], one.tokens)


def test_few_tokens_are_one_row_without_empty_places() -> None:
    assert packed([16]).ids.shape == (1, 16)
    assert packed([300]).ids.shape == (1, 300)
    assert packed([5, 9]).ids.shape == (1, 14)
