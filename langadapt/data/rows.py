"""One row of a table and the checks of its values."""

import difflib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from langadapt.errors import DataError


@dataclass(frozen=True, slots=True)
class Row:
    """The asked columns of one row. `place` starts an error line: `captions.tsv: line 7`."""

    place: str
    values: tuple[Any, ...]


class BlankTextError(DataError):
    """A text is missing or has nothing in it."""


def check_text(value: object, place: str) -> str:
    """The value, if it is a text with something in it.

    Raises:
        BlankTextError: nothing, or nothing but white space.
        DataError: not a text, or half a surrogate pair (which no tokenizer can encode).
    """
    if value is None:
        raise BlankTextError(f"{place}: expected text, got nothing; correct or remove this row")
    if not isinstance(value, str):
        found = f"{type(value).__name__} {value!r:.40}"
        raise DataError(f"{place}: expected text, got {found}; correct or remove this row")
    if not value.strip():
        raise BlankTextError(f"{place}: text is empty; correct or remove this row")
    try:
        value.encode()
    except UnicodeEncodeError as error:
        raise DataError(
            f"{place}: holds half a surrogate pair (\\ud800 to \\udfff); correct or remove this row"
        ) from error
    return value


def check_texts(row: Row, columns: Sequence[str]) -> Row:
    """The row, if all its values are texts with something in them; raises as `check_text`."""
    for column, value in zip(columns, row.values, strict=True):
        check_text(value, f"{row.place}: {column}")
    return row


def reach(record: Mapping[str, Any], column: str, place: str) -> Any:
    """The value of a column; a dotted name that is no column itself reaches into nested mappings.

    Raises:
        DataError: no such column; those that exist are listed.
    """
    if column in record:
        return record[column]
    head, dot, rest = column.partition(".")
    if dot and isinstance(record.get(head), Mapping):
        return reach(record[head], rest, f"{place}: {head}")
    raise missing_column(column, list(record), place)


def missing_column(column: str, known: Sequence[str], place: str) -> DataError:
    """The error for a column that does not exist."""
    near = difflib.get_close_matches(column, known, n=1)
    hint = f"; did you mean '{near[0]}'?" if near else ""
    return DataError(f"{place}: no column '{column}'; there are: {', '.join(known) or 'none'}{hint}")
