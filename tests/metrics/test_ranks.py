"""Ranks against a full matrix, a sort and a loop; the rows that make them exact."""

from fractions import Fraction

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from langadapt.errors import DataError
from langadapt.metrics import ranks as ranks_module
from langadapt.metrics.ranks import Positives, exact_unit_rows, positive_ranks


@pytest.fixture(autouse=True, params=["_Tile", "_DeviceTile"])
def _both_kinds_of_tiles(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a GPU does runs on a CPU, too."""
    monkeypatch.setattr(ranks_module, "_Tile", getattr(ranks_module, request.param))


def slow_rank(scores: list[float], positives: set[int]) -> int:
    """Sort all candidates, the worst order among equals, and walk down to the first positive."""
    best = max(scores[p] for p in positives)
    others = [score for candidate, score in enumerate(scores) if candidate not in positives]
    order = sorted([(-score, 0) for score in others] + [(-best, 1)])
    return 1 + next(place for place, (_, is_positive) in enumerate(order) if is_positive)


def slow_ranks(text: Tensor, image: Tensor, pairs: list[tuple[int, int]]) -> tuple[list[int], list[int]]:
    matrix = (F.normalize(text.double(), dim=1) @ F.normalize(image.double(), dim=1).T).float()
    t2i = [slow_rank(matrix[t].tolist(), {i for u, i in pairs if u == t}) for t in range(len(text))]
    i2t = [slow_rank(matrix[:, i].tolist(), {t for t, j in pairs if j == i}) for i in range(len(image))]
    return t2i, i2t


def positives_of(pairs: list[tuple[int, int]]) -> Positives:
    text, image = zip(*pairs, strict=True)
    return Positives(text=torch.tensor(text), image=torch.tensor(image))


def random_pairs(texts: int, images: int, generator: torch.Generator) -> list[tuple[int, int]]:
    """Each text has one image, each image one text or several, in no order."""
    owner = torch.cat([torch.arange(images), torch.randint(images, (texts - images,), generator=generator)])
    return list(enumerate(owner[torch.randperm(texts, generator=generator)].tolist()))


def planted_ties(rows: Tensor, generator: torch.Generator) -> Tensor:
    """Every third row becomes a copy of some row, among them copies of copies."""
    rows = rows.clone()
    for row in range(0, len(rows), 3):
        rows[row] = rows[int(torch.randint(len(rows), (), generator=generator))]
    return rows


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("ties", [False, True])
@pytest.mark.parametrize("tile_rows", [1, 7, 512])
def test_ranks_equal_the_slow_ones(
    seed: int, ties: bool, tile_rows: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ranks_module, "_TILE_ROWS", tile_rows)
    generator = torch.Generator().manual_seed(seed)
    pairs = random_pairs(40, 13, generator)
    image = torch.randn(13, 6, generator=generator)
    text = image[[i for _, i in pairs]] + torch.randn(40, 6, generator=generator)
    if ties:
        text, image = planted_ties(text, generator), planted_ties(image, generator)
    ranks = positive_ranks(text, image, positives=positives_of(pairs))
    assert (ranks.t2i.tolist(), ranks.i2t.tolist()) == slow_ranks(text, image, pairs)
    assert len(set(ranks.t2i.tolist())) > 3  # the case can tell ranks apart


@pytest.mark.parametrize("seed", range(4))
def test_texts_with_several_positives_equal_the_slow_ones(seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    pairs = sorted({*random_pairs(30, 11, generator), *random_pairs(30, 11, generator)})
    text = planted_ties(torch.randn(30, 3, generator=generator), generator)
    image = planted_ties(torch.randn(11, 3, generator=generator), generator)
    ranks = positive_ranks(text, image, positives=positives_of(pairs))
    assert (ranks.t2i.tolist(), ranks.i2t.tolist()) == slow_ranks(text, image, pairs)


@pytest.mark.parametrize("others", [300, 0])
def test_ties_that_only_an_exact_sum_sees(others: int) -> None:
    """A text of equal numbers scores every reordering of an image alike; float32 sums differ in the order."""
    generator = torch.Generator().manual_seed(0)
    one = torch.randn(512, generator=generator).abs() + 0.1
    image = torch.stack([one[torch.randperm(512, generator=generator)] for _ in range(12)])
    products = image / image.norm(dim=1, keepdim=True) @ torch.full((512,), 512**-0.5)
    assert len(products.unique()) > 1, "a float32 product does not see the tie"
    apart = torch.randn(others, 512, generator=generator)
    images = torch.cat([image, apart])
    texts = torch.cat([torch.ones(12, 512), apart])
    ranks = positive_ranks(texts, images, positives=positives_of([(i, i) for i in range(12 + others)]))
    assert ranks.t2i[:12].tolist() == [12] * 12
    assert ranks.i2t[:12].tolist() == [12] * 12
    assert ranks.t2i[12:].eq(1).all()


def test_two_captions_of_one_image_do_not_compete() -> None:
    image = torch.tensor([[1.0, 0.0], [0.0, 1.0]])
    text = torch.tensor([[1.0, 0.0], [1.0, 0.0], [1.0, 0.2], [0.0, 1.0]])
    ranks = positive_ranks(text, image, positives=positives_of([(0, 0), (1, 0), (2, 0), (3, 1)]))
    assert ranks.i2t.tolist() == [1, 1]
    assert ranks.t2i.tolist() == [1, 1, 1, 1]


def test_a_tie_counts_against_the_model() -> None:
    image = torch.tensor([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0]])
    ranks = positive_ranks(image, image, positives=positives_of([(0, 0), (1, 1), (2, 2)]))
    assert ranks.t2i.tolist() == ranks.i2t.tolist() == [2, 2, 1]


def test_directions_are_not_swapped() -> None:
    image = torch.tensor([[1.0, 0.0], [0.0, 1.0], [0.6, 0.8]])
    text = torch.tensor([[1.0, 0.0], [0.8, 0.6], [0.9, 0.1], [0.6, 0.8]])
    ranks = positive_ranks(text, image, positives=positives_of([(0, 0), (1, 1), (2, 0), (3, 2)]))
    assert (len(ranks.t2i), len(ranks.i2t)) == (4, 3)
    assert ranks.t2i.tolist() == [1, 3, 1, 1]
    assert ranks.i2t.tolist() == [1, 2, 1]


@pytest.mark.parametrize("tile_rows", [1, 2, 3, 50, 499])
def test_tiles_do_not_move_a_rank_of_rows_that_tie(tile_rows: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Copies of few rows in random order: a score that depended on its place in a tile would break a tie."""
    generator = torch.Generator().manual_seed(3)
    kinds = torch.randn(9, 96, generator=generator)
    image = kinds[torch.randint(9, (60,), generator=generator)]
    pairs = random_pairs(500, 60, generator)
    text = kinds[torch.randint(9, (500,), generator=generator)] * (
        0.5 + torch.rand(500, 1, generator=generator)
    )
    whole = positive_ranks(text, image, positives=positives_of(pairs))
    monkeypatch.setattr(ranks_module, "_TILE_ROWS", tile_rows)
    tiled = positive_ranks(text, image, positives=positives_of(pairs))
    assert torch.equal(tiled.t2i, whole.t2i)
    assert torch.equal(tiled.i2t, whole.i2t)


@pytest.mark.parametrize("setting", ["high", "medium"])
def test_a_product_of_low_precision_decides_nothing(setting: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where PyTorch may multiply in TF32 or bfloat16, here as on a device that does, ranks stay exact."""
    generator = torch.Generator().manual_seed(0)
    pairs = random_pairs(300, 90, generator)
    image = torch.randn(90, 32, generator=generator)
    text = image[[i for _, i in pairs]] + torch.randn(300, 32, generator=generator)
    right = positive_ranks(text, image, positives=positives_of(pairs))
    assert (right.t2i.tolist(), right.i2t.tolist()) == slow_ranks(text, image, pairs)

    def rounded(texts: Tensor, images: Tensor) -> Tensor:
        return texts.bfloat16().float() @ images.bfloat16().float().T

    monkeypatch.setattr(ranks_module, "_product", rounded)
    unguarded = positive_ranks(text, image, positives=positives_of(pairs))
    assert not torch.equal(unguarded.t2i, right.t2i), "the case can tell the precisions apart"
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision(setting)
    try:
        ranks = positive_ranks(text, image, positives=positives_of(pairs))
    finally:
        torch.set_float32_matmul_precision(before)
    assert torch.equal(ranks.t2i, right.t2i)
    assert torch.equal(ranks.i2t, right.i2t)


def test_row_length_and_dtype_do_not_matter() -> None:
    generator = torch.Generator().manual_seed(0)
    pairs = random_pairs(30, 12, generator)
    text, image = torch.randn(30, 8, generator=generator), torch.randn(12, 8, generator=generator)
    plain = positive_ranks(text, image, positives=positives_of(pairs))
    stretched = positive_ranks(text * 2.0**90, image.double() * 2.0**-300, positives=positives_of(pairs))
    assert torch.equal(plain.t2i, stretched.t2i)
    assert torch.equal(plain.i2t, stretched.i2t)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
@pytest.mark.parametrize("side", ["text", "image"])
def test_a_row_that_is_not_finite_is_an_error(value: float, side: str) -> None:
    rows = {"text": torch.randn(4, 3), "image": torch.randn(4, 3)}
    rows[side][2, 1] = value
    with pytest.raises(DataError, match=f"{side} embeddings: row 2 has NaN or inf"):
        positive_ranks(rows["text"], rows["image"], positives=positives_of([(i, i) for i in range(4)]))


def test_a_zero_row_is_an_error() -> None:
    text = torch.ones(3, 2)
    text[1] = 0.0
    with pytest.raises(DataError, match="text embeddings: row 1 is all zeros"):
        positive_ranks(text, torch.ones(3, 2), positives=positives_of([(0, 0), (1, 1), (2, 2)]))


@pytest.mark.parametrize(
    ("pairs", "message"),
    [
        ([(0, 0), (1, 1)], "text 2 belongs to nothing"),
        ([(0, 0), (1, 0), (2, 0)], "image 1 belongs to nothing"),
        ([(0, 0), (1, 1), (2, 2)], "image rows must lie in 0 to 1, got 0 to 2"),
        ([(0, 0), (1, 1), (-1, 1)], "text rows must lie in 0 to 2, got -1 to 1"),
    ],
)
def test_positives_that_do_not_fit_are_errors(pairs: list[tuple[int, int]], message: str) -> None:
    with pytest.raises(DataError, match=message):
        positive_ranks(torch.randn(3, 2), torch.randn(2, 2), positives=positives_of(pairs))


def test_matrices_that_do_not_fit_are_errors() -> None:
    one = positives_of([(0, 0)])
    with pytest.raises(DataError, match="text embeddings are 3 wide, image embeddings 2"):
        positive_ranks(torch.ones(1, 3), torch.ones(1, 2), positives=one)
    with pytest.raises(DataError, match="image embeddings: expected a float matrix"):
        positive_ranks(torch.ones(1, 3), torch.ones(1, 3, dtype=torch.int64), positives=one)
    with pytest.raises(DataError, match="text embeddings: expected a float matrix"):
        positive_ranks(torch.ones(0, 3), torch.ones(1, 3), positives=one)
    uneven = Positives(text=torch.tensor([0, 0]), image=torch.tensor([0]))
    with pytest.raises(DataError, match="2 text rows, 1 image rows"):
        positive_ranks(torch.ones(1, 3), torch.ones(1, 3), positives=uneven)


@pytest.mark.parametrize("width", [3, 512])
def test_dot_products_have_no_rounding(width: int) -> None:
    generator = torch.Generator().manual_seed(0)
    rows = exact_unit_rows(torch.randn(6, width, generator=generator), "text")
    rows[0] = exact_unit_rows(torch.ones(1, width), "text")
    products = rows.double() @ rows.double().T
    for a, left in enumerate(rows.tolist()):
        for b, right in enumerate(rows.tolist()):
            truth = sum((Fraction(x) * Fraction(y) for x, y in zip(left, right, strict=True)), Fraction())
            assert Fraction(float(products[a, b])) == truth


def test_rows_are_unit_rows_in_the_same_direction() -> None:
    rows = torch.randn(5, 64, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    unit = exact_unit_rows(rows, "text")
    assert unit.dtype == torch.float32
    torch.testing.assert_close(unit.double(), rows / rows.norm(dim=1, keepdim=True), rtol=0, atol=2.0**-25)


def test_the_input_is_left_alone() -> None:
    rows = torch.tensor([[3.0, 4.0]])
    exact_unit_rows(rows, "text")
    assert rows.tolist() == [[3.0, 4.0]]
