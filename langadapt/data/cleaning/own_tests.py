"""The captions of a language's test sets, as far as they are on this machine."""

from dataclasses import dataclass

from langadapt.data.cleaning.contamination import Captions
from langadapt.data.retrieval import load_captions
from langadapt.errors import MissingDataError
from langadapt.recipes import LanguageRecipe, RetrievalRecipe, data_recipe
from langadapt.recipes.find import Found


@dataclass(frozen=True, kw_only=True)
class OwnTests:
    """Captions of both sides, and one line for each test set that is not here."""

    captions: tuple[Captions, ...]
    missing: tuple[str, ...]


def own_tests(language: Found[LanguageRecipe]) -> OwnTests:
    """Reads the captions of the recipe's test sets."""
    captions: list[Captions] = []
    missing: list[str] = []
    for name in language.recipe.evaluate:
        try:
            captions += captions_of(data_recipe(RetrievalRecipe, name, folder=language.folder))
        except MissingDataError as error:
            missing.append(str(error))
    return OwnTests(captions=tuple(captions), missing=tuple(missing))


def captions_of(recipe: Found[RetrievalRecipe]) -> list[Captions]:
    """Both sides of a test set, or one where it has no English.

    Raises:
        DataError: it is not here, or unreadable.
    """
    found = load_captions(recipe)
    sides = [Captions(set_name=found.name, english=False, texts=found.texts)]
    if found.english:
        sides.append(Captions(set_name=found.name, english=True, texts=found.english))
    return sides
