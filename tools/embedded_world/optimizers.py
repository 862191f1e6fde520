"""How the tiny models are optimized: Muon for the layers' matrices, AdamW for the rest, one cosine schedule.

Muon is written out because torch's own works in bfloat16, which many CPUs compute very slowly.
"""

import math
import time
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn

_COEFFICIENTS = (3.4445, -4.7750, 2.0315)


class Muon(torch.optim.Optimizer):
    """Momentum with orthogonalised updates for weight matrices.

    Args:
        matrices: Parameters of two dimensions.
        learning_rate: Scaled so that a rate that suits AdamW suits it too.
        momentum: Nesterov momentum.
        weight_decay: Decoupled, multiplied by the rate.

    Source: Jordan et al., 2024, "Muon: an optimizer for hidden layers in neural networks"; the scale is that
        of Liu et al., 2025, "Muon is scalable for LLM training".
    """

    def __init__(
        self,
        matrices: Iterable[nn.Parameter],
        *,
        learning_rate: float,
        momentum: float = 0.95,
        weight_decay: float = 0.02,
    ) -> None:
        defaults = {"lr": learning_rate, "momentum": momentum, "weight_decay": weight_decay}
        super().__init__(matrices, defaults)

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> None:  # type: ignore[override]
        """Update every matrix that has a gradient; matrices of one shape are orthogonalised together."""
        for group in self.param_groups:
            shapes: dict[torch.Size, list[tuple[Tensor, Tensor]]] = {}
            for matrix in group["params"]:
                if matrix.grad is None:
                    continue
                state: dict[str, Any] = self.state[matrix]
                average = state.setdefault("momentum", torch.zeros_like(matrix))
                average.lerp_(matrix.grad, 1 - group["momentum"])
                wanted = matrix.grad.lerp(average, group["momentum"])
                shapes.setdefault(matrix.shape, []).append((matrix, wanted))
            for shape, pairs in shapes.items():
                updates = orthogonal(torch.stack([wanted for _, wanted in pairs]))
                scale = 0.2 * max(shape) ** 0.5
                for (matrix, _), update in zip(pairs, updates, strict=True):
                    matrix.mul_(1 - group["lr"] * group["weight_decay"])
                    matrix.add_(update, alpha=-group["lr"] * scale)


def orthogonal(matrices: Tensor, *, steps: int = 4) -> Tensor:
    """Move singular values towards one by Newton-Schulz iteration.

    Args:
        matrices: [N, R, C].
        steps: Iterations.

    Returns:
        [N, R, C] with the same singular vectors.
    """
    tall = matrices.shape[1] > matrices.shape[2]
    x: Tensor = matrices.mT if tall else matrices
    x = x / x.flatten(1).norm(dim=1).clamp_min(1e-7)[:, None, None]
    a, b, c = _COEFFICIENTS
    for _ in range(steps):
        gram = x @ x.mT
        x = a * x + (b * gram + c * gram @ gram) @ x
    return x.mT if tall else x


class Descent:
    """Takes optimizer steps on a model and reports the mean loss now and then.

    Args:
        model: Modules inside a list named `layer` or `layers` are the Transformer layers.
        name: Begins each line of progress.
        steps: Length of the schedule.
        learning_rate: Peak rate, after a short warm-up; falls to 2 % along a cosine.
        say: Receives the lines.
    """

    def __init__(
        self, model: nn.Module, *, name: str, steps: int, learning_rate: float, say: Callable[[str], None]
    ) -> None:
        self._model, self._name, self._steps, self._say = model, name, steps, say
        matrices: list[nn.Parameter] = []
        others: list[nn.Parameter] = []
        for key, parameter in model.named_parameters():
            inside = ".layers." in key or ".layer." in key
            (matrices if inside and parameter.ndim == 2 else others).append(parameter)
        self._optimizers = [
            Muon(matrices, learning_rate=learning_rate),
            torch.optim.AdamW(others, lr=learning_rate, betas=(0.9, 0.98), weight_decay=0.0),
        ]
        self._schedules = [torch.optim.lr_scheduler.LambdaLR(each, self._rate) for each in self._optimizers]
        self._began = time.perf_counter()
        self._recent: list[float] = []
        self._taken = 0

    def step(self, loss: Tensor) -> None:
        """Follow the gradient of a scalar loss once."""
        self._model.zero_grad(set_to_none=True)
        torch.autograd.backward(loss)
        nn.utils.clip_grad_norm_(self._model.parameters(), 1.0)
        for optimizer, schedule in zip(self._optimizers, self._schedules, strict=True):
            optimizer.step()
            schedule.step()
        self._taken += 1
        self._recent.append(loss.item())
        if self._taken % 100 == 0 or self._taken == self._steps:
            mean = sum(self._recent) / len(self._recent)
            seconds = time.perf_counter() - self._began
            self._say(f"{self._name}: step {self._taken} mean loss {mean:.4f} after {seconds:.0f} s")
            self._recent.clear()

    def _rate(self, step: int) -> float:
        cosine = 0.5 * (1 + math.cos(math.pi * min(1.0, step / self._steps)))
        return min(1.0, (step + 1) / 40) * (0.02 + 0.98 * cosine)
