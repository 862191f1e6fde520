"""The first version of a new language's recipe: what is known is filled in, what is not must be."""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Literal

from langadapt.errors import RecipeError
from langadapt.recipes.data import ClassificationRecipe, PairsRecipe, ParallelRecipe, RetrievalRecipe
from langadapt.recipes.find import shipped_folder, shipped_languages
from langadapt.recipes.language import LanguageRecipe
from langadapt.recipes.yaml import Spec

_LANGUAGE = """\
# A new language. What is empty must be filled in: until then the recipe does not load, and says so.
# `langadapt languages show sw` prints a finished one with all its values.
code: "{code}"  # ISO 639-1 where it exists, else ISO 639-3; the file's name
name:  # in English
native_name:  # as its speakers write it
iso639_3:  # three letters: https://iso639-3.sil.org/code_tables/639/data
scripts: []  # ISO 15924, the usual one first: [Latn], [Cyrl], [Arab], [Deva], [Ethi]
direction: ltr  # rtl for Arabic, Hebrew, N'Ko, ...

teacher:
  repo: openai/clip-vit-base-patch32
  # refs/pr/66, the same weights as safetensors: main (3d74acf) has them only pickled.
  revision: c237dc49a33fc61debc9276459120b7eac67e7ef
  licence: unknown  # none on the Hub page; the MIT licence of github.com/openai/CLIP is that of the code
  licence_source: https://huggingface.co/openai/clip-vit-base-patch32/discussions/72

# XLM-R if it saw the language: https://github.com/facebookresearch/fairseq/blob/main/examples/xlmr/README.md
# lists its 100. Otherwise Glot500, if its table counts sentences of it
# (https://github.com/cisnlp/Glot500/blob/main/miscellaneous/languages_stats.csv):
#   repo: cis-lmu/glot500-base
#   revision: d4d7c1ec01828fdf7452a4ccf7b55177aced175e
#   licence: Apache-2.0
#   licence_source: https://huggingface.co/cis-lmu/glot500-base
text_model:
  repo: FacebookAI/xlm-roberta-base
  revision: e73636d4f797dec63c3081bb6ed5c7b0bb3f2089
  licence: MIT
  licence_source: https://huggingface.co/FacebookAI/xlm-roberta-base
  # trains: {{last: 2}}  # when the text model hardly knows the language, something of it must train
text_model_reason:  # what this text model saw of the language, and where that was read

distill:
  data: [./{code}-parallel.yaml]  # several, also shipped ones by name

# Zero-shot templates in the language, five or more, each with {{label}} once. The label comes as in a
# dictionary: leave it its form, for example behind a colon. A comment says what a speaker should check.
prompts: []
#  - "photo: {{label}}"

# Test sets: shipped ones by name (`crossmodal-3600-xx`, `flores-200-xx`) or a recipe of your own. Your own
# captions need none: langadapt eval runs/{code} --captions mine.csv --images photos/
evaluate: []

# Four or five short search queries, as people would type them.
examples: []
"""

_PARALLEL = """\
# English sentences and their translations. TSV, CSV, JSON Lines or Parquet (kind: files), two files whose
# lines correspond (kind: aligned, english:, target:), or a Hub data set (kind: hub, repo:, revision:).
# `langadapt languages check` compares what stands here with the Hub.
name: {code}-parallel
title:  # as its makers call it
language: "{code}"
homepage:  # where it comes from: https://...
licence: unknown  # SPDX id where one exists
licence_source:  # where the licence was read; without it write `unverified: true`
source:
  kind: files
  paths: [{code}-parallel.tsv]  # from this recipe's folder
columns:
  english: english
  target: target
blank_rows: skip
"""


def new_recipe_texts(code: str) -> dict[str, str]:
    """Files with which a new language begins, by file name.

    Args:
        code: ISO 639-1 where it exists, else ISO 639-3. For a shipped language the file is its recipe, to be
            changed.

    Returns:
        `CODE.yaml`, and for a language that is not shipped `CODE-parallel.yaml`.

    Raises:
        RecipeError: not a code of two or three lower-case letters.
    """
    if not re.fullmatch(r"[a-z]{2,3}", code):
        raise RecipeError(f"{code}: expected a code of two or three lower-case letters, ISO 639-1 or 639-3")
    if code in shipped_languages():
        text = (shipped_folder("languages") / f"{code}.yaml").read_text(encoding="utf-8")
        return {f"{code}.yaml": text}
    return {
        f"{code}.yaml": _LANGUAGE.format(code=code),
        f"{code}-parallel.yaml": _PARALLEL.format(code=code),
    }


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
        """Whether some test set has photos; otherwise only sentences can be scored."""
        return any(recipe.images is not None for recipe in self.retrieval)

    @property
    def tier(self) -> Tier:
        """`captions`: translated captions; `sentences`: at least 100,000 counted rows; `scarce`: less."""
        if any(recipe.captions for recipe in self.parallel):
            return "captions"
        return "sentences" if self.counted_rows >= _MANY_ROWS else "scarce"


def available(
    language: LanguageRecipe, parallel: Iterable[ParallelRecipe], retrieval: Iterable[RetrievalRecipe]
) -> Available:
    """Those of the data recipes that are in a language."""
    own = {language.code, language.iso639_3}
    return Available(
        parallel=tuple(recipe for recipe in parallel if recipe.language in own),
        retrieval=tuple(recipe for recipe in retrieval if recipe.language in own),
    )


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
