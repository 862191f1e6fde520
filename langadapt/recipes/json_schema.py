"""JSON Schemas of the recipes, for editors that complete and check YAML while it is written."""

from typing import Any

from langadapt.recipes.data import ClassificationRecipe, PairsRecipe, ParallelRecipe, RetrievalRecipe
from langadapt.recipes.language import LanguageRecipe
from langadapt.recipes.strict_yaml import Spec

_KINDS: dict[str, type[Spec]] = {
    "language": LanguageRecipe,
    "parallel": ParallelRecipe,
    "pairs": PairsRecipe,
    "retrieval": RetrievalRecipe,
    "classification": ClassificationRecipe,
}
KINDS = tuple(_KINDS)
"""What there is a schema of: language recipes, and each kind of data recipe."""

_PLACEHOLDER = {"type": "string", "pattern": r"^\{[a-z][a-z0-9_]*\}$"}


def recipe_schema(kind: str) -> dict[str, Any]:
    """The JSON Schema (draft 2020-12) of one kind of recipe file.

    A data recipe's file holds one recipe, or a family: the same keys with placeholders, and `variants`. In a
    family's template, texts are not looked at closely: what they become is checked when the recipe is read.

    Args:
        kind: one of `KINDS`.
    """
    made = _KINDS[kind].model_json_schema()
    parts = made.pop("$defs", {})
    schema = {"$schema": "https://json-schema.org/draft/2020-12/schema", "title": f"langadapt {kind} recipe"}
    if kind == "language":
        return {**made, **schema, "$defs": parts}
    rows = {"type": "array", "minItems": 1, "items": {"type": "object", "minProperties": 1}}
    family = _loose(made)
    family["properties"]["variants"] = {**rows, "description": "One data recipe per row."}
    family["required"] = [*family.get("required", ()), "variants"]
    loose = {f"{name}Template": _loose(part) for name, part in parts.items()}
    return {**schema, "oneOf": [made, family], "$defs": {**parts, **loose}}


def _loose(part: Any) -> Any:
    """The schema of a template: a placeholder may stand for any value, and any text may hold one."""
    if isinstance(part, list):
        return [_loose(item) for item in part]
    if not isinstance(part, dict):
        return part
    if "$ref" in part:
        return {**part, "$ref": f"{part['$ref']}Template"}
    made: dict[str, Any] = {}
    for key, value in part.items():
        if key == "properties":
            made[key] = {name: _or_placeholder(_loose(schema)) for name, schema in value.items()}
        elif key == "mapping":
            made[key] = {name: f"{reference}Template" for name, reference in value.items()}
        elif not (key == "pattern" and part.get("type") == "string"):
            made[key] = _loose(value)
    return made


def _or_placeholder(schema: dict[str, Any]) -> dict[str, Any]:
    if schema.get("type") == "string" or "const" in schema:
        return schema
    return {"anyOf": [schema, _PLACEHOLDER]}
