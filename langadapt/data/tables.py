"""Rows of TSV, CSV, JSON Lines and Parquet files, streamed, with the place of each row for errors."""

import csv
import json
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from langadapt.data.lines import read_lines
from langadapt.data.parquet import parquet_columns, read_parquet
from langadapt.data.rows import Row, check_texts, missing_column, reach
from langadapt.errors import DataError

_KINDS = (".tsv", ".csv", ".jsonl", ".parquet")


def read_table(path: Path, columns: Sequence[str]) -> Iterator[Row]:
    """Streams text columns of a table; every value is a text that is not blank.

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
    """Names of a table's columns; of JSON Lines those of its first row.

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
    blank = 0
    for number, cells in lines:
        if len(cells) <= 1 and not "".join(cells).strip():
            blank = blank or number
            continue
        if blank:
            raise DataError(f"{path}: line {blank} is blank; remove it")
        if len(cells) != len(header):
            raise DataError(
                f"{path}: line {number} has {len(cells)} cells, the first line {len(header)}; "
                "add or remove what separates them"
            )
        yield Row(f"{path}: line {number}", tuple(cells[index] for index in wanted))


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
        place = f"{path}: line {number}"
        yield Row(place, tuple(reach(record, column, place) for column in columns))


def _records(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    blank = 0
    for line in read_lines(path):
        if not line.text.strip():
            blank = blank or line.number
            continue
        if blank:
            raise DataError(f"{path}: line {blank} is blank; remove it")
        try:
            record = json.loads(line.text)
        except json.JSONDecodeError as error:
            problem = f"{error.msg} at character {error.colno}"
            raise DataError(f"{path}: line {line.number} is not valid JSON: {problem}; correct it") from error
        except (ValueError, RecursionError) as error:
            raise DataError(f"{path}: line {line.number} is not valid JSON: {error}; correct it") from error
        if not isinstance(record, dict):
            raise DataError(
                f"{path}: line {line.number}: expected a JSON object, got {type(record).__name__}; "
                "JSON Lines hold one object per line"
            )
        yield line.number, record
