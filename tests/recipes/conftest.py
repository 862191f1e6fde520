"""The shipped recipes, read once."""

import pytest

from langadapt.recipes import LanguageRecipe, find_language, shipped_languages


@pytest.fixture(scope="session")
def languages() -> dict[str, LanguageRecipe]:
    """Every shipped language by its code."""
    return {code: find_language(code).recipe for code in shipped_languages()}
