"""Find recipes: shipped ones by name, a user's own by path; set values; read data recipe families."""

import csv
import difflib
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any, Generic, Literal, TypeVar

from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from langadapt.errors import RecipeError
from langadapt.files.paths import real_path, user_path
from langadapt.recipes.data import DATA_KINDS, DataCard
from langadapt.recipes.joined import joined
from langadapt.recipes.language import LanguageRecipe
from langadapt.recipes.variants import expand, fill
from langadapt.recipes.yaml import S, Spec, parse, read_yaml

R = TypeVar("R", bound=Spec)
D = TypeVar("D", bound=DataCard)
_FOLDERS = {schema: kind for kind, schema in DATA_KINDS.items()}


@dataclass(frozen=True, kw_only=True)
class RecipeFile(Generic[R]):
    """A recipe and its file; relative paths in the recipe start at `folder`."""

    recipe: R
    path: Path
    shipped: bool

    @property
    def folder(self) -> Path:
        return self.path.parent


def shipped_folder(name: Literal["languages", "data_recipes"]) -> Path:
    """Return the folder of shipped recipes: inside the installed package, beside it in a checkout."""
    package = Path(__file__).parents[1]
    inside = package / name
    return inside if inside.is_dir() else package.parent / name


def shipped_languages() -> list[str]:
    """Return the names of all shipped language recipes, sorted: `zh`, or `zh-e5` for a variant of it."""
    files = {path.stem for path in shipped_folder("languages").glob("*.yaml")}
    return sorted(files | set(language_table(shipped_folder("languages"))))


def find_language(name: str) -> RecipeFile[LanguageRecipe]:
    """Find a language recipe; a RecipeError suggests near names, or says what is wrong inside it.

    The name is a shipped recipe's (`zh`, `zh-e5`), its ISO 639-3 or FLORES-200 code (`zho`, `zho_Hans`), or a
    path with or without `.yaml` (`my/zh.yaml`). Several with commas between them (`zh,de,sw`) are joined.
    """
    folder = shipped_folder("languages")
    if "," in name:
        names = [part.strip() for part in name.split(",")]
        recipe = parse(LanguageRecipe, _joined(names, Path()), where=name)
        stem = "-".join(recipe.languages) if len(names) <= _NAMED else f"{len(names)}-languages"
        return RecipeFile(recipe=recipe, path=Path(stem), shipped=True)
    if path := _path_of(name):
        shipped = path.is_file() and real_path(path.parent) == real_path(folder)
        values = shipped_values(path.stem) if shipped else read_yaml(path)
        if isinstance(listed := values.get("languages"), list) and "code" not in values:
            own = {key: value for key, value in values.items() if key != "languages"}
            values = _merged(_joined([*map(str, listed)], path.parent, {*own}), own)
        recipe = parse(LanguageRecipe, values, where=str(path))
        return RecipeFile(recipe=recipe, path=path, shipped=shipped)
    if name not in shipped_languages():
        rows = language_table(folder).values()
        others = [(row[key][:length], row["code"]) for row in rows for key, length in _OTHER_CODES]
        codes = {other: code for other, code in reversed(others) if other}
        if name not in codes:
            raise RecipeError(
                f"no language '{name}'{_near_language(name)}; `langadapt languages list` shows all, "
                "`langadapt languages new CODE` starts another, and your own recipe is a path: my/zh.yaml"
            )
        name = codes[name]
    path = folder / f"{name}.yaml"
    recipe = parse(LanguageRecipe, shipped_values(name), where=str(path))
    return RecipeFile(recipe=recipe, path=path, shipped=True)


_NAMED = 5
"""So many codes of joined languages make the name of their run; of more their number does."""


def _joined(names: Sequence[str], folder: Path, own: Collection[str] = ()) -> dict[str, Any]:
    paths = (str((folder / user_path(name)).absolute()) if _path_of(name) else name for name in names)
    return joined([with_absolute_paths(find_language(name)) for name in paths], own)


_OTHER_CODES = (("flores", 8), ("flores", 3), ("iso639_3", 3))


@cache
def language_table(folder: Path) -> dict[str, dict[str, str]]:
    """Return the rows of `table.tsv` by language code, each by column; empty where there is no table."""
    path = folder / "table.tsv"
    if not path.is_file():
        return {}
    lines = [line for line in path.read_text("utf-8").splitlines() if not line.startswith("#")]
    return {row["code"]: row for row in csv.DictReader(lines, delimiter="\t", quoting=csv.QUOTE_NONE)}


def words_of(code: str) -> dict[str, str]:
    """Return the words of the demo page in a language; `search`, `picture` or `similar` may be missing."""
    row = language_table(shipped_folder("languages")).get(code, {})
    return {name: row[name].rstrip("*") for name in ("search", "picture", "similar") if row.get(name)}


def universal_recipe() -> RecipeFile[LanguageRecipe]:
    """Return the joint recipe of all shipped languages whose text model is the aligned one of the table."""
    template = _derived_template(Path(__file__).with_name("templates") / "derived.yaml")
    repo, table = template["xlmr"]["text_model"]["repo"], language_table(shipped_folder("languages"))
    names = [name for name in table if find_language(name).recipe.text_model.repo == repo]
    return replace(find_language(",".join(names)), path=Path("universal"))


def shipped_values(name: str) -> dict[str, Any]:
    """Return a shipped language recipe as plain values.

    They follow from the language's row of the table; the file of its name adds to them or changes them; a
    variant (`zh-e5`) changes those of its language in the same way.
    """
    row, (language, dash, _) = language_table(shipped_folder("languages")).get(name), name.rpartition("-")
    values = _derived(row) if row else shipped_values(language) if dash else {}
    path = shipped_folder("languages") / f"{name}.yaml"
    return _merged(values, read_yaml(path)) if path.is_file() else values


def _derived(row: dict[str, str]) -> dict[str, Any]:
    template = _derived_template(Path(__file__).with_name("templates") / "derived.yaml")
    seen_by = "xlmr" if row["xlmr"] else "glot500" if row["glot500"] else "unseen"
    values: dict[str, Any] = fill({**template["every"], **template[seen_by]}, row)
    code, scripts = row["code"], row["scripts"].split()
    return {
        **values,
        "scripts": scripts,
        "direction": "rtl" if scripts[0] in _RIGHT_TO_LEFT else "ltr",
        "distill": {"data": [f"{family}-en-{code}" for family in row["data"].split()]},
        "evaluate": [f"{family}-{code}" for family in row["tests"].split()],
    }


_RIGHT_TO_LEFT = ("Arab", "Hebr")


_derived_template = cache(read_yaml)


def _merged(values: dict[str, Any], changes: dict[str, Any]) -> dict[str, Any]:
    nested = {key: values[key] for key in changes if isinstance(values.get(key), dict)}
    both = {key: _merged(value, changes[key]) for key, value in nested.items()}
    return {**values, **changes, **both}


def data_recipe(schema: type[D], name: str, *, folder: Path | None = None) -> RecipeFile[D]:
    """Find a data recipe; a RecipeError suggests near names, or says what is wrong inside it.

    The name is a shipped one, or a path; a relative path starts at `folder`, or at the current folder.
    """
    kind = _FOLDERS[schema]
    path = _path_of(name, start=folder)
    if path is not None:
        return _recipe_file(schema, path, path.stem, read_yaml(path))
    for path in _shipped_files(schema):
        if f"{name}-".startswith(f"{path.stem}-") and name in (recipes := _recipes_in(path)):
            return _recipe_file(schema, path, name, recipes[name])
    raise RecipeError(
        f"no {kind} data recipe '{name}'{_near(name, _shipped(schema))}; "
        f"your own recipe is a path ending in .yaml, seen from {folder or 'this folder'}"
    )


def all_data_recipes(schema: type[D]) -> list[RecipeFile[D]]:
    """Return every shipped data recipe of one kind, by name; raise a RecipeError for a fault in one."""
    files = sorted(_shipped(schema).items())
    return [_recipe_file(schema, path, name, _recipes_in(path)[name]) for name, path in files]


def _shipped_files(schema: type[DataCard]) -> list[Path]:
    return sorted((shipped_folder("data_recipes") / _FOLDERS[schema]).glob("*.yaml"))


def _shipped(schema: type[DataCard]) -> dict[str, Path]:
    return {name: path for path in _shipped_files(schema) for name in _recipes_in(path)}


def _recipe_file(schema: type[D], path: Path, name: str, values: dict[str, Any]) -> RecipeFile[D]:
    recipe = parse(schema, values, where=str(path) if name == path.stem else f"{path}: {name}")
    if recipe.name != name:
        raise RecipeError(f"{path}: name: '{recipe.name}' must equal the file's name '{name}'")
    if not f"{name}-".startswith(f"{path.stem}-"):
        raise RecipeError(f"{path}: name: '{name}' must start with the file's name '{path.stem}-'")
    shipped = path.parent == shipped_folder("data_recipes") / _FOLDERS[schema]
    return RecipeFile(recipe=recipe, path=path, shipped=shipped)


@cache
def _recipes_in(path: Path) -> dict[str, dict[str, Any]]:
    """Read the data recipes of a file, one or a family, as plain values by name."""
    values = read_yaml(path)
    if values.get("variants") == "languages":
        left_out = values.pop("without", ())
        table = language_table(shipped_folder("languages")).values()
        values["variants"] = [
            {"language": row["name"], **{name: row[name] for name in ("code", "flores")}}
            for row in table
            if row["flores"] and row["code"] not in left_out
        ]
    return expand(values, where=str(path)) if "variants" in values else {path.stem: values}


def _path_of(name: str, *, start: Path | None = None) -> Path | None:
    if not ("/" in name or "\\" in name or name.endswith((".yaml", ".yml"))):
        return None
    path = (start or Path()) / user_path(name)
    return path if path.suffix in (".yaml", ".yml") else path.with_name(path.name + ".yaml")


def is_local_name(name: str) -> bool:
    """Tell the name of a folder from `org/name` on the Hub: by its form, or as its parent folder is here."""
    first, *rest = name.split("/")
    return first in ("", ".", "..", "runs") or first[0] in ".~" or len(rest) != 1 or Path(first).is_dir()


def _near(name: str, known: Iterable[str]) -> str:
    near = difflib.get_close_matches(name, list(known), n=3, cutoff=0.4)
    return f"; near: {', '.join(near)}" if near else ""


def _near_language(name: str) -> str:
    names = names_of_languages()
    near = difflib.get_close_matches(name.casefold(), names, n=3, cutoff=0.75)
    if near:
        return f"; near: {', '.join(dict.fromkeys(names[item] for item in near))}"
    return _near(name, shipped_languages()) if len(name.partition("-")[0]) <= 3 else ""


@cache
def names_of_languages() -> dict[str, str]:
    """Return the shipped recipe's name by what its language is called; the language before its variants."""
    names: dict[str, str] = {}
    for shipped in shipped_languages():
        recipe = shipped_values(shipped)
        for key in ("name", "native_name", "iso639_3"):
            names.setdefault(str(recipe.get(key, shipped)).partition(" (")[0].casefold(), shipped)
    return names


def override(recipe_file: RecipeFile[LanguageRecipe], settings: Sequence[str]) -> RecipeFile[LanguageRecipe]:
    """Return the same recipe with some values set, as `with_values` does."""
    return replace(recipe_file, recipe=with_values(LanguageRecipe, recipe_file.recipe, settings))


def with_values(schema: type[S], recipe: S, settings: Sequence[str]) -> S:
    """Return a copy with values set: `dotted.key=value`, the value as YAML: `text_model.trains={last: 2}`."""
    values = recipe.model_dump(mode="json")
    for setting in settings:
        key, equals, text = setting.partition("=")
        if not equals or not key.strip():
            raise RecipeError(f"--set {setting}: expected KEY=VALUE, for example distill.epochs=3")
        try:
            value = YAML(typ="safe", pure=True).load(text)
        except YAMLError as error:
            raise RecipeError(f"--set {setting}: the value is not valid YAML") from error
        *above, last = key.strip().split(".")
        part: Any = values
        for name in above:
            part = part.get(name) if isinstance(part, dict) else None
        if not isinstance(part, dict):
            raise RecipeError(f"--set {setting}: the recipe has no '{'.'.join(above)}'")
        part[last] = value
    return parse(schema, values, where="--set") if settings else recipe


TABLES = (".tsv", ".csv", ".jsonl", ".parquet", ".tar", ".gz", ".bz2", ".zst")


def with_absolute_paths(recipe_file: RecipeFile[LanguageRecipe]) -> LanguageRecipe:
    """Return the recipe with every relative path made absolute, so that it can be read from anywhere."""
    recipe = recipe_file.recipe
    if recipe_file.shipped:
        return recipe
    folder = real_path(recipe_file.folder)

    def data_path(name: str) -> str:
        is_path = "/" in name or name.endswith((".yaml", ".yml", *TABLES))
        return str(folder / user_path(name)) if is_path else name

    def model_path(repo: str) -> str:
        local = folder / user_path(repo)
        return str(local) if local.is_dir() or repo.startswith(("./", "../", "~")) else repo

    return with_paths(recipe, data_path, model_path)


def with_paths(
    recipe: LanguageRecipe, data: Callable[[str], str], model: Callable[[str], str]
) -> LanguageRecipe:
    """Return the recipe with the names of all data and of all models replaced."""
    return recipe.model_copy(
        update={
            "teacher": recipe.teacher.model_copy(update={"repo": model(recipe.teacher.repo)}),
            "text_model": recipe.text_model.model_copy(update={"repo": model(recipe.text_model.repo)}),
            "distill": recipe.distill.with_paths(data, model),
            "align": recipe.align and recipe.align.with_paths(data),
            "tune": recipe.tune and recipe.tune.with_paths(data),
            "domain": recipe.domain and recipe.domain.with_paths(data),
            "evaluate": tuple(map(data, recipe.evaluate)),
        }
    )
