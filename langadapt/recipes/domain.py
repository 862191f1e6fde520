"""Domain adaptation: the methods of `tune`, and which pairs are drawn how often."""

from typing import Annotated, Literal

from pydantic import Field, model_validator

from langadapt.recipes.numbers import Fraction, NotNegative
from langadapt.recipes.strict_yaml import Spec
from langadapt.recipes.tune import Methods, TuneStage


class HardSampling(Spec):
    """From the difficulty of a pair to its chance of being drawn, or to its weight in the loss.

    The difficulty lies in 0 to 1. It is measured with the model as it is before the stage, and again in each
    batch that holds the pair.
    """

    difficulty: Literal["chance", "rank"] = "chance"
    """`chance`: one minus the softmax probability of the partner in a batch, mean of both directions. `rank`:
    one minus its reciprocal rank, which is 0 for all that are found first: in small batches nearly all."""
    strength: NotNegative = 0.0
    """Draws follow difficulty ** strength; 0: ordinary epochs, in which each pair comes once. What either
    brings is measured in benchmarks/DOMAIN.md."""
    floor_fraction: Fraction = 0.3
    """Share of the draws (or of the loss, for `instance_strength`) that ignores the difficulty."""
    noise_fraction: Annotated[float, Field(ge=0.0, lt=1.0)] = 0.0
    """The hardest share of the pairs gets the floor alone: set it to about the share of wrong captions, which
    are among them. Where captions are right this only loses what is hard."""
    momentum: Fraction = 0.7
    """Share of the old difficulty that stays when a pair is measured again."""
    uniform_epochs: Annotated[int, Field(ge=0)] = 0
    """Ordinary epochs before the draws follow the difficulty, which is measured meanwhile."""
    instance_strength: NotNegative = 0.0
    """Weighs the pairs in the loss by difficulty ** instance_strength instead of drawing them more often."""

    @model_validator(mode="after")
    def _counted_once(self) -> "HardSampling":
        if self.strength and self.instance_strength:
            raise ValueError("strength and instance_strength would count the difficulty twice: set one to 0")
        return self


class DomainStage(TuneStage):
    """Adaptation to a domain: adapters inside both frozen towers; difficult pairs can be drawn more often."""

    text: Methods = ("adapters",)
    image: Methods = ("adapters",)
    sampling: HardSampling = HardSampling()
    blend: Annotated[float, Field(gt=0.0, le=1.0)] = 1.0
    """Share of the change that is kept at the end; each weight goes back towards the model that it was.
    Less than 1 forgets less of what is general, and gains less."""
