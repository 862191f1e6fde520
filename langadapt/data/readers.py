"""From a source to rows: tables, aligned files and Hub data sets, streamed, with line numbers for errors."""

import csv
import json
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, TypeVar

from huggingface_hub.errors import HfHubHTTPError, OfflineModeIsEnabled

from langadapt.data.rows import (
    Row,
    check_texts,
    missing_column,
    parquet_columns,
    reach,
    read_lines,
    read_parquet,
    root_columns,
)
from langadapt.errors import DataError, MissingDataError
from langadapt.files.fetch import with_backoff, without_token
from langadapt.recipes.data import DataCard, HubSource, PairsRecipe, ParallelRecipe
from langadapt.recipes.find import RecipeFile

D = TypeVar("D", bound=DataCard)
T = TypeVar("T")
VARIABLE = "LANGADAPT_DATA"
_KINDS = (".tsv", ".csv", ".jsonl", ".parquet")
_LONGEST_NAME = 255


def read_table(path: Path, columns: Sequence[str]) -> Iterator[Row]:
    """Stream text columns of a table; every value is a text that is not blank.

    Text formats go through the standard library, not through `datasets`, because an error must name the
    file's own line and no second copy of the file should land in a cache.

    Args:
        path: .tsv (tabs, no quoting at all), .csv (standard quoting), .jsonl, each also .gz or .zst, or
            .parquet. TSV and CSV start with a line of column names.
        columns: names; in JSON Lines and Parquet a dotted name reaches into nested values.

    Raises:
        DataError: unreadable file, unknown kind, wrong column, ragged row, broken JSON, blank or non-text
            value, no rows.
    """
    for row in read_values(path, columns):
        yield check_texts(row, columns)


def read_values(path: Path, columns: Sequence[str]) -> Iterator[Row]:
    """Like `read_table`, with values of any type as they are (JSON Lines, Parquet)."""
    empty = True
    for row in _reader(path)(path, columns):
        empty = False
        yield row
    if empty:
        raise DataError(f"{path}: holds no rows; check that it was written completely")


def column_names(path: Path) -> list[str]:
    """Return the names of a table's columns; of JSON Lines those of its first row.

    Raises:
        DataError: unreadable file or unknown kind.
    """
    kind = _kind(path)
    if kind == ".parquet":
        return parquet_columns(path)
    if kind == ".jsonl":
        return next((list(record) for _, record in _records(path)), [])
    return next((cells for _, cells in _cells(path)), [])


def _kind(path: Path) -> str:
    name = path.name.lower().removesuffix(".gz").removesuffix(".zst")
    kind = Path(name).suffix
    if kind not in _KINDS or (kind == ".parquet" and name != path.name.lower()):
        raise DataError(
            f"{path}: unknown kind of table; expected {', '.join(_KINDS)} (the first three also .gz, .zst)"
        )
    return kind


def _reader(path: Path) -> Callable[[Path, Sequence[str]], Iterator[Row]]:
    return {".jsonl": _read_jsonl, ".parquet": read_parquet}.get(_kind(path), _read_delimited)


def _read_delimited(path: Path, columns: Sequence[str]) -> Iterator[Row]:
    lines = _cells(path)
    header = next(lines, (0, []))[1]
    if not header:
        return
    for column in columns:
        if header.count(column) > 1:
            raise DataError(
                f"{path}: column '{column}' stands {header.count(column)} times; rename all but one"
            )
        if column not in header:
            raise missing_column(column, header, str(path))
    wanted = [header.index(column) for column in columns]

    def blank(cells: list[str]) -> bool:
        return len(cells) < 2 and not "".join(cells).strip()

    for number, cells in _without_blank_end(path, lines, blank):
        if len(cells) != len(header):
            raise DataError(
                f"{path}: line {number} has {len(cells)} cells, the first line {len(header)}; "
                "add or remove what separates them"
            )
        yield Row(f"{path}: line {number}", tuple(cells[index] for index in wanted))


def _without_blank_end(
    path: Path, lines: Iterable[tuple[int, T]], blank: Callable[[T], bool]
) -> Iterator[tuple[int, T]]:
    """Drop blank lines at the end of a file; refuse others."""
    first_blank = 0
    for number, line in lines:
        if blank(line):
            first_blank = first_blank or number
            continue
        if first_blank:
            raise DataError(f"{path}: line {first_blank} is blank; remove it")
        yield number, line


def _cells(path: Path) -> Iterator[tuple[int, list[str]]]:
    if _kind(path) == ".tsv":
        for line in read_lines(path):
            yield line.number, line.text.split("\t")
        return
    # The reader needs line feeds back: a quoted cell may hold some.
    rows = csv.reader((line.text + "\n" for line in read_lines(path)), strict=True)
    start = 1
    try:
        for cells in rows:
            yield start, cells
            start = rows.line_num + 1
    except csv.Error as error:
        raise DataError(f"{path}: line {start}: not valid CSV: {error}; check its quotes") from error


def _read_jsonl(path: Path, columns: Sequence[str]) -> Iterator[Row]:
    for number, record in _records(path):
        where = f"{path}: line {number}"
        yield Row(where, tuple(reach(record, column, where) for column in columns))


def _records(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    lines = ((line.number, line.text) for line in read_lines(path))
    for number, text in _without_blank_end(path, lines, lambda text: not text.strip()):
        try:
            record = json.loads(text)
        except (ValueError, RecursionError) as error:
            problem = str(error)
            if isinstance(error, json.JSONDecodeError):
                problem = f"{error.msg} at character {error.colno}"
            raise DataError(f"{path}: line {number} is not valid JSON: {problem}; correct it") from error
        if not isinstance(record, dict):
            raise DataError(
                f"{path}: line {number}: expected a JSON object, got {type(record).__name__}; "
                "JSON Lines hold one object per line"
            )
        yield number, record


def read_hub_values(source: HubSource, columns: Sequence[str]) -> Iterator[Row]:
    """Stream columns of one split; `datasets` fetches it once and keeps it in its own cache.

    Args:
        source: repository (or a local folder laid out like one), config, split, revision.
        columns: names; a dotted name reaches into nested columns: `translation.zh`.

    Raises:
        DataError: Hub out of reach, no access, no such repository, revision, config, split or column, a
            cached copy of another revision, no rows.
    """
    yield from hub_rows(load_hub(source), source, columns)


def hub_rows(data: Any, source: HubSource, columns: Sequence[str]) -> Iterator[Row]:
    """Stream columns of what `load_hub` returned."""
    split = f"{source.repo}, split {source.split}"
    number = 0
    for batch in data.select_columns(root_columns(columns, data.column_names, split)).iter(batch_size=1024):
        for values in zip(*batch.values(), strict=True):
            number += 1
            where = f"{split}: row {number}"
            record = dict(zip(batch, values, strict=True))
            yield Row(where, tuple(reach(record, column, where) for column in columns))
    if not number:
        raise DataError(f"{split}: holds no rows; name another split or revision")


def load_hub(source: HubSource) -> Any:
    """Return one split as `datasets` holds it; raise as `read_hub_values`."""
    import datasets  # large, and most sources are files
    from datasets.exceptions import DatasetsError

    try:
        data = with_backoff(
            lambda: datasets.load_dataset(
                source.repo, source.config, split=source.split, revision=source.revision
            ),
            what=source.repo,
        )
    except (DatasetsError, HfHubHTTPError, OSError, ValueError, RuntimeError) as error:
        raise DataError(f"{source.repo}: {without_token(_explain(source, error))}") from None
    _check_revision(source, data)
    return data


def _check_revision(source: HubSource, data: Any) -> None:
    """Without the Hub, `datasets` falls back to its newest cached copy, whatever revision was asked for."""
    if source.revision is None or Path(source.repo).is_dir():
        return
    folders = {part for item in data.cache_files for part in Path(item["filename"]).parts}
    if folders and source.revision not in folders:
        raise DataError(
            f"{source.repo}: the Hub is out of reach and the cache holds another revision than "
            f"{source.revision}; connect once to fetch it"
        )


def _explain(source: HubSource, error: Exception) -> str:
    text, page = str(error), f"https://huggingface.co/datasets/{source.repo}"
    reason = next((line.strip() for line in text.splitlines() if line.strip()), "no reason given").rstrip(".")
    chain: list[BaseException] = [error]
    while cause := chain[-1].__cause__:
        chain.append(cause)
    status = next((item.response.status_code for item in chain if isinstance(item, HfHubHTTPError)), None)
    if "gated" in text or status in (401, 403):
        return f"access is restricted; accept its terms at {page}, then run `hf auth login`"
    if "Revision" in text and "doesn't exist" in text:
        return f"no revision {source.revision}; {page}/commits/main lists them"
    if "doesn't exist on the Hub" in text:
        return f"not on the Hub, or private; check the name at {page}, for a private one run `hf auth login`"
    if "BuilderConfig" in text or "Config name is missing" in text:
        return f"no config '{source.config}'; {reason}"
    if "Unknown split" in text or "Bad split" in text:
        return f"no split '{source.split}'; {reason}"
    if "scripts are no longer supported" in text:
        return "is a loading script, and none is run; use a copy of it in Parquet, JSON Lines or CSV"
    unreachable = (ConnectionError, OfflineModeIsEnabled, HfHubHTTPError)
    if "LocalEntryNotFoundError" in text or any(isinstance(item, unreachable) for item in chain):
        return (
            f"the Hub is out of reach ({reason:.120}) and no copy is in the cache; check the connection, "
            "HF_ENDPOINT and HF_HUB_OFFLINE"
        )
    return f"cannot be read ({reason}); look at {page}"


def local_path(found: RecipeFile[D], name: str) -> Path:
    """Return the file or folder that a recipe names.

    Args:
        found: the recipe and where it lies.
        name: as written in the recipe. A relative name starts at the recipe's folder, for a shipped recipe at
            `$LANGADAPT_DATA/<recipe name>`; `../other/file` shares the files of another recipe.

    Raises:
        MissingDataError: it is not there; says how to get it.
    """
    try:
        return _local_path(found, name)
    except (OSError, ValueError, RuntimeError) as error:  # too long, a zero byte, nobody's home
        raise DataError(f"{found.path}: '{name:.80}' cannot be a file's name: {error}; correct it") from error


def _local_path(found: RecipeFile[D], name: str) -> Path:
    written = Path(name).expanduser()
    if not found.shipped or written.is_absolute():
        path = found.folder / written
        if not path.exists():
            way_in = _way_in(found.recipe, str(found.folder))
            raise MissingDataError(f"{path}: no such file or folder; {way_in}")
        return path
    wanted = Path(os.path.normpath(Path(found.recipe.name) / written))
    way_in = _way_in(found.recipe, f"{VARIABLE} as {wanted.parts[0]}/")
    root = os.environ.get(VARIABLE)
    if not root:
        hint = f"`export {VARIABLE}=/folder/of/your/data` sets it"
        raise MissingDataError(f"{found.recipe.name}: {VARIABLE} is not set; {hint}; {way_in}")
    path = Path(root).expanduser() / wanted
    if not path.exists():
        raise MissingDataError(f"{path}: no such file or folder; {way_in}")
    return path


def check_row_count(found: RecipeFile[ParallelRecipe] | RecipeFile[PairsRecipe], rows: int) -> None:
    """Compare the number of rows with the recipe's `expected_rows`.

    Raises:
        DataError: they differ.
    """
    if found.recipe.expected_rows not in (None, rows):
        raise DataError(
            f"{found.path}: expected_rows is {found.recipe.expected_rows}, the data hold {rows}; fetch the "
            "release that the recipe names or correct expected_rows"
        )


def file_title(path: Path) -> str:
    """Return a data set's name: its file's without the suffix, `.gz` and `.zst`."""
    return path.name.removesuffix(".gz").removesuffix(".zst").rpartition(".")[0]


def inside(folder: Path, name: str, where: str) -> Path:
    """Return a file that a data file names, if it lies below its folder.

    Args:
        folder: where names start.
        name: from the data file; it may come from a stranger.
        where: starts the error line.

    Raises:
        DataError: it leads out of the folder, or no file system has such a name.
    """
    path = folder / name
    if "\0" in name or max(len(os.fsencode(part)) for part in path.parts) > _LONGEST_NAME:
        raise DataError(f"{where}: '{name:.80}' cannot be a file's name; correct it")
    root = os.path.abspath(folder)
    if os.path.commonpath([root, os.path.abspath(path)]) != root:
        way_out = "name the folder that holds all images, or correct the name"
        raise DataError(f"{where}: '{name:.80}' leads out of {folder}; {way_out}")
    return path


def _way_in(card: DataCard, folder: str) -> str:
    if card.access == "request":
        return f"{card.title} must be requested at {card.homepage}; put its folder into {folder}"
    fetch = f"fetch {card.title} from {card.homepage}" if card.homepage else f"fetch {card.title}"
    if card.access == "gated":
        fetch = f"accept the terms of {card.title} at {card.homepage}, fetch it"
    return f"{fetch} and put its folder into {folder}"
