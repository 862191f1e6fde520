"""What data there is for a language, among the shipped recipes."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from langadapt.recipes.data import ParallelRecipe, RetrievalRecipe
from langadapt.recipes.language import LanguageRecipe

Tier = Literal["captions", "sentences", "scarce"]

_MANY_ROWS = 100_000


@dataclass(frozen=True, kw_only=True)
class Available:
    """The corpora and test sets of one language."""

    parallel: tuple[ParallelRecipe, ...]
    retrieval: tuple[RetrievalRecipe, ...]

    @property
    def counted_rows(self) -> int:
        """Parallel sentences of those corpora whose rows were counted."""
        return sum(recipe.expected_rows or 0 for recipe in self.parallel)

    @property
    def has_images(self) -> bool:
        """Whether some test set has photos; otherwise only sentences can be scored."""
        return any(recipe.images is not None for recipe in self.retrieval)

    @property
    def tier(self) -> Tier:
        """`captions`: translated captions; `sentences`: at least 100,000 counted rows; `scarce`: less."""
        if any(recipe.captions for recipe in self.parallel):
            return "captions"
        return "sentences" if self.counted_rows >= _MANY_ROWS else "scarce"


def available(
    language: LanguageRecipe, parallel: Iterable[ParallelRecipe], retrieval: Iterable[RetrievalRecipe]
) -> Available:
    """Those of the data recipes that are in a language."""
    own = {language.code, language.iso639_3}
    return Available(
        parallel=tuple(recipe for recipe in parallel if recipe.language in own),
        retrieval=tuple(recipe for recipe in retrieval if recipe.language in own),
    )
