"""The adapter: blind to padding, all of it learns, and it starts at the mean target."""

import itertools
from collections.abc import Iterator

import pytest
import torch
from torch.nn import functional as F

from langadapt.nn.adapter import Adapter, normed
from langadapt.recipes import AdapterSpec

LENGTHS = (7, 1, 4)
SHAPES = list(itertools.product((0, 1, 2), ("mean", "attention")))


@pytest.fixture(autouse=True)
def _seeded() -> Iterator[None]:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        yield


def adapter(*, layers: int, pooling: str, state_count: int = 3) -> Adapter:
    """An adapter whose weights are all away from their start, so that each of them matters."""
    spec = AdapterSpec(
        bottleneck_dim=16, layers=layers, heads=4, feedforward_dim=24, dropout=0.0, pooling=pooling
    )
    made = Adapter(spec=spec, input_dim=12 * state_count, target_dim=10)
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for weight in made.parameters():
            weight += 0.3 * torch.randn(weight.shape, generator=generator)
    return made


def states(tokens: int, *, state_count: int = 3) -> torch.Tensor:
    return torch.randn(len(LENGTHS), tokens, state_count, 12, generator=torch.Generator().manual_seed(2))


def mask(tokens: int) -> torch.Tensor:
    return torch.arange(tokens) < torch.tensor(LENGTHS)[:, None]


@pytest.mark.parametrize(("layers", "pooling"), SHAPES)
def test_what_stands_behind_the_mask_does_not_matter(layers: int, pooling: str) -> None:
    module = adapter(layers=layers, pooling=pooling)
    given = states(7)
    one_by_one = torch.cat(
        [module(given[i : i + 1, :n], torch.ones(1, n, dtype=torch.bool)) for i, n in enumerate(LENGTHS)]
    )
    loud = given.masked_fill(~mask(7)[..., None, None], 1e4)
    loud[:, :, :, ::2] *= torch.where(mask(7), 1.0, -3.0)[..., None, None]
    longer = F.pad(loud, (0, 0, 0, 0, 0, 5), value=-1e4)
    torch.testing.assert_close(module(loud, mask(7)), one_by_one, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(module(longer, mask(12)), one_by_one, rtol=1e-4, atol=1e-5)
    assert (one_by_one[0] - one_by_one[2]).abs().max() > 0.1


@pytest.mark.parametrize(("layers", "pooling"), SHAPES)
def test_every_weight_learns_and_padding_does_not_teach(layers: int, pooling: str) -> None:
    module = adapter(layers=layers, pooling=pooling)
    given = states(7).masked_fill(~mask(7)[..., None, None], 1e4).requires_grad_()
    module(given, mask(7)).square().sum().backward()
    silent = [
        name for name, weight in module.named_parameters() if weight.grad is None or not weight.grad.any()
    ]
    assert not silent
    tops = {name.split(".")[0] for name, _ in module.named_parameters()}
    assert tops == {"down", "norm", "up"} | ({"layers"} if layers else set()) | (
        {"pool"} if pooling == "attention" else set()
    )
    assert given.grad is not None
    assert not given.grad[~mask(7)].any()
    assert given.grad[mask(7)].any()


def test_each_normed_layer_has_its_own_columns_of_down() -> None:
    module = adapter(layers=0, pooling="mean")
    given, all_tokens = states(7), torch.ones(3, 7, dtype=torch.bool)
    loud_layer = given * torch.tensor([1.0, 100.0, 1.0])[:, None]
    torch.testing.assert_close(normed(given), normed(loud_layer), rtol=1e-3, atol=1e-3)
    assert normed(given).mean(dim=-1).abs().max() < 1e-5
    torch.testing.assert_close(
        normed(given).var(dim=-1, correction=0), torch.ones(3, 7, 3), rtol=0, atol=1e-3
    )
    with torch.no_grad():
        module.down.weight.view(16, 3, 12)[:, [0, 2]] = 0.0  # the middle layer alone
    alone = adapter(layers=0, pooling="mean", state_count=1)
    alone.load_state_dict({**module.state_dict(), "down.weight": module.down.weight[:, 12:24]})
    torch.testing.assert_close(module(given, all_tokens), alone(given[:, :, 1:2], all_tokens))


def test_without_layers_it_is_a_network_of_two_linear_maps() -> None:
    module, given = adapter(layers=0, pooling="mean"), states(7)
    weight = module.down.weight.view(16, 3, 12)
    hidden = F.gelu(torch.einsum("btlh,wlh->btw", given, weight) + module.down.bias)
    means = torch.stack([row[:length].mean(dim=0) for row, length in zip(hidden, LENGTHS, strict=True)])
    expected = module.norm(means) @ module.up.weight.T + module.up.bias
    torch.testing.assert_close(module(given, mask(7)), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("layers", [0, 1])
def test_down_is_followed_by_dropout_in_training_alone(layers: int) -> None:
    spec = AdapterSpec(bottleneck_dim=64, layers=layers, heads=4, feedforward_dim=24, dropout=0.5)
    module = Adapter(spec=spec, input_dim=36, target_dim=10)
    dropped = (module.train().project_in(states(40)) == 0).float().mean()
    assert 0.4 < dropped < 0.6
    assert module.eval().project_in(states(40)).count_nonzero() == 3 * 40 * 64


@pytest.mark.parametrize("pooling", ["mean", "attention"])
def test_untrained_answers_are_centred_on_the_mean_target(pooling: str) -> None:
    spec = AdapterSpec(bottleneck_dim=64, layers=1, heads=4, feedforward_dim=64, pooling=pooling)
    module = Adapter(spec=spec, input_dim=36, target_dim=48).eval()
    mean = torch.zeros(48)
    mean[7] = 0.7  # the mean of unit rows is shorter than they are
    before = module(states(7), mask(7))
    module.start_at(mean)
    after = module(states(7), mask(7))
    torch.testing.assert_close(after - before, mean.expand(3, -1))
    near = F.cosine_similarity(after, mean[None])
    assert (near > F.cosine_similarity(before, mean[None]) + 0.2).all()
    assert near.max() < 0.95, "and texts still differ"


def test_half_precision_states_give_a_single_precision_embedding() -> None:
    module = adapter(layers=1, pooling="attention").bfloat16()
    assert module(states(7).bfloat16(), mask(7)).dtype == torch.float32
