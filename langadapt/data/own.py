"""A user's own files: which column holds what, and recipes that read them."""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any

from langadapt.data.pixels import SUFFIXES
from langadapt.data.readers import column_names, read_values
from langadapt.data.rows import missing_column
from langadapt.errors import DataError
from langadapt.files.paths import real_path
from langadapt.recipes.data import (
    AlignedFiles,
    CaptionColumns,
    DownloadSource,
    ParallelColumns,
    ParallelRecipe,
    TableFiles,
)
from langadapt.recipes.find import TABLES, RecipeFile, data_recipe
from langadapt.recipes.language import LanguageRecipe

_ROLES = {
    "english": ("the English text", ("en", "eng", "source", "src")),
    "target": ("the translation", ("translation", "translated", "tgt", "trg")),
    "image": ("the image's file name", ("images", "file", "filename", "path", "img", "photo", "picture")),
    "caption": ("the caption", ("captions", "text", "sentence", "description")),
}
"""What a column is for: in words, and under which names it is usual."""

_ENGLISH_WORDS = frozenset({"the", "of", "and", "to", "in", "is", "a", "for", "that", "with", "on", "was"})
_LEAST_ENGLISH = 0.1
"""Share of these words in a column from which it is English: text has a third, other languages hardly any."""
_SAMPLE_ROWS = 200
_SHORTEST_TEXT = 8
_LONGEST_NAME_WORDS = 5


def guess_columns(
    path: Path,
    needed: Sequence[str],
    *,
    optional: Sequence[str] = (),
    names: Iterable[str] = (),
    given: Mapping[str, str] | None = None,
) -> dict[str, str]:
    """Find out which columns of a table hold what, by role: by their names, else by what stands in them.

    `needed` are roles that must be found (`english`, `target`, `image`, `caption`), `optional` ones are taken
    only where a column's name says so; `given` columns are as the user said. `names` are codes and names of
    the language: such a column holds the target or the caption. A DataError says what cannot be guessed.
    """
    columns = _flat_columns(path)
    chosen = dict(given or {})
    for role, column in chosen.items():
        if role not in (*needed, *optional):
            roles = ", ".join((*needed, *optional))
            raise DataError(f"--column {role}={column}: there are the roles {roles}")
        if column not in columns:
            raise missing_column(column, columns, str(path))
    own = {name.casefold() for name in names}
    for role in (*needed, *optional):
        words = {role, *_ROLES[role][1], *(own if role in ("target", "caption") else ())}
        free = [column for column in columns if column not in chosen.values()]
        fits = next(filter(None, (_named(free, role, words, how) for how in range(3))), [])
        if role not in chosen and len(fits) == 1:
            chosen[role] = fits[0]
    if missing := [role for role in needed if role not in chosen]:
        free = [column for column in columns if column not in chosen.values()]
        chosen |= _by_content(path, missing, free)
    for role in needed:
        if role not in chosen:
            held = ", ".join(columns) or "none"
            raise DataError(
                f"{path}: which column holds {_ROLES[role][0]}? There are: {held}; say --column {role}=NAME"
            )
    return chosen


def _flat_columns(path: Path) -> list[str]:
    """Return a table's columns; those inside of nested ones as dotted names."""
    columns = column_names(path)
    long = next((name for name in columns if len(name.split()) > _LONGEST_NAME_WORDS), None)
    if long is not None:
        raise DataError(f"{path}: line 1 must name the columns, such as english and target, not '{long:.40}'")
    if columns and any(part in path.name.lower() for part in (".jsonl", ".parquet")):
        first = next(iter(read_values(path, columns))).values
        nested = zip(columns, first, strict=True)
        columns = [
            name
            for column, value in nested
            for name in ([f"{column}.{key}" for key in value] if isinstance(value, dict) else [column])
        ]
    return columns


def _named(columns: Sequence[str], role: str, words: set[str], how: int) -> list[str]:
    """Return columns of that very name, then those of a usual name, then those whose names contain one."""
    if how == 0:
        return [column for column in columns if column.casefold() == role]
    if how == 1:
        return [column for column in columns if column.casefold() in words]
    return [column for column in columns if words & {*re.split(r"[\W_]+", column.casefold())}]


def _by_content(path: Path, missing: Sequence[str], columns: Sequence[str]) -> dict[str, str]:
    rows = [row.values for row in islice(read_values(path, columns), _SAMPLE_ROWS)] if columns else []
    texts = {
        column: [value for value in values if isinstance(value, str)]
        for column, values in zip(columns, zip(*rows, strict=True), strict=True)
    }
    images = [
        name
        for name, values in texts.items()
        if values and all(value.lower().endswith(SUFFIXES) for value in values)
    ]
    shares = {name: _english_share(values) for name, values in texts.items() if name not in images}
    found: dict[str, str] = {}
    if "image" in missing and len(images) == 1:
        found["image"] = images[0]
    if "english" in missing and shares and max(shares.values()) >= _LEAST_ENGLISH:
        found["english"] = max(shares, key=lambda name: shares[name])
    for role in ("target", "caption"):
        left = [name for name in shares if name not in found.values() and _is_text(texts[name])]
        if role in missing and len(left) == 1:
            found[role] = left[0]
    return found


def _is_text(values: Sequence[str]) -> bool:
    """Whether a column holds sentences: no numbers or dates, no names that come again and again."""
    letters = sum(any(map(str.isalpha, value)) for value in values)
    long = sum(map(len, values)) >= _SHORTEST_TEXT * len(values)
    return 2 * letters > len(values) > 0 and long and 2 * len({*values}) > len(values)


def _english_share(values: Sequence[str]) -> float:
    words = [word.strip(".,;:!?\"'()") for value in values for word in value.lower().split()]
    return sum(word in _ENGLISH_WORDS for word in words) / max(len(words), 1)


def language_names(recipe: LanguageRecipe) -> tuple[str, ...]:
    """Return what a language is called, as a column may be."""
    return (recipe.code, recipe.iso639_3, recipe.name, recipe.native_name)


def own_name(path: Path) -> str:
    """Return the name of a recipe for a file."""
    return re.sub("[^a-z0-9]+", "-", path.name.partition(".")[0].lower()).strip("-") or "own"


def own_sentences(
    paths: Sequence[Path], language: LanguageRecipe, given: Mapping[str, str] | None = None
) -> RecipeFile[ParallelRecipe]:
    """Make the recipe of a user's parallel sentences; refuse columns that cannot be guessed.

    `paths` are tables of the same columns, or two plain files whose lines correspond, the English one first.
    `given` names columns by role (`english`, `target`).
    """
    if language.languages:
        raise DataError(f"--data is of one language, the recipe of {', '.join(language.languages)}")
    for path in paths:
        if not path.is_file():
            raise DataError(f"--data {path}: no such file")
    tables = [path for path in paths if path.name.lower().endswith(TABLES)]
    plain = [str(real_path(path)) for path in paths if path not in tables]
    columns = {}
    source: TableFiles | AlignedFiles
    if len(plain) == len(paths) == 2 and not given:
        source = AlignedFiles(kind="aligned", english=plain[0], target=plain[1])
    elif plain:
        problem = "is no table (.tsv, .csv, .jsonl, .parquet)"
        raise DataError(f"--data {plain[0]}: {problem}; two plain files are --data ENGLISH --data TARGET")
    else:
        names = language_names(language)
        columns = guess_columns(tables[0], ("english", "target"), names=names, given=given)
        source = TableFiles(kind="files", paths=tuple(str(real_path(path)) for path in tables))
    recipe = ParallelRecipe(
        **own_card(paths[0], language.code),
        source=source,
        columns=ParallelColumns(**columns),
        blank_rows="skip",
    )
    return RecipeFile(recipe=recipe, path=paths[0], shipped=False)


def english_text(name: str) -> RecipeFile[ParallelRecipe]:
    """Return a table or a parallel recipe as pairs of each English sentence with itself, in `en`."""
    path = Path(name)
    if name.endswith(TABLES):
        if not path.is_file():
            raise DataError(f"{path}: no such file of English text")
        columns = [each for each in column_names(path) if each in ("english", "caption")]
        column = columns[0] if columns else guess_columns(path, ("english",))["english"]
        source = TableFiles(kind="files", paths=(str(real_path(path)),))
        recipe = ParallelRecipe(**own_card(path, "en"), source=source)
        found = RecipeFile(recipe=recipe, path=path, shipped=False)
    else:
        found = data_recipe(ParallelRecipe, name)
        column = found.recipe.columns.english
    corpus = found.recipe.source
    if isinstance(corpus, AlignedFiles | DownloadSource) and corpus.english is not None:
        corpus = corpus.model_copy(update={"target": corpus.english})
    both = ParallelColumns(english=column, target=column)
    changes = {"language": "en", "source": corpus, "columns": both, "blank_rows": "skip"}
    return replace(found, recipe=found.recipe.model_copy(update=changes))


def caption_columns(
    path: Path, names: Sequence[str], given: Mapping[str, str] | None = None, *, image_free: bool = False
) -> CaptionColumns:
    """Guess the columns of captions beside images, or, `image_free`, beside their English sides."""
    needed, optional = (("english", "caption"), ()) if image_free else (("image", "caption"), ("english",))
    return CaptionColumns(**guess_columns(path, needed, optional=optional, names=names, given=given))


def own_card(path: Path, language: str) -> dict[str, Any]:
    """Return what a recipe states about a file that nobody described."""
    return {"name": own_name(path), "title": path.name, "licence": "unknown", "language": language}
