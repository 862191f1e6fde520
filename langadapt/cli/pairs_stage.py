"""What `tune` and `domain` have in common on the command line: from recipe and options to a stage."""

from pathlib import Path
from typing import Literal, TypeVar

from langadapt.errors import RecipeError
from langadapt.recipes import DomainStage, LanguageRecipe, TuneStage, override, with_absolute_paths
from langadapt.recipes.find import Found

S = TypeVar("S", bound=TuneStage)


def named_pairs(pairs: list[str] | None) -> list[str]:
    """The pairs of the command line, those that are files as absolute paths."""
    return [str(Path(name).resolve()) if Path(name).exists() else name for name in pairs or []]


def chosen_stage(
    kind: type[S],
    found: Found[LanguageRecipe],
    own: Found[LanguageRecipe],
    pairs: list[str],
    settings: list[str],
) -> S:
    """The stage of a recipe, or the default one, with pairs and settings of the command line.

    Args:
        kind: which stage.
        found: recipe with the stage.
        own: recipe of the student that it begins with.
        pairs: from the command line; none: the recipe's.
        settings: `tune.key=value`, or `domain.key=value`.

    Raises:
        RecipeError: no pairs, a recipe of another language, a setting of another stage.
    """
    name: Literal["domain", "tune"] = "domain" if issubclass(kind, DomainStage) else "tune"
    base = with_absolute_paths(found)
    if found.recipe.code != own.recipe.code:
        theirs = own.recipe.code
        raise RecipeError(f"{found.path} is for '{found.recipe.code}', the student speaks '{theirs}'")
    stage = getattr(base, name)
    if pairs:
        named = {"pairs": tuple(pairs)}
        stage = kind(pairs=tuple(pairs)) if stage is None else stage.model_copy(update=named)
    if stage is None:
        raise RecipeError(f"{found.path}: has no {name} stage; name your images and captions: --pairs FILE")
    wrong = next((item for item in settings if not item.startswith(f"{name}.")), None)
    if wrong is not None:
        raise RecipeError(f"--set {wrong}: only values of this stage can change, such as {name}.epochs=5")
    ready = Found(recipe=base.model_copy(update={name: stage}), path=found.path, shipped=True)
    changed = getattr(override(ready, settings).recipe, name)
    assert isinstance(changed, kind)
    return changed
