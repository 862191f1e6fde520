"""One recipe for several languages: one adapter learns all of them."""

from collections.abc import Collection, Iterable, Sequence
from typing import Any

from langadapt.errors import RecipeError
from langadapt.recipes.language import LanguageRecipe

MANY = "mul"
"""Code of a recipe for several languages, as ISO 639 has it."""
_STATED = {"licence", "licence_source", "unverified"}
_LISTED = 5


def joined(recipes: Sequence[LanguageRecipe], own: Collection[str] = ()) -> dict[str, Any]:
    """Return the values of one recipe for several languages: all their data, all their test sets.

    Settings of the distillation in which they differ (often its epochs) take their defaults.

    Args:
        recipes: of one language each, with absolute paths.
        own: keys that the joint recipe states itself, in which theirs may differ.

    Raises:
        RecipeError: no language, one twice or without data, or different models or shapes of the adapter.
    """
    if not recipes:
        raise RecipeError("languages: name at least one")
    first, codes = recipes[0], [recipe.code for recipe in recipes]
    shared = [key for key in ("teacher", "text_model", "adapter") if key not in own]
    for recipe in recipes:
        if codes.count(recipe.code) > 1:
            raise RecipeError(f"languages: '{recipe.code}' is named twice")
        if recipe.languages or not recipe.distill.data:
            problem = "is itself of several languages" if recipe.languages else "has no parallel data"
            raise RecipeError(f"languages: '{recipe.code}' {problem}; leave it out")
        for key in shared:
            if _shared(first, key) != _shared(recipe, key):
                way_out = f"leave one of them out, or write a recipe with `languages` and its own `{key}`"
                raise RecipeError(f"languages: '{first.code}' and '{recipe.code}' differ in {key}; {way_out}")
    values = first.model_dump(mode="json", include={"teacher", "text_model", "text_model_reason", "adapter"})
    settings = [recipe.distill.model_dump(mode="json") for recipe in recipes]
    distill = {
        key: value for key, value in settings[0].items() if all(each[key] == value for each in settings)
    }
    for key in ("data", "english"):
        distill[key] = _union(each[key] for each in settings)
    listed = len(recipes) <= _LISTED
    return {
        **values,
        "languages": codes,
        "each": [one.model_dump(mode="json") for recipe in recipes for one in recipe.members],
        "code": MANY,
        "iso639_3": MANY,
        "name": ", ".join(recipe.name for recipe in recipes) if listed else f"{len(recipes)} languages",
        "native_name": ", ".join(recipe.native_name for recipe in recipes[:_LISTED]),
        "scripts": _union(recipe.scripts for recipe in recipes),
        "distill": distill,
        "evaluate": _union(recipe.evaluate for recipe in recipes),
        "examples": _union(recipe.examples[:1] for recipe in recipes),
    }


def _shared(recipe: LanguageRecipe, key: str) -> Any:
    """Return what of a recipe must be the same in all."""
    return getattr(recipe, key).model_dump(exclude=_STATED)


def _union(parts: Iterable[Iterable[str]]) -> list[str]:
    return list(dict.fromkeys(item for part in parts for item in part))
