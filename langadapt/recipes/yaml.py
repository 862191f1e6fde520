"""YAML 1.2 with strict types: `5e-4` is a number, `no` is a text, an unknown or repeated key is an error."""

import difflib
import io
import json
import re
from pathlib import Path
from typing import Annotated, Any, TypeVar

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError
from pydantic_core import ErrorDetails
from ruamel.yaml import YAML
from ruamel.yaml.constructor import ConstructorError, SafeConstructor
from ruamel.yaml.error import YAMLError
from ruamel.yaml.nodes import MappingNode

from langadapt.errors import RecipeError
from langadapt.files.json import read_bytes


class Spec(BaseModel):
    """Base of every recipe object: frozen, strict (no text to number), no key that is not in the schema."""

    # The lines below each attribute are what editors show: authoring.recipe_schema.
    model_config = ConfigDict(
        frozen=True, strict=True, extra="forbid", protected_namespaces=(), use_attribute_docstrings=True
    )


S = TypeVar("S", bound=Spec)


def _full_hash(value: str) -> str:
    if not re.fullmatch(_HASH, value):
        raise ValueError("expected a full commit hash of 40 hex digits")
    return value


_HASH = "^[0-9a-f]{40}$"
LanguageCode = Annotated[str, Field(pattern=r"^[a-z]{2,3}(-[a-z]{4})?$")]
"""ISO 639-1 where it exists, else ISO 639-3; a second script of the language follows it: `zh-hant`."""
CommitHash = Annotated[str, AfterValidator(_full_hash), Field(json_schema_extra={"pattern": _HASH})]

# The parser takes 20 microseconds a character.
_MOST_CHARACTERS, _MOST_VALUES, _MOST_MERGED = 300_000, 200_000, 1_000


class _Constructor(SafeConstructor):
    """Refuses chains of merge keys: each level may hold twice as many keys."""

    def flatten_mapping(self, node: MappingNode) -> None:
        super().flatten_mapping(node)
        if getattr(node, "merge", None) and len(node.value) > _MOST_MERGED:
            problem = f"merge keys make more than {_MOST_MERGED:,} keys"
            raise ConstructorError(problem=problem, problem_mark=node.start_mark)


def read_yaml(path: Path) -> dict[str, Any]:
    """Read one mapping from a YAML 1.2 file of bounded size, without repeated keys."""
    try:
        text = read_bytes(path, most_bytes=4 * _MOST_CHARACTERS).decode()
    except FileNotFoundError:
        raise RecipeError(f"{path}: no such recipe file") from None
    except IsADirectoryError as error:
        raise RecipeError(f"{path}: is a folder; a recipe is a YAML file") from error
    except UnicodeDecodeError as error:
        raise RecipeError(f"{path}: byte {error.start} is not UTF-8; save the recipe as UTF-8") from error
    except OSError as error:
        raise RecipeError(f"{path}: cannot be read: {error.strerror}") from error
    if len(text) > _MOST_CHARACTERS:
        raise RecipeError(f"{path}: {len(text):,} characters are no recipe; {_MOST_CHARACTERS:,} are allowed")
    try:
        yaml = YAML(typ="safe", pure=True)
        yaml.Constructor = _Constructor
        values = yaml.load(text)
    except YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f" line {mark.line + 1}" if mark else ""
        problem = getattr(error, "problem", None) or str(error).splitlines()[0]
        raise RecipeError(f"{path}:{where} not valid YAML: {problem}") from error
    except RecursionError as error:
        raise RecipeError(f"{path}: not valid YAML: nested too deep") from error
    except (ValueError, KeyError, TypeError, AttributeError, IndexError, AssertionError) as error:
        # The library's own faults at odd documents: a date of month 13, a number without digits.
        raise RecipeError(f"{path}: not valid YAML: {str(error).splitlines()[0] or error!r}") from error
    _check_size(values, path)
    if not isinstance(values, dict):
        raise RecipeError(f"{path}: expected a mapping of keys, got {type(values).__name__}")
    return values


def _check_size(values: object, path: Path) -> None:
    """Refuse what grows without end once its aliases are written out; what holds itself `parse` refuses."""
    sizes: dict[int, int] = {}

    def size(value: object) -> int:
        if not isinstance(value, dict | list):
            return 1
        if id(value) not in sizes:
            sizes[id(value)] = 0  # until it is known, and if it holds itself
            inner = [*value.keys(), *value.values()] if isinstance(value, dict) else value
            sizes[id(value)] = 1 + sum(map(size, inner))
        return sizes[id(value)]

    if size(values) > _MOST_VALUES:
        raise RecipeError(f"{path}: its aliases stand for more than {_MOST_VALUES:,} values; write less")


def parse(schema: type[S], values: dict[str, Any], *, where: str) -> S:
    """Turn a mapping of plain YAML or JSON into a frozen recipe object.

    A RecipeError has one line per fault: `file: key: what was expected, what was found`.
    """
    try:
        # Through JSON, because strict mode then still takes a YAML list for a tuple.
        return schema.model_validate_json(json.dumps(values, allow_nan=False))
    except ValidationError as error:
        lines = dict.fromkeys(f"{where}: {_explain(schema, item)}" for item in error.errors())
        raise RecipeError("\n".join(lines)) from error
    except (TypeError, ValueError) as error:
        raise RecipeError(f"{where}: a value has no plain type: {error}") from error


def dump_recipe(spec: Spec, *, defaults: bool = True) -> str:
    """Return a recipe as YAML text that reads back to an equal object; without `defaults`, what differs."""
    yaml = YAML(typ="safe", pure=True)
    yaml.allow_unicode = True
    setattr(yaml, "default_flow_style", False)  # noqa: B010 - typed as None by the library
    setattr(yaml, "sort_base_mapping_type_on_output", False)  # noqa: B010
    setattr(yaml, "width", _MOST_CHARACTERS)  # noqa: B010 - a folded text loses double spaces
    out = io.StringIO()
    yaml.dump(spec.model_dump(mode="json", exclude_none=True, exclude_defaults=not defaults), out)
    return out.getvalue()


_EXPECTED = {
    "int_type": "int",
    "int_from_float": "int",
    "float_type": "number",
    "string_type": "text",
    "bool_type": "true or false",
    "list_type": "list",
    "tuple_type": "list",
    "dict_type": "mapping",
    "model_type": "mapping",
    "model_attributes_type": "mapping",
}


def _explain(schema: type[BaseModel], item: ErrorDetails) -> str:
    key = ".".join(str(part) for part in item["loc"])
    if item["type"] == "extra_forbidden":
        known = _keys_at(schema, item["loc"][:-1])
        near = difflib.get_close_matches(str(item["loc"][-1]), known, n=1, cutoff=0.5)
        return f"{key}: unknown key" + (f"; did you mean '{near[0]}'?" if near else "")
    if item["type"] == "missing":
        return f"{key}: required key is missing"
    if item["type"] in _EXPECTED:
        return f"{key}: expected {_EXPECTED[item['type']]}, got {item['input']!r}"
    message = item["msg"].removeprefix("Value error, ")
    head = f"{key}: " if key else ""
    got = repr(item["input"])
    scalar = isinstance(item["input"], str | int | float | bool)
    return f"{head}{message}" + (f", got {got}" if scalar and got not in message else "")


def _keys_at(schema: type[BaseModel], loc: tuple[int | str, ...]) -> list[str]:
    current: type[BaseModel] | None = schema
    for part in loc:
        field = current.model_fields.get(str(part)) if current else None
        kind = field.annotation if field else None
        current = kind if isinstance(kind, type) and issubclass(kind, BaseModel) else None
    return list(current.model_fields) if current else []
