"""What commands that learn from pairs have in common: from recipe and options to a stage."""

from pathlib import Path
from typing import Literal, TypeVar

from langadapt.errors import RecipeError
from langadapt.recipes import (
    DomainStage,
    LanguageRecipe,
    TuneStage,
    find_language,
    override,
    with_absolute_paths,
)
from langadapt.recipes.find import Found

S = TypeVar("S", bound=TuneStage)


def chosen_student(start: Path | None, lang: str | None) -> Path:
    """The run folder that `--from` names, or the one of `--lang`."""
    if start is None and lang is None:
        raise RecipeError("say which student to begin with: --from RUN, or --lang CODE for runs/CODE")
    return start or Path("runs") / str(lang)


def named_pairs(pairs: list[str]) -> tuple[str, ...]:
    """The pairs of the command line, those that are files as absolute paths."""
    return tuple(str(Path(name).resolve()) if Path(name).exists() else name for name in pairs)


def chosen_stage(
    kind: type[S], begin: Path, named: str | None, pairs: list[str] | None, settings: list[str] | None
) -> tuple[LanguageRecipe, S]:
    """The student's recipe, and the stage with pairs and settings of the command line.

    Args:
        kind: which stage.
        begin: run folder of the student.
        named: code or path of a recipe with the stage; None takes the student's.
        pairs: from the command line; none: the recipe's.
        settings: `tune.key=value`, or `domain.key=value`.

    Raises:
        RecipeError: no pairs, a recipe of another language, a setting of another stage.
    """
    from langadapt.models import read_artifact

    own = Found(recipe=read_artifact(begin).recipe, path=begin / "recipe.yaml", shipped=True)
    found = own if named is None else find_language(named)
    name: Literal["domain", "tune"] = "domain" if issubclass(kind, DomainStage) else "tune"
    base = with_absolute_paths(found)
    if found.recipe.code != own.recipe.code:
        theirs = own.recipe.code
        raise RecipeError(f"{found.path} is for '{found.recipe.code}', the student speaks '{theirs}'")
    stage = getattr(base, name)
    if pairs:
        said = named_pairs(pairs)
        stage = kind(pairs=said) if stage is None else stage.model_copy(update={"pairs": said})
    if stage is None:
        raise RecipeError(f"{found.path}: has no {name} stage; name your images and captions: --pairs FILE")
    wrong = next((item for item in settings or [] if not item.startswith(f"{name}.")), None)
    if wrong is not None:
        raise RecipeError(f"--set {wrong}: only values of this stage can change, such as {name}.epochs=5")
    ready = Found(recipe=base.model_copy(update={name: stage}), path=found.path, shipped=True)
    changed = getattr(override(ready, settings or []).recipe, name)
    assert isinstance(changed, kind)
    return own.recipe, changed
