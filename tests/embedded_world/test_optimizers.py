"""The optimizer of the tiny models."""

import torch
from torch import nn

from tools.embedded_world.optimizers import Descent, orthogonal


def test_orthogonal_keeps_singular_vectors_and_evens_out_singular_values() -> None:
    matrices = torch.randn(3, 12, 40, generator=torch.Generator().manual_seed(1))
    for shaped in (matrices, matrices.mT):
        moved = orthogonal(shaped, steps=6)
        assert moved.shape == shaped.shape
        values = torch.linalg.svdvals(moved)
        assert values.min() > 0.5
        assert values.max() < 1.35
        left, _, right = torch.linalg.svd(shaped, full_matrices=False)
        inner = left.mT @ moved @ right.mT
        off_diagonal = inner - torch.diag_embed(inner.diagonal(dim1=1, dim2=2))
        assert off_diagonal.abs().max() < 1e-4


def test_descent_moves_every_parameter_and_reports_its_last_step() -> None:
    torch.manual_seed(2)
    tower = nn.Module()
    tower.layers = nn.ModuleList([nn.Linear(6, 6)])
    model = nn.ModuleDict({"tower": tower, "head": nn.Linear(6, 1)})
    before = {name: parameter.detach().clone() for name, parameter in model.named_parameters()}
    inputs = torch.randn(64, 6)
    wanted = (inputs[:, :1] - inputs[:, 1:2]).tanh()
    lines: list[str] = []
    descent = Descent(model, name="toy", steps=60, learning_rate=0.02, say=lines.append)
    losses = []
    for _ in range(60):
        hidden = torch.tanh(tower.layers[0](inputs))
        loss = (model["head"](hidden) - wanted).square().mean()
        losses.append(loss.item())
        descent.step(loss)
    assert losses[-1] < 0.5 * losses[0]
    assert all(not torch.equal(before[name], parameter) for name, parameter in model.named_parameters())
    assert len(lines) == 1
    assert lines[0].startswith("toy: step 60 mean loss ")
