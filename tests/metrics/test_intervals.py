"""The bootstrap of mR6."""

import pytest
import torch
from torch import Tensor

from langadapt.metrics.intervals import Hits, Interval, interval_of


def hits(images: int, captions: int, generator: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
    """Captions of one image mostly succeed together."""
    easy = torch.rand(images, 1, generator=generator)
    owner = torch.arange(images).repeat_interleave(captions)
    text = torch.rand(images * captions, 3, generator=generator) < (0.2 + 0.7 * easy[owner].round())
    image = torch.rand(images, 3, generator=generator) < 0.5 + 0.4 * easy.round()
    return text, image, owner


def recall_interval(*case: Tensor) -> Interval:
    return interval_of(Hits.of(*case).resampled())


def test_equals_resampling_by_hand() -> None:
    """The slow way draws a list of images, collects their captions and averages."""
    text, image, _ = hits(25, 3, torch.Generator().manual_seed(1))
    more = torch.randint(25, (50,), generator=torch.Generator().manual_seed(2))
    owner = torch.cat([more, torch.arange(25)])  # images have from one to many captions
    texts_of = [[t for t in range(75) if owner[t] == i] for i in range(25)]
    draws = torch.randint(25, (1000, 25), generator=torch.Generator().manual_seed(0)).tolist()
    means = []
    for draw in draws:
        captions = [t for i in draw for t in texts_of[i]]
        t2i = [sum(bool(text[t, k]) for t in captions) / len(captions) for k in range(3)]
        i2t = [sum(bool(image[i, k]) for i in draw) / len(draw) for k in range(3)]
        means.append(100 * sum(t2i + i2t) / 6)
    low, high = (
        torch.tensor(means, dtype=torch.float64).quantile(torch.tensor([0.025, 0.975]).double()).tolist()
    )
    got = recall_interval(text, image, owner)
    assert (got.low, got.high) == pytest.approx((low, high))
    assert got.level == 0.95


def test_bounds_are_printed_with_one_decimal_and_100_without() -> None:
    assert str(Interval(low=7.04, high=99.96, level=0.95)) == "7.0–100"


def test_the_global_seed_is_not_touched() -> None:
    before = torch.get_rng_state()
    recall_interval(*hits(20, 2, torch.Generator().manual_seed(0)))
    assert torch.equal(before, torch.get_rng_state())


def test_covers_the_truth_about_as_often_as_it_says() -> None:
    """Expected mR6 of `hits` is (0.55 + 0.70) / 2; resampling single captions would cover less."""
    covered = 0
    for seed in range(200):
        case = hits(150, 5, torch.Generator().manual_seed(seed))
        interval = recall_interval(*case)
        covered += interval.low <= 62.5 <= interval.high
    assert 0.90 <= covered / 200 <= 0.99


def test_two_models_are_compared_on_the_same_images() -> None:
    """Where one always does what the other does, and a little more, no draw says otherwise."""
    text, image, owner = hits(150, 5, torch.Generator().manual_seed(0))
    better = image.clone()
    better[:20] = True
    one, other = Hits.of(text, image, owner), Hits.of(text, better, owner)
    assert interval_of(one.resampled() - one.resampled()) == Interval(low=0.0, high=0.0, level=0.95)
    gain = interval_of(other.resampled() - one.resampled())
    assert 0 < gain.low < gain.high
    apart = recall_interval(text, image, owner)
    assert gain.high - gain.low < (apart.high - apart.low) / 2
