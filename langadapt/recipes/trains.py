"""Parts of a tower that train, where a word alone does not say which."""

from langadapt.recipes.numbers import PositiveFloat, PositiveInt
from langadapt.recipes.strict_yaml import Spec


class LastLayers(Spec):
    """Train the last layers of the text model, or of a tower."""

    last: PositiveInt
    """Number of Transformer layers, counted from the output."""


class Lora(Spec):
    """Train low-rank updates of the attention's query and value projections (through peft)."""

    class Size(Spec):
        rank: PositiveInt = 8
        alpha: PositiveFloat = 16.0

    lora: Size
