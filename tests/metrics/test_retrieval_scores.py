"""Recalls, their names and the two extra ways of scoring."""

import json

import pytest
import torch
from pydantic import TypeAdapter
from torch import Tensor
from torch.nn import functional as F

from langadapt.errors import DataError
from langadapt.metrics.retrieval import RetrievalScores, mean_recall_text, retrieval_scores

SIGNATURE = "benchmark:test"


def score(text: Tensor, image: Tensor, owner: Tensor) -> RetrievalScores:
    return retrieval_scores(text, image, owner, signature=SIGNATURE)


def hits_by_sorting(text: Tensor, image: Tensor, owner: list[int], k: int) -> tuple[float, float]:
    """Recall@k of continuous data by sorting every row and column of the full matrix."""
    matrix = (F.normalize(text.double(), dim=1) @ F.normalize(image.double(), dim=1).T).tolist()
    t2i = 0
    for t, row in enumerate(matrix):
        t2i += owner[t] in sorted(range(len(image)), key=lambda i: -row[i])[:k]
    i2t = 0
    for i in range(len(image)):
        best = sorted(range(len(text)), key=lambda t: -matrix[t][i])[:k]
        # the best own caption has no own caption above it, so it decides whether one is among the first k
        i2t += any(owner[t] == i for t in best)
    return 100 * t2i / len(text), 100 * i2t / len(image)


@pytest.mark.parametrize("seed", range(5))
def test_recalls_equal_the_sorted_ones(seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    owner = torch.cat([torch.arange(30), torch.randint(30, (50,), generator=generator)])
    image = torch.randn(30, 8, generator=generator)
    text = image[owner] + 1.5 * torch.randn(80, 8, generator=generator)
    scores = score(text, image, owner)
    for k in (1, 5, 10):
        t2i, i2t = hits_by_sorting(text, image, owner.tolist(), k)
        assert getattr(scores.t2i, f"r{k}") == pytest.approx(t2i)
        assert getattr(scores.i2t, f"r{k}") == pytest.approx(i2t)
    assert scores.t2i != scores.i2t


def test_the_last_place_that_counts_is_k() -> None:
    """Text p is nearer to the p images after its own than to its own: it finds it at place p + 1."""
    text = 0.5 * torch.eye(12)
    for place in range(12):
        text[place, [(place + step) % 12 for step in range(1, place + 1)]] = 1.0
    scores = score(text, torch.eye(12), torch.arange(12))
    assert scores.t2i.r1 == pytest.approx(100 * 1 / 12)
    assert scores.t2i.r5 == pytest.approx(100 * 5 / 12)
    assert scores.t2i.r10 == pytest.approx(100 * 10 / 12)


def test_perfect_is_100_and_constant_is_0() -> None:
    owner = torch.arange(20).repeat_interleave(3)
    image = torch.eye(20)
    assert score(image[owner], image, owner).mr6 == 100.0
    constant = score(torch.ones(60, 20), torch.ones(20, 20), owner)
    assert constant.mr6 == 0.0
    assert (constant.interval.low, constant.interval.high) == (0.0, 0.0)
    assert score(torch.ones(60, 20), image, owner).mr6 == 0.0
    assert score(image[owner], torch.ones(20, 20), owner).mr6 == 0.0


def test_means_are_named_and_keys_are_stable() -> None:
    generator = torch.Generator().manual_seed(1)
    image = torch.randn(15, 4, generator=generator)
    owner = torch.arange(15).repeat_interleave(2)
    scores = score(image[owner] + torch.randn(30, 4, generator=generator), image, owner)
    assert scores.mr3_t2i == pytest.approx((scores.t2i.r1 + scores.t2i.r5 + scores.t2i.r10) / 3)
    assert scores.mr3_i2t == pytest.approx((scores.i2t.r1 + scores.i2t.r5 + scores.i2t.r10) / 3)
    assert scores.mr6 == pytest.approx((scores.mr3_t2i + scores.mr3_i2t) / 2)
    plain = scores.to_dict()
    assert set(plain) == {"t2i", "i2t", "mr3_t2i", "mr3_i2t", "mr6", "interval", "signature", "hits"}
    assert list(plain["t2i"]) == list(plain["i2t"]) == ["r1", "r5", "r10"]
    assert list(plain["interval"]) == ["low", "high", "level"]
    assert TypeAdapter(RetrievalScores).validate_json(json.dumps(plain)) == scores
    hits = plain["hits"]
    assert 100 * (sum(hits["t2i"]) / 30 + sum(hits["i2t"]) / 15) / 6 == pytest.approx(scores.mr6)


def test_nan_is_never_a_score() -> None:
    image = torch.eye(12)
    image[3, 3] = float("nan")
    with pytest.raises(DataError, match="image embeddings: row 3"):
        score(torch.eye(12), image, torch.arange(12))


@pytest.mark.parametrize("owner", [torch.arange(11), torch.arange(12).int(), torch.arange(12)[:, None]])
def test_owners_that_do_not_fit_are_errors(owner: Tensor) -> None:
    with pytest.raises(DataError, match="image_of_text: expected one int64 for each of 12 texts"):
        score(torch.eye(12), torch.eye(12), owner)


def test_repeated_captions_and_images_cost() -> None:
    """Images 0 and 1 have the same caption, images 2 and 3 are the same image: only the own one is right."""
    image = torch.eye(12)
    image[3] = image[2]
    text = torch.eye(12)
    text[0] = text[1] = torch.tensor([1.0, 1.0] + [0.0] * 10)
    # texts 0 and 1 tie on two images, 2 ties on the copy, 3 sees nothing
    assert score(text, image, torch.arange(12)).t2i.r1 == pytest.approx(100 * 8 / 12)


def test_mean_recall_of_text_to_text() -> None:
    generator = torch.Generator().manual_seed(0)
    teacher = torch.randn(40, 16, generator=generator)
    assert mean_recall_text(3.0 * teacher, teacher) == pytest.approx(100.0)
    assert mean_recall_text(torch.ones(40, 16), torch.randn(40, 16, generator=generator)) < 50.0
    rolled = mean_recall_text(teacher.roll(1, dims=0), teacher)
    assert rolled < 40.0


def test_a_repeated_teacher_row_is_right_for_both() -> None:
    teacher = torch.eye(20)
    teacher[7] = teacher[3]
    assert mean_recall_text(teacher, teacher) == pytest.approx(100.0)


def test_a_constant_student_finds_nothing() -> None:
    assert mean_recall_text(torch.ones(20, 20), torch.eye(20)) == 0.0


def test_mean_recall_goes_from_student_to_teacher() -> None:
    """Every student is next to teacher 0, its own teacher second; every teacher's own student is first."""
    student = 0.1 * torch.eye(20)
    student[:, 0] += 1.0
    assert mean_recall_text(student, torch.eye(20)) == pytest.approx((5.0 + 100.0 + 100.0) / 3)


def test_mean_recall_wants_matching_rows() -> None:
    with pytest.raises(DataError, match="differ"):
        mean_recall_text(torch.ones(3, 2), torch.ones(2, 2))
