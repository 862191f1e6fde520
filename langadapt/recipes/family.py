"""Many data recipes in one file: a recipe with `{placeholders}`, and a table `variants` that fills them."""

import re
from functools import cache
from pathlib import Path
from typing import Any

from langadapt.errors import RecipeError
from langadapt.recipes.strict_yaml import read_yaml

_PLACEHOLDER = re.compile(r"\{([a-z][a-z0-9_]*)\}")
_TABLE = re.compile(r"^variants:", re.MULTILINE)


def is_family(path: Path) -> bool:
    """Whether a YAML file holds a table of variants; a glance at the text, not a parse."""
    return bool(_TABLE.search(path.read_text(encoding="utf-8", errors="replace")))


@cache
def read_family(path: Path) -> dict[str, dict[str, Any]]:
    """The data recipes that a family's file holds, by name, as plain values.

    Raises:
        RecipeError: unreadable, or the table and the recipe do not fit each other.
    """
    return expand(read_yaml(path), where=str(path))


def expand(found: dict[str, Any], *, where: str) -> dict[str, dict[str, Any]]:
    """Fills a family's recipe with each row of its table.

    A text that is nothing but one placeholder takes the row's value with its type, or is left out where the
    row says null; any other text takes the value as text.

    Args:
        found: the file's values; `variants` is a list of mappings, everything else is the recipe.
        where: file name that starts each error line.

    Returns:
        Plain recipes by name, in the order of the table.

    Raises:
        RecipeError: no rows, a row without a value that the recipe asks for or with one that it does not, or
            two rows of one name.

    Example:
        >>> expand({"name": "a-{code}", "rows": "{n}", "variants": [{"code": "de", "n": 5}]}, where="a.yaml")
        {'a-de': {'name': 'a-de', 'rows': 5}}
    """
    recipe = {key: value for key, value in found.items() if key != "variants"}
    rows = found.get("variants")
    if not isinstance(rows, list) or not rows or not all(isinstance(row, dict) and row for row in rows):
        raise RecipeError(f"{where}: variants: expected a list of mappings, one for each data recipe")
    wanted = _placeholders(recipe)
    recipes: dict[str, dict[str, Any]] = {}
    for number, row in enumerate(rows):
        for key in sorted(wanted ^ set(row)):
            problem = "is missing, the recipe asks for it" if key in wanted else "is not used by the recipe"
            raise RecipeError(f"{where}: variants.{number}.{key}: {problem}")
        filled = {key: _fill(value, row) for key, value in recipe.items()}
        filled = {key: value for key, value in filled.items() if value is not None}
        name = str(filled.get("name"))
        if name in recipes:
            raise RecipeError(f"{where}: variants.{number}: a second recipe of the name {name}")
        recipes[name] = filled
    return recipes


def _placeholders(value: Any) -> set[str]:
    if isinstance(value, str):
        return set(_PLACEHOLDER.findall(value))
    parts = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return {name for part in parts for name in _placeholders(part)}


def _fill(value: Any, row: dict[str, Any]) -> Any:
    if isinstance(value, dict):
        filled = {key: _fill(part, row) for key, part in value.items()}
        return {key: part for key, part in filled.items() if part is not None}
    if isinstance(value, list):
        return [part for part in (_fill(part, row) for part in value) if part is not None]
    if not isinstance(value, str):
        return value
    if alone := _PLACEHOLDER.fullmatch(value):
        return row[alone[1]]
    return _PLACEHOLDER.sub(lambda match: str(row[match[1]]), value)
