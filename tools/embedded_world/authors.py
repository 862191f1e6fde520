"""Who words a caption: everybody has usual words, and takes rarer ones more or less often."""

import random
from collections.abc import Sequence
from typing import TypeVar

Word = TypeVar("Word")


class Author(random.Random):
    """Draws the wording of captions; this one writes the monolingual texts."""

    rare = 0.3
    """How often a rarer word stands for the usual one."""

    def word(self, options: Sequence[Word]) -> Word:
        """Return one of several words for the same thing, the usual one first."""
        if len(options) == 1 or self.random() >= self.rare:
            return options[0]
        return self.choice(options[1:])


class Translator(Author):
    """Words the training sentences: mostly as everybody else does."""

    rare = 0.04


class Describer(Author):
    """Words the captions of the test, often in words that translators hardly use."""

    rare = 0.5
