"""Contrastive losses against slow oracles, and the temperature's bounds."""

import math
from collections.abc import Callable

import pytest
import torch

from langadapt.nn.losses import Temperature, difficulty, duplicates, sigmoid_contrast, softmax_contrast

IMAGES = torch.tensor([0, 1, 0, 2, 3])
CAPTIONS = torch.tensor([5, 6, 7, 6, 8])  # pairs 0 and 2 share the image, 1 and 3 the caption


def logits() -> torch.Tensor:
    return 3 * torch.randn(5, 5, generator=torch.Generator().manual_seed(0))


def related(i: int, j: int) -> bool:
    return bool(IMAGES[i] == IMAGES[j] or CAPTIONS[i] == CAPTIONS[j])


def test_duplicates_are_same_images_and_same_captions() -> None:
    found = duplicates(IMAGES, CAPTIONS)
    assert found.nonzero().tolist() == [[0, 2], [1, 3], [2, 0], [3, 1]]


def test_softmax_equals_the_loop() -> None:
    given, total = logits(), 0.0
    for i in range(5):
        for row in (given[i], given[:, i]):
            scores = [row[j].item() for j in range(5) if j == i or not related(i, j)]
            total += math.log(sum(map(math.exp, scores))) - row[i].item()
    found = softmax_contrast(given, duplicates(IMAGES, CAPTIONS))
    assert math.isclose(found.item(), total / 10, rel_tol=1e-5)


def test_sigmoid_equals_the_loop() -> None:
    given, total = logits(), 0.0
    for i in range(5):
        for j in range(5):
            if i == j or not related(i, j):
                sign = 1 if i == j else -1
                total += math.log(1 + math.exp(-sign * given[i, j].item()))
    found = sigmoid_contrast(given, duplicates(IMAGES, CAPTIONS))
    assert math.isclose(found.item(), total / 5, rel_tol=1e-5)


def test_duplicates_get_no_gradient() -> None:
    for loss in (softmax_contrast, sigmoid_contrast):
        given = logits().requires_grad_()
        loss(given, duplicates(IMAGES, CAPTIONS)).backward()
        assert given.grad is not None
        assert (given.grad == 0).nonzero().tolist() == [[0, 2], [1, 3], [2, 0], [3, 1]]


@pytest.mark.parametrize(("start", "bound"), [(1e-4, 100.0), (50.0, 1.0)])
def test_temperature_comes_back_from_beyond_its_bounds(start: float, bound: float) -> None:
    scale = Temperature(start=start, loss="softmax")
    torch.testing.assert_close(scale(torch.tensor([0.5])), torch.tensor([0.5 * bound]))
    (scale(torch.tensor([0.5])) - 1).square().sum().backward()
    assert scale.log_scale.grad is not None
    assert scale.log_scale.grad != 0, "it can still learn"


def test_the_sigmoid_loss_has_a_bias() -> None:
    scale = Temperature(start=0.1, loss="sigmoid")
    torch.testing.assert_close(scale(torch.tensor([0.5])), torch.tensor([-5.0]))
    assert set(scale.state_dict()) == {"log_scale", "bias"}


@pytest.mark.parametrize("loss", [softmax_contrast, sigmoid_contrast])
def test_a_pairs_weight_is_its_share_of_the_loss(loss: Callable[..., torch.Tensor]) -> None:
    given, ignored = logits(), duplicates(IMAGES, CAPTIONS)
    whole = loss(given, ignored)
    each = [loss(given, ignored, 5 * torch.eye(5)[pair]).item() for pair in range(5)]
    assert math.isclose(sum(each) / 5, whole.item(), rel_tol=1e-5)
    assert math.isclose(loss(given, ignored, torch.ones(5)).item(), whole.item(), rel_tol=1e-6)
    weights = torch.tensor([2.0, 0.0, 1.0, 1.0, 1.0])
    expected = sum(w * value for w, value in zip(weights.tolist(), each, strict=True)) / 5
    assert math.isclose(loss(given, ignored, weights).item(), expected, rel_tol=1e-5)
    turned = loss(given.T, ignored, weights)
    assert math.isclose(turned.item(), expected, rel_tol=1e-5), "captions and images count alike"


def test_what_is_missed_is_counted_among_those_that_are_no_duplicates() -> None:
    given = torch.tensor(
        [
            [3.0, 9.0, 1.0, 0.0],  # text 0: a duplicate is nearer, nothing else
            [0.0, 2.0, 2.0, 1.0],  # text 1: a tie counts against it, second
            [0.0, 5.0, 4.0, 6.0],  # text 2: third
            [9.0, 0.0, 0.0, 1.0],  # text 3: second
        ]
    )
    ignored = torch.zeros(4, 4, dtype=torch.bool)
    ignored[0, 1] = ignored[1, 0] = True
    # Images 0 to 3: place of the own text in the column, duplicates left out.
    i2t = [2, 2, 1, 3]
    expected = [1 - (1 / t + 1 / i) / 2 for t, i in zip([1, 2, 3, 2], i2t, strict=True)]
    torch.testing.assert_close(difficulty(given, ignored, "rank"), torch.tensor(expected))
    chances = difficulty(given, ignored, "chance")
    text = math.exp(3) / (math.exp(3) + math.exp(1) + math.exp(0))
    image = math.exp(3) / (math.exp(3) + math.exp(0) + math.exp(9))
    assert math.isclose(chances[0].item(), 1 - (text + image) / 2, rel_tol=1e-5)
