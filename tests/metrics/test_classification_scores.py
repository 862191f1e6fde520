"""Accuracy against a loop over sorted candidates."""

import pytest
import torch
from torch import Tensor

from langadapt.errors import DataError
from langadapt.metrics import classification
from langadapt.metrics.classification import ClassificationScores, class_similarities, classification_scores
from langadapt.metrics.intervals import mean_interval
from langadapt.metrics.signature import ClassSignature, comparable


def score(scores: Tensor, labels: list[int]) -> ClassificationScores:
    return classification_scores(scores, torch.tensor(labels), signature="benchmark:test")


def slow_place(row: list[float], label: int) -> int:
    """Sort the classes, the own one last among equals, and walk down to it; 0 is best."""
    order = sorted(range(len(row)), key=lambda c: (-row[c], c == label))
    return order.index(label)


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("ties", [False, True])
def test_every_number_equals_the_slow_one(seed: int, ties: bool) -> None:
    generator = torch.Generator().manual_seed(seed)
    labels = torch.randint(8, (60,), generator=generator)
    labels[labels == 3] = 4  # a class without images
    scores = torch.randn(60, 8, generator=generator) + 1.2 * torch.eye(8)[labels]
    if ties:
        scores = scores.round()
    places = [slow_place(row, label) for row, label in zip(scores.tolist(), labels.tolist(), strict=True)]
    assert len(set(places)) > 4
    got = score(scores, labels.tolist())
    assert got.top1 == pytest.approx(100 * sum(place == 0 for place in places) / 60)
    assert got.top5 == pytest.approx(100 * sum(place < 5 for place in places) / 60)
    recalls = []
    for c in range(8):
        own = [place for place, label in zip(places, labels.tolist(), strict=True) if label == c]
        recalls.append(100 * sum(place == 0 for place in own) / len(own) if own else None)
    assert recalls[3] is None
    assert list(got.per_class) == pytest.approx(recalls)
    assert got.mean_per_class == pytest.approx(sum(r for r in recalls if r is not None) / 7)
    table = [[0] * 8 for _ in range(8)]
    for row, label in zip(scores.tolist(), labels.tolist(), strict=True):
        best = max(row)
        winners = [c for c in range(8) if row[c] == best]
        wrong = [c for c in winners if c != label]
        table[label][wrong[0] if wrong else label] += 1
    assert [list(row) for row in got.confusion] == table


def test_a_constant_model_is_always_wrong() -> None:
    got = score(torch.ones(6, 3), [0, 0, 1, 1, 2, 2])
    assert (got.top1, got.mean_per_class) == (0.0, 0.0)
    assert [sum(row) for row in got.confusion] == [2, 2, 2]
    assert all(got.confusion[c][c] == 0 for c in range(3))


def test_a_tie_with_one_other_class_is_lost() -> None:
    got = score(torch.tensor([[0.5, 0.5, 0.1], [0.5, 0.4, 0.1]]), [0, 0])
    assert got.top1 == 50.0
    assert got.confusion[0] == (1, 1, 0)


def test_five_of_six_is_not_among_the_best_five() -> None:
    row = torch.tensor([[0.1, 0.2, 0.3, 0.4, 0.5, 0.6]])
    assert score(row, [0]).top5 == 0.0
    assert score(row, [1]).top5 == 100.0


def test_classes_count_the_same_however_many_images_they_have() -> None:
    got = score(torch.tensor([[1.0, 0.0]] * 9 + [[1.0, 0.0]]), [0] * 9 + [1])
    assert (got.top1, got.mean_per_class) == (90.0, 50.0)


def test_cosines_ignore_lengths_and_tiles_and_let_equal_rows_tie(monkeypatch: pytest.MonkeyPatch) -> None:
    generator = torch.Generator().manual_seed(0)
    image, classes = torch.randn(50, 12, generator=generator), torch.randn(4, 12, generator=generator)
    classes[2] = classes[0] * 4
    found = class_similarities(image, classes)
    torch.testing.assert_close(
        found, torch.nn.functional.cosine_similarity(image[:, None], classes[None], dim=2)
    )
    assert torch.equal(found[:, 0], found[:, 2])
    monkeypatch.setattr(classification, "_TILE_ROWS", 7)
    assert torch.equal(found, class_similarities(image * 8, classes))


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_score_that_is_not_finite_is_an_error(value: float) -> None:
    scores = torch.zeros(3, 2)
    scores[1, 0] = value
    with pytest.raises(DataError, match="row 1 has NaN or inf"):
        score(scores, [0, 1, 0])


@pytest.mark.parametrize("labels", [[0, 2], [-1, 0], [0]])
def test_labels_that_do_not_fit_are_errors(labels: list[int]) -> None:
    with pytest.raises(DataError, match="labels"):
        score(torch.zeros(2, 2), labels)


def test_interval_equals_resampling_by_hand() -> None:
    hits = torch.rand(30, generator=torch.Generator().manual_seed(1)) < 0.7
    draws = torch.randint(30, (1000, 30), generator=torch.Generator().manual_seed(0)).tolist()
    means = [100 * sum(bool(hits[i]) for i in draw) / 30 for draw in draws]
    low, high = torch.tensor(means).double().quantile(torch.tensor([0.025, 0.975]).double()).tolist()
    got = mean_interval(hits)
    assert (got.low, got.high) == pytest.approx((low, high))
    scores = torch.where(hits[:, None], torch.tensor([[1.0, 0.0]]), torch.tensor([[0.0, 1.0]]))
    whole = score(scores, [0] * 30).interval
    assert whole.low < 100 * float(hits.float().mean()) < whole.high


def test_signature_states_the_conditions() -> None:
    one = ClassSignature(
        benchmark="animals", images=10, classes=3, names="ab12", language="zh", prompts="single@1",
        text="a@1", image="b@2",
    )  # fmt: skip
    assert str(one) == (
        "benchmark:animals|images:10|classes:3|names:ab12|language:zh|prompts:single@1|k:1,5|ties:against"
        "|text:a@1|image:b@2|version:1"
    )
    assert comparable(str(one), str(one).replace("single@1", "ensemble-3@2")) == ["prompts"]
    with pytest.raises(DataError, match="signature: prompts"):
        ClassSignature(
            benchmark="a", images=1, classes=2, names="x", language="zh", prompts="a|b", text="t", image="i"
        )
