"""Many recipes in one file: `{placeholders}` and a table of what differs."""

import re
from typing import Any

from langadapt.errors import RecipeError

_PLACEHOLDER = re.compile(r"\{([a-z][a-z0-9_]*)\}")


def expand(values: dict[str, Any], *, where: str) -> dict[str, dict[str, Any]]:
    """Fill a family's recipe with each row of its table, `variants`.

    A text that is nothing but one placeholder takes the row's value with its type, or is left out where the
    row says null; any other text takes the value as text.

    Raises:
        RecipeError: No rows, a row whose keys are not those that the recipe asks for, or a name twice.

    Example:
        >>> expand({"name": "a-{code}", "rows": "{n}", "variants": [{"code": "de", "n": 5}]}, where="a.yaml")
        {'a-de': {'name': 'a-de', 'rows': 5}}
    """
    recipe = {key: value for key, value in values.items() if key != "variants"}
    rows = values.get("variants")
    if not isinstance(rows, list) or not rows or not all(isinstance(row, dict) and row for row in rows):
        raise RecipeError(f"{where}: variants: expected a list of mappings, one for each data recipe")
    wanted = _placeholders(recipe)
    recipes: dict[str, dict[str, Any]] = {}
    for number, row in enumerate(rows):
        for key in sorted(wanted ^ set(row)):
            problem = "is missing, the recipe asks for it" if key in wanted else "is not used by the recipe"
            raise RecipeError(f"{where}: variants.{number}.{key}: {problem}")
        filled = {key: fill(value, row) for key, value in recipe.items()}
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


def fill(value: Any, row: dict[str, Any]) -> Any:
    """Return a value with its placeholders filled from a row; see `expand`."""
    if isinstance(value, dict):
        filled = {key: fill(part, row) for key, part in value.items()}
        return {key: part for key, part in filled.items() if part is not None}
    if isinstance(value, list):
        return [part for part in (fill(part, row) for part in value) if part is not None]
    if not isinstance(value, str):
        return value
    if alone := _PLACEHOLDER.fullmatch(value):
        return row[alone[1]]
    return _PLACEHOLDER.sub(lambda match: str(row[match[1]]), value)
