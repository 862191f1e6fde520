"""From a name to a recipe: shipped ones by name, a user's own by path."""

import difflib
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Generic, Literal, TypeVar

from langadapt.errors import RecipeError
from langadapt.recipes.data import (
    ClassificationRecipe,
    DataCard,
    PairsRecipe,
    ParallelRecipe,
    RetrievalRecipe,
)
from langadapt.recipes.family import is_family, read_family
from langadapt.recipes.language import LanguageRecipe
from langadapt.recipes.strict_yaml import Spec, parse, read_yaml

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
class Found(Generic[R]):
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


def language_codes() -> list[str]:
    """Codes of all shipped languages, sorted."""
    return sorted(path.stem for path in shipped_folder("languages").glob("*.yaml"))


def shipped_data_recipes(kind: Kind) -> list[str]:
    """Names of all shipped data recipes of one kind, sorted."""
    return sorted(_shipped(kind))


def find_language(name: str) -> Found[LanguageRecipe]:
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
    return Found(recipe=recipe, path=path, shipped=path.parent == shipped_folder("languages"))


def data_recipe(schema: type[D], name: str, *, folder: Path | None = None) -> Found[D]:
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
        return Found(recipe=recipe, path=path, shipped=path.parent == shipped_folder("data_recipes") / kind)
    known = _shipped(kind)
    if name not in known:
        raise RecipeError(
            f"no {kind} data recipe '{name}'{_near(name, known)}; "
            f"your own recipe is a path ending in .yaml, seen from {folder or 'this folder'}"
        )
    return _read_shipped(schema, name, known[name])


def all_data_recipes(schema: type[D]) -> list[Found[D]]:
    """Every shipped data recipe of one kind, by name.

    Raises:
        RecipeError: a fault inside one of them.
    """
    kind = next(key for key, value in _SCHEMAS.items() if value is schema)
    return [_read_shipped(schema, name, path) for name, path in sorted(_shipped(kind).items())]


def _read_shipped(schema: type[D], name: str, path: Path) -> Found[D]:
    if not is_family(path):
        recipe = parse(schema, read_yaml(path), where=str(path))
        _check_stem(path, recipe.name, "name")
    else:
        recipe = parse(schema, read_family(path)[name], where=f"{path}: {name}")
        if not name.startswith(f"{path.stem}-"):
            raise RecipeError(f"{path}: name: '{name}' must start with the file's name '{path.stem}-'")
    return Found(recipe=recipe, path=path, shipped=True)


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
    return _near(name, language_codes()) if len(name) <= 3 else ""


@cache
def _called() -> dict[str, str]:
    """What the shipped languages are called, and their codes."""
    called: dict[str, str] = {}
    for code in language_codes():
        recipe = read_yaml(shipped_folder("languages") / f"{code}.yaml")
        for key in ("name", "native_name", "iso639_3"):
            called[str(recipe.get(key, code)).partition(" (")[0].casefold()] = code
    return called
