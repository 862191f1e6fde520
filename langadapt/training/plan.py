"""Length and schedule of a run."""

import math
from dataclasses import dataclass
from typing import Self

from langadapt.recipes import ContrastStage, DistillStage
from langadapt.recipes.stages import FewShotStage


@dataclass(frozen=True, kw_only=True)
class FitPlan:
    """Length and schedule of a run, counted in optimizer steps."""

    steps_per_epoch: int
    epochs: int
    warmup_fraction: float
    gradient_clip_norm: float
    seed: int

    @classmethod
    def of(cls, spec: DistillStage | ContrastStage | FewShotStage, epochs: int, steps_per_epoch: int) -> Self:
        """The plan of a recipe's stage."""
        own = {name: getattr(spec, name) for name in ("warmup_fraction", "gradient_clip_norm", "seed")}
        return cls(steps_per_epoch=steps_per_epoch, epochs=epochs, **own)

    @property
    def steps(self) -> int:
        return self.steps_per_epoch * self.epochs

    def rate_factor(self, step: int) -> float:
        """Share of the peak learning rate at a step, counted from 0."""
        warmup = max(1, round(self.warmup_fraction * self.steps))
        if step < warmup:
            return (step + 1) / warmup
        return 0.5 * (1 + math.cos(math.pi * (step - warmup) / max(1, self.steps - warmup)))
