"""Dropout: the fraction that was asked for, the mean kept, other values each time, none in eval mode."""

import pytest
import torch

from langadapt.nn.adapter import Dropout


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("fraction", [0.1, 0.5, 0.73])
def test_it_drops_the_fraction_and_keeps_the_mean(fraction: float, dtype: torch.dtype) -> None:
    module = Dropout(fraction)
    x = torch.ones(301, 1001, dtype=dtype, requires_grad=True)
    with torch.random.fork_rng():
        torch.manual_seed(1)
        first, second = module(x), module(x)
    assert first.dtype == dtype
    dropped = first == 0
    assert dropped.float().mean().item() == pytest.approx(fraction, abs=0.004)
    assert first.float().mean().item() == pytest.approx(1, abs=0.01)
    both = (dropped & (second == 0)).float().mean().item()
    assert both == pytest.approx(fraction**2, abs=0.004), "two calls are independent"
    for shift in range(1, 5):
        near = (dropped[:, shift:] & dropped[:, :-shift]).float().mean().item()
        assert near == pytest.approx(fraction**2, abs=0.004), "and so are neighbours of one draw"
    first.sum().backward()
    assert torch.equal(x.grad, first.detach()), "what is dropped learns nothing"


def test_a_seed_repeats_it_and_eval_mode_drops_nothing() -> None:
    module, x = Dropout(0.3), torch.randn(7, 5, 3)
    with torch.random.fork_rng():
        torch.manual_seed(4)
        one = module(x)
        torch.manual_seed(4)
        assert torch.equal(one, module(x))
    assert not torch.equal(one, x)
    assert module.eval()(x) is x
    assert Dropout(0.0)(x) is x
