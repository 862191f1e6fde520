"""From files to rows: tables, streamed, with line numbers for errors."""

import csv
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any, TypeVar

import pyarrow as pa
import pyarrow.parquet as pq

from langadapt.data.images import ImageFile, ParquetImage
from langadapt.data.parquet import opened_parquet
from langadapt.data.rows import (
    Row,
    check_texts,
    json_object,
    missing_column,
    reach,
    read_lines,
    read_parquet,
)
from langadapt.data.sources import SourceFile
from langadapt.errors import DataError, MissingDataError
from langadapt.files.atomic import replacing
from langadapt.files.fetch import one_line
from langadapt.files.store import cache_folder, fingerprint
from langadapt.recipes.data import ParallelRecipe, Rows
from langadapt.recipes.find import RecipeFile

T = TypeVar("T")
_ROWS_PER_GROUP = 10_000
_KINDS = (".tsv", ".csv", ".jsonl", ".parquet")
_LONGEST_NAME = 255
_SHOWN = 5


def read_table(path: SourceFile, columns: Sequence[str]) -> Iterator[Row]:
    """Stream text columns of a table; every value is a text that is not blank.

    A table is .tsv (tabs, no quoting at all), .csv (standard quoting) or .jsonl, each also .gz, .bz2 or .zst,
    or .parquet. TSV and CSV start with a line of column names; in JSON Lines and Parquet a dotted name
    reaches into nested values. A DataError names the line that is ragged, broken, blank or no text.
    """
    for row in read_values(path, columns):
        yield check_texts(row, columns)


def read_values(path: SourceFile, columns: Sequence[str]) -> Iterator[Row]:
    """Like `read_table`, with values of any type as they are (JSON Lines, Parquet)."""
    empty = True
    readers = {".jsonl": _read_jsonl, ".parquet": read_parquet}
    for row in readers.get(_kind(path), _read_delimited)(path, columns):
        empty = False
        yield row
    if empty:
        raise DataError(f"{path}: holds no rows; check that it was written completely")


def column_names(path: SourceFile) -> list[str]:
    """Return the names of a table's columns; of JSON Lines those of its first row."""
    kind = _kind(path)
    if kind == ".parquet":
        with opened_parquet(path) as file:
            return list(file.schema_arrow.names)
    if kind == ".jsonl":
        return next((list(record) for _, record in _records(path)), [])
    return next((cells for _, cells in _cells(path)), [])


def _kind(path: SourceFile) -> str:
    name = path.name.lower().removesuffix(".gz").removesuffix(".bz2").removesuffix(".zst")
    kind = Path(name).suffix
    if kind not in _KINDS or (kind == ".parquet" and name != path.name.lower()):
        known = f"{', '.join(_KINDS)} (the first three also .gz, .bz2, .zst)"
        raise DataError(f"{path}: unknown kind of table; expected {known}")
    return kind


def _read_delimited(path: SourceFile, columns: Sequence[str]) -> Iterator[Row]:
    lines = _cells(path)
    header = next(lines, (0, []))[1]
    if not header:
        return
    for column in columns:
        if header.count(column) > 1:
            count = header.count(column)
            raise DataError(f"{path}: column '{column}' stands {count} times; rename all but one")
        if column not in header:
            raise missing_column(column, header, str(path))
    wanted = [header.index(column) for column in columns]

    def blank(cells: list[str]) -> bool:
        return len(cells) < 2 and not "".join(cells).strip()

    for number, cells in _without_blank_end(path, lines, blank):
        if len(cells) != len(header):
            counts = f"line {number} has {len(cells)} cells, the first line {len(header)}"
            raise DataError(f"{path}: {counts}; add or remove what separates them")
        yield Row(f"{path}: line {number}", tuple(cells[index] for index in wanted))


def _without_blank_end(
    path: SourceFile, lines: Iterable[tuple[int, T]], blank: Callable[[T], bool]
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


def _cells(path: SourceFile) -> Iterator[tuple[int, list[str]]]:
    if _kind(path) == ".tsv":
        yield from ((number, text.split("\t")) for number, text in read_lines(path))
        return
    # The reader needs line feeds back: a quoted cell may hold some.
    rows = csv.reader((text + "\n" for _, text in read_lines(path)), strict=True)
    start = 1
    try:
        for cells in rows:
            yield start, cells
            start = rows.line_num + 1
    except csv.Error as error:
        raise DataError(f"{path}: line {start}: not valid CSV: {error}; check its quotes") from error


def _read_jsonl(path: SourceFile, columns: Sequence[str]) -> Iterator[Row]:
    for number, record in _records(path):
        where = f"{path}: line {number}"
        yield Row(where, tuple(reach(record, column, where) for column in columns))


def _records(path: SourceFile) -> Iterator[tuple[int, dict[str, Any]]]:
    for number, text in _without_blank_end(path, read_lines(path), lambda text: not text.strip()):
        yield number, json_object(text, f"{path}: line {number}")


def read_source(
    files: Iterable[SourceFile], columns: Sequence[str], rows: Rows, *, image: str | None = None
) -> Iterator[Row]:
    """Stream the rows of tables that a source keeps, with values of any type; refuse a source without any.

    Images in a column `image` of Parquet files stay where they are: rows start with a `ParquetImage`.
    """
    kept = 0
    for file in files:
        if image and not (isinstance(file, Path) and file.suffix == ".parquet"):
            raise DataError(f"{file}: only Parquet files hold images; name a folder under `images`")
        for number, row in enumerate(read_values(file, [*columns, *rows.where])):
            if not all(map(_holds, row.values[len(columns) :], rows.where.values())):
                continue
            values = row.values[: len(columns)]
            if image and isinstance(file, Path):
                values = (ParquetImage(file, image, number), *values)
                if not number:
                    values[0].read_bytes()  # the column is there and holds images
            kept += 1
            yield Row(row.where, values)
            if kept == rows.max_rows:
                return
    if not kept:
        raise DataError(f"no row has {rows.where}; there is none of this language, or the layout has changed")


def _holds(value: Any, wanted: str) -> bool:
    if isinstance(value, list):
        return any(isinstance(pair, list) and len(pair) == 2 and pair[0] == wanted for pair in value)
    return str(value) == wanted


def extracted(found: RecipeFile[ParallelRecipe], files: Sequence[SourceFile], rows: Rows) -> Path:
    """Copy the texts of kept rows, once, into a Parquet file of the cache, in bounded memory."""
    columns = (found.recipe.columns.english, found.recipe.columns.target)
    paths = [file if isinstance(file, Path) else file.archive for file in files]
    stamps = [(path.name, path.stat().st_size, path.stat().st_mtime_ns) for path in paths]
    key = fingerprint(rows.model_dump_json(), columns, stamps)
    path = cache_folder() / "extracts" / f"{found.recipe.name}-{key}.parquet"
    if path.is_file():
        return path
    schema = pa.schema({"english": pa.string(), "target": pa.string()})
    with replacing(path) as temporary, pq.ParquetWriter(temporary, schema) as writer:
        kept = read_source(files, columns, rows)
        while batch := list(islice(kept, _ROWS_PER_GROUP)):
            try:
                sides = zip(*(row.values for row in batch), strict=True)
                writer.write_table(pa.table([pa.array(side, pa.string()) for side in sides], schema=schema))
            except pa.ArrowException as error:
                raise DataError(f"{batch[0].where} and on: not texts: {one_line(error)}") from error
    return path


def check_count(found: RecipeFile[Any], what: str, count: int, note: str = "") -> None:
    """Compare a number of `what` in the data with the recipe's `expected_<what>`; `note` says how."""
    expected = getattr(found.recipe, f"expected_{what}")
    if expected not in (None, count):
        problem = f"expected_{what} is {expected}, the data hold {count}{note}"
        raise DataError(f"{found.path}: {problem}; fetch the release that it names or correct the key")


def check_image_files(name: str, images: Sequence[ImageFile]) -> None:
    """Raise a MissingDataError where some of a data set's image files are missing."""
    missing = [image for image in images if isinstance(image, Path) and not image.is_file()]
    if missing:
        shown = ", ".join(map(str, missing[:_SHOWN]))
        count = f"{len(missing)} of {len(images)} image files are missing"
        raise MissingDataError(f"{name}: {count}: {shown}; complete the folder or name the right one")


def file_title(path: Path) -> str:
    """Return a file's name without its suffix, `.gz`, `.bz2` and `.zst`."""
    return path.name.removesuffix(".gz").removesuffix(".bz2").removesuffix(".zst").rpartition(".")[0]


def inside(folder: Path, name: str, where: str) -> Path:
    """Return the file that a data file names; it may not lead out of `folder`. `where` starts the error."""
    path = folder / name
    if "\0" in name or max(len(os.fsencode(part)) for part in path.parts) > _LONGEST_NAME:
        raise DataError(f"{where}: '{name:.80}' cannot be a file's name; correct it")
    root = os.path.abspath(folder)
    if os.path.commonpath([root, os.path.abspath(path)]) != root:
        way_out = "name the folder that holds all images, or correct the name"
        raise DataError(f"{where}: '{name:.80}' leads out of {folder}; {way_out}")
    return path
