"""Changes to a recipe from outside: `--set distill.epochs=3`, and relative paths made absolute."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from langadapt.errors import RecipeError
from langadapt.recipes.find import Found
from langadapt.recipes.language import LanguageRecipe
from langadapt.recipes.strict_yaml import S, parse

_TABLES = (".tsv", ".csv", ".jsonl", ".parquet", ".tar", ".gz", ".zst")


def override(found: Found[LanguageRecipe], settings: Sequence[str]) -> Found[LanguageRecipe]:
    """The same recipe with some values set.

    Args:
        found: the recipe.
        settings: `dotted.key=value`, the value as YAML: `adapter.layers=4`, `text_model.trains={last: 2}`.

    Raises:
        RecipeError: no `=`, an unknown key or a value of the wrong type.
    """
    recipe = with_values(LanguageRecipe, found.recipe, settings, where=str(found.path))
    return Found(recipe=recipe, path=found.path, shipped=found.shipped)


def with_values(schema: type[S], recipe: S, settings: Sequence[str], *, where: str = "--set") -> S:
    """A recipe object with some values set; arguments and errors as in `override`."""
    values = recipe.model_dump(mode="json")
    for setting in settings:
        key, equals, text = setting.partition("=")
        if not equals or not key.strip():
            raise RecipeError(f"--set {setting}: expected KEY=VALUE, for example distill.epochs=3")
        try:
            value = YAML(typ="safe", pure=True).load(text)
        except YAMLError as error:
            raise RecipeError(f"--set {setting}: the value is not valid YAML") from error
        place: Any = values
        *above, last = key.strip().split(".")
        for part in above:
            place = place.get(part) if isinstance(place, dict) else None
        if not isinstance(place, dict):
            raise RecipeError(f"--set {setting}: the recipe has no '{'.'.join(above)}'")
        place[last] = value
    return parse(schema, values, where="--set" if settings else where)


def with_absolute_paths(found: Found[LanguageRecipe]) -> LanguageRecipe:
    """The recipe with every relative path in it made absolute, so that it can be read from anywhere."""
    if found.shipped:
        return found.recipe
    folder = found.path.parent.resolve()
    recipe = found.recipe

    def place(name: str) -> str:
        is_path = "/" in name or name.endswith((".yaml", ".yml", *_TABLES))
        return str(folder / Path(name).expanduser()) if is_path else name

    def model(repo: str) -> str:
        local = folder / Path(repo).expanduser()
        return str(local) if local.is_dir() or repo.startswith(("./", "../", "~")) else repo

    return recipe.model_copy(
        update={
            "teacher": recipe.teacher.model_copy(update={"repo": model(recipe.teacher.repo)}),
            "text_model": recipe.text_model.model_copy(update={"repo": model(recipe.text_model.repo)}),
            "distill": recipe.distill.model_copy(update={"data": tuple(map(place, recipe.distill.data))}),
            "tune": recipe.tune and recipe.tune.with_places(place),
            "domain": recipe.domain and recipe.domain.with_places(place),
            "evaluate": tuple(map(place, recipe.evaluate)),
        }
    )
