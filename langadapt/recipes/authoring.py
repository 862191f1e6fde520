"""Write recipes: templates of a new language, what data it has, and JSON Schemas for editors."""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from ruamel.yaml import YAML

from langadapt.errors import RecipeError
from langadapt.recipes.data import DATA_KINDS, ParallelRecipe, RetrievalRecipe
from langadapt.recipes.find import find_language, shipped_languages
from langadapt.recipes.language import DistillStage, LanguageRecipe, ModelRef, TextModelRef
from langadapt.recipes.stages import AlignStage
from langadapt.recipes.yaml import Spec, dump_recipe, parse

_TEMPLATES = Path(__file__).with_name("templates")


def new_recipe_texts(name: str) -> dict[str, str]:
    """Return the files with which a new recipe begins, by file name.

    They are `NAME.yaml`, with all values where the language is shipped, else also `CODE-parallel.yaml`. The
    name is a language's code (ISO 639-1, else ISO 639-3) or a variant of it: `zh-e5`.
    """
    match = re.fullmatch(r"([a-z]{2,3})(-[a-z0-9][a-z0-9._-]*)?", name)
    if match is None:
        raise RecipeError(f"{name}: expected a code of two or three lower-case letters, ISO 639-1 or 639-3")
    code, shipped = match[1], shipped_languages()
    for source in (name, name.rpartition("-")[0], code):
        if source in shipped:
            recipe = find_language(source).recipe
            to_fill = "" if recipe.prompts else _PROMPTS
            return {f"{name}.yaml": dump_recipe(recipe, defaults=False) + to_fill}
    language, parallel = (_template(kind, code) for kind in ("language", "parallel"))
    return {f"{name}.yaml": language, f"{code}-parallel.yaml": parallel}


UNDETERMINED, UNDETERMINED_SCRIPT = "und", "Zyyy"
"""Codes of ISO 639 and ISO 15924 for what nobody has named."""


def new_language(code: str, name: str) -> LanguageRecipe:
    """Return a recipe with the template's models for a language that has none; its data are to be named.

    Raises:
        RecipeError: The code is none.
    """
    values = YAML(typ="safe", pure=True).load(_template("language", code))
    known = {key: value for key, value in values.items() if value}
    known |= {"name": name, "native_name": name, "scripts": [UNDETERMINED_SCRIPT]}
    known["iso639_3"] = code if len(code) == 3 else UNDETERMINED
    return parse(LanguageRecipe, known, where=f"--lang {code} --name {name}")


def plain_recipe(
    image_model: ModelRef,
    text_model: TextModelRef,
    *,
    language: LanguageRecipe | None = None,
    align: AlignStage | None = None,
) -> LanguageRecipe:
    """Return the recipe of two towers that nothing is distilled into: of English, or as `language` has it."""
    models: dict[str, Any] = {"teacher": image_model, "text_model": text_model, "align": align}
    if language is not None:
        later: dict[str, Any] = dict.fromkeys(("tune", "domain", "text_model_reason"))
        return language.model_copy(update={"distill": DistillStage(), **later, **models})
    return LanguageRecipe(
        code="en",
        name="English",
        native_name="English",
        iso639_3="eng",
        scripts=("Latn",),
        prompts=("a photo of a {label}.",),
        examples=("a dog runs on the beach", "two people ride bicycles"),
        **models,
    )


def _template(kind: str, code: str) -> str:
    return (_TEMPLATES / f"{kind}.yaml").read_text(encoding="utf-8").replace("{code}", code)


_PROMPTS = """# Nobody has written these yet; until then class names are embedded bare.
prompts: []  # five or more zero-shot templates in the language, like "photo: {label}"
examples: []  # four or five short search queries
"""

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
        """Whether some test set has photos with captions that people wrote or translated."""
        return self.tests == "images"

    @property
    def tests(self) -> Literal["images", "translated", "sentences"]:
        """What can be scored: photos; photos whose captions a machine translated; translations alone."""
        photos = [recipe for recipe in self.retrieval if recipe.images]
        if all(recipe.machine_translated for recipe in photos):
            return "translated" if photos else "sentences"
        return "images"

    @property
    def tier(self) -> Tier:
        """`captions`: counted caption pairs; `sentences`: at least 100,000 counted rows; `scarce`: less."""
        if any(recipe.captions and recipe.expected_rows for recipe in self.parallel):
            return "captions"
        return "sentences" if self.counted_rows >= _MANY_ROWS else "scarce"


def available(
    language: LanguageRecipe, parallel: Iterable[ParallelRecipe], retrieval: Iterable[RetrievalRecipe]
) -> Available:
    """Choose the data recipes that are in a language; a second script (`ace-arab`) has recipes of its own."""
    codes = {language.code} if "-" in language.code else {language.code, language.iso639_3}
    return Available(
        parallel=tuple(recipe for recipe in parallel if recipe.language in codes),
        retrieval=tuple(recipe for recipe in retrieval if recipe.language in codes),
    )


KINDS: dict[str, type[Spec]] = {"language": LanguageRecipe, **DATA_KINDS}
"""What there is a schema of: language recipes, and each kind of data recipe."""

_PLACEHOLDER = {"type": "string", "pattern": r"^\{[a-z][a-z0-9_]*\}$"}


def recipe_schema(kind: str) -> dict[str, Any]:
    """Return the JSON Schema (draft 2020-12) of one of `KINDS`.

    A data recipe's file holds one recipe, or a family: the same keys with placeholders, and `variants`. What
    a family's texts become is checked when the recipe is read.
    """
    recipe = KINDS[kind].model_json_schema()
    parts = recipe.pop("$defs", {})
    schema = {"$schema": "https://json-schema.org/draft/2020-12/schema", "title": f"langadapt {kind} recipe"}
    if kind == "language":
        return {**recipe, **schema, "$defs": parts}
    rows = {"type": "array", "minItems": 1, "items": {"type": "object", "minProperties": 1}}
    family = _loose(recipe)
    shared = {"const": "languages", "description": "One per language of the table that FLORES-200 has."}
    family["properties"]["variants"] = {"anyOf": [rows, shared], "description": "One data recipe per row."}
    family["properties"]["without"] = {"type": "array", "items": {"type": "string"}}
    family["required"] = [*family.get("required", ()), "variants"]
    loose = {f"{name}Template": _loose(part) for name, part in parts.items()}
    return {**schema, "oneOf": [recipe, family], "$defs": {**parts, **loose}}


def _loose(part: Any) -> Any:
    """Return the schema of a family: a placeholder may stand for any value, and any text may hold one."""
    if isinstance(part, list):
        return [_loose(item) for item in part]
    if not isinstance(part, dict):
        return part
    if "$ref" in part:
        return {**part, "$ref": f"{part['$ref']}Template"}
    loose: dict[str, Any] = {}
    for key, value in part.items():
        if key == "properties":
            loose[key] = {name: _or_placeholder(_loose(schema)) for name, schema in value.items()}
        elif key == "mapping":
            loose[key] = {name: f"{reference}Template" for name, reference in value.items()}
        elif not (key == "pattern" and part.get("type") == "string"):
            loose[key] = _loose(value)
    return loose


def _or_placeholder(schema: dict[str, Any]) -> dict[str, Any]:
    if schema.get("type") == "string" or "const" in schema:
        return schema
    return {"anyOf": [schema, _PLACEHOLDER]}
