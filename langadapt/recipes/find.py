"""From a name to a recipe: shipped ones by name, a user's own by path."""

import difflib
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Generic, Literal, TypeVar

from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from langadapt.errors import RecipeError
from langadapt.recipes.data import (
    ClassificationRecipe,
    DataCard,
    PairsRecipe,
    ParallelRecipe,
    RetrievalRecipe,
)
from langadapt.recipes.language import LanguageRecipe
from langadapt.recipes.yaml import S, Spec, parse, read_yaml

Kind = Literal["parallel", "pairs", "retrieval", "classification"]

R = TypeVar("R", bound=Spec)

D = TypeVar("D", bound=DataCard)

_SCHEMAS: dict[str, type[DataCard]] = {
    "parallel": ParallelRecipe,
    "pairs": PairsRecipe,
    "retrieval": RetrievalRecipe,
    "classification": ClassificationRecipe,
}


@dataclass(frozen=True, kw_only=True)
class RecipeFile(Generic[R]):
    """A recipe and where it lies: relative paths in it start at `folder`."""

    recipe: R
    path: Path
    shipped: bool

    @property
    def folder(self) -> Path:
        return self.path.parent


def shipped_folder(name: Literal["languages", "data_recipes"]) -> Path:
    """The folder of shipped recipes: inside the installed package, beside it in a checkout."""
    package = Path(__file__).parents[1]
    inside = package / name
    return inside if inside.is_dir() else package.parent / name


def shipped_languages() -> list[str]:
    """Codes of all shipped languages, sorted."""
    return sorted(path.stem for path in shipped_folder("languages").glob("*.yaml"))


def shipped_data_recipes(kind: Kind) -> list[str]:
    """Names of all shipped data recipes of one kind, sorted."""
    return sorted(_shipped(kind))


def find_language(name: str) -> RecipeFile[LanguageRecipe]:
    """Finds a language recipe.

    Args:
        name: a shipped code (`zh`), or a path with or without `.yaml` (`my/zh.yaml`, `quickstart/zh`).

    Raises:
        RecipeError: no such recipe (near names are suggested) or a fault inside it.
    """
    own = _path_of(name)
    path = own or shipped_folder("languages") / f"{name}.yaml"
    if own is None and not path.is_file():
        raise RecipeError(
            f"no language '{name}'{_near_language(name)}; `langadapt languages list` shows all, "
            "`langadapt languages new CODE` starts another, and your own recipe is a path: my/zh.yaml"
        )
    recipe = parse(LanguageRecipe, read_yaml(path), where=str(path))
    _check_stem(path, recipe.code, "code")
    return RecipeFile(recipe=recipe, path=path, shipped=path.parent == shipped_folder("languages"))


def data_recipe(schema: type[D], name: str, *, folder: Path | None = None) -> RecipeFile[D]:
    """Finds a data recipe.

    Args:
        schema: ParallelRecipe, PairsRecipe, RetrievalRecipe or ClassificationRecipe.
        name: a shipped name, or a path; a relative path starts at `folder`.
        folder: folder of the recipe that names it; None is the current folder.

    Raises:
        RecipeError: no such recipe (near names are suggested) or a fault inside it.
    """
    kind = next(key for key, value in _SCHEMAS.items() if value is schema)
    path = _path_of(name, start=folder)
    if path is not None:
        recipe = parse(schema, read_yaml(path), where=str(path))
        _check_stem(path, recipe.name, "name")
        return RecipeFile(
            recipe=recipe, path=path, shipped=path.parent == shipped_folder("data_recipes") / kind
        )
    known = _shipped(kind)
    if name not in known:
        raise RecipeError(
            f"no {kind} data recipe '{name}'{_near(name, known)}; "
            f"your own recipe is a path ending in .yaml, seen from {folder or 'this folder'}"
        )
    return _read_shipped(schema, name, known[name])


def all_data_recipes(schema: type[D]) -> list[RecipeFile[D]]:
    """Every shipped data recipe of one kind, by name.

    Raises:
        RecipeError: a fault inside one of them.
    """
    kind = next(key for key, value in _SCHEMAS.items() if value is schema)
    return [_read_shipped(schema, name, path) for name, path in sorted(_shipped(kind).items())]


def _read_shipped(schema: type[D], name: str, path: Path) -> RecipeFile[D]:
    if not is_family(path):
        recipe = parse(schema, read_yaml(path), where=str(path))
        _check_stem(path, recipe.name, "name")
    else:
        recipe = parse(schema, read_family(path)[name], where=f"{path}: {name}")
        if not name.startswith(f"{path.stem}-"):
            raise RecipeError(f"{path}: name: '{name}' must start with the file's name '{path.stem}-'")
    return RecipeFile(recipe=recipe, path=path, shipped=True)


def _shipped(kind: str) -> dict[str, Path]:
    """The file of each shipped data recipe of one kind, by the recipe's name."""
    files: dict[str, Path] = {}
    for path in sorted((shipped_folder("data_recipes") / kind).glob("*.yaml")):
        files.update(dict.fromkeys(read_family(path) if is_family(path) else [path.stem], path))
    return files


def _path_of(name: str, *, start: Path | None = None) -> Path | None:
    """The path that a user means; None where it is the name of a shipped recipe."""
    looks_like_path = "/" in name or name.endswith((".yaml", ".yml")) or "\\" in name
    if not looks_like_path:
        return None
    path = (start or Path()) / Path(name).expanduser()
    if path.suffix not in (".yaml", ".yml"):
        path = path.with_name(path.name + ".yaml")
    return path


def _check_stem(path: Path, value: str, key: str) -> None:
    if value != path.stem:
        raise RecipeError(f"{path}: {key}: '{value}' must equal the file's name '{path.stem}'")


def _near(name: str, known: Iterable[str]) -> str:
    near = difflib.get_close_matches(name, list(known), n=3, cutoff=0.4)
    return f"; near: {', '.join(near)}" if near else ""


def _near_language(name: str) -> str:
    """Codes of languages whose name (English or own) or ISO 639-3 code is near, else codes that are near."""
    called = _called()
    near = difflib.get_close_matches(name.casefold(), called, n=3, cutoff=0.75)
    codes = list(dict.fromkeys(called[item] for item in near))
    if codes:
        return f"; near: {', '.join(codes)}"
    return _near(name, shipped_languages()) if len(name) <= 3 else ""


@cache
def _called() -> dict[str, str]:
    """What the shipped languages are called, and their codes."""
    called: dict[str, str] = {}
    for code in shipped_languages():
        recipe = read_yaml(shipped_folder("languages") / f"{code}.yaml")
        for key in ("name", "native_name", "iso639_3"):
            called[str(recipe.get(key, code)).partition(" (")[0].casefold()] = code
    return called


_TABLES = (".tsv", ".csv", ".jsonl", ".parquet", ".tar", ".gz", ".zst")


def override(found: RecipeFile[LanguageRecipe], settings: Sequence[str]) -> RecipeFile[LanguageRecipe]:
    """The same recipe with some values set.

    Args:
        found: the recipe.
        settings: `dotted.key=value`, the value as YAML: `adapter.layers=4`, `text_model.trains={last: 2}`.

    Raises:
        RecipeError: no `=`, an unknown key or a value of the wrong type.
    """
    recipe = with_values(LanguageRecipe, found.recipe, settings, where=str(found.path))
    return RecipeFile(recipe=recipe, path=found.path, shipped=found.shipped)


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


def with_absolute_paths(found: RecipeFile[LanguageRecipe]) -> LanguageRecipe:
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
