"""One row of a file: streamed with its position for errors, and checks of its values."""

import codecs
import difflib
import io
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import zip_longest
from json import JSONDecodeError
from pathlib import Path
from typing import Any, TypeVar

import pyarrow as pa

from langadapt.data.parquet import opened_parquet, parquet_batches, parquet_faults
from langadapt.data.sources import SourceFile, open_source, unreadable
from langadapt.errors import DataError
from langadapt.files.json import parse_json

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Row:
    """The asked columns of one row. `where` starts an error line: `captions.tsv: line 7`."""

    where: str
    values: tuple[Any, ...]


class BlankTextError(DataError):
    """A text is missing or has nothing in it."""


def check_text(value: object, where: str) -> str:
    """Return the value if it is a text that is not blank.

    Raise a BlankTextError for nothing, or nothing but white space; a DataError for another value, or half a
    surrogate pair, which no tokenizer can encode.
    """
    if value is None:
        raise BlankTextError(f"{where}: expected text, got nothing; correct or remove this row")
    if not isinstance(value, str):
        found = f"{type(value).__name__} {value!r:.40}"
        raise DataError(f"{where}: expected text, got {found}; correct or remove this row")
    if not value.strip():
        raise BlankTextError(f"{where}: text is empty; correct or remove this row")
    try:
        value.encode()
    except UnicodeEncodeError as error:
        problem = "holds half a surrogate pair (\\ud800 to \\udfff)"
        raise DataError(f"{where}: {problem}; correct or remove this row") from error
    return value


def check_texts(row: Row, columns: Sequence[str]) -> Row:
    """Return the row if all its values are texts that are not blank; raise as `check_text`."""
    for column, value in zip(columns, row.values, strict=True):
        check_text(value, f"{row.where}: {column}")
    return row


def caption_pairs(row: Row, captions: str, english: str | None) -> list[tuple[str, str | None]]:
    """Return the captions of a row's second value, each with its English side from the third.

    Both are texts, or lists of as many texts. `captions` and `english` name the columns in errors.
    """
    own = _texts(row, 1, captions)
    if english is None:
        return [(text, None) for text in own]
    sides = _texts(row, 2, english)
    if len(sides) != len(own):
        raise DataError(f"{row.where}: {len(own)} captions, {len(sides)} English ones; each needs its own")
    return list(zip(own, sides, strict=True))


def _texts(row: Row, index: int, column: str) -> list[str]:
    value = row.values[index]
    values = value if isinstance(value, list) else [value]
    if not values:
        raise DataError(f"{row.where}: {column}: the list is empty; add a caption or remove this row")
    return [check_text(item, f"{row.where}: {column}") for item in values]


def first_of_each(items: Iterable[T], key: Callable[[T], object]) -> list[T]:
    """Return the first item of each key, in order."""
    first: dict[object, T] = {}
    for item in items:
        first.setdefault(key(item), item)
    return list(first.values())


def json_object(text: str, where: str) -> dict[str, Any]:
    """Parse a JSON object; raise a DataError for anything else."""
    try:
        record = parse_json(text)
    except ValueError as error:
        problem = str(error).splitlines()[0]
        if isinstance(error, JSONDecodeError):
            problem = f"{error.msg} at character {error.colno}"
        raise DataError(f"{where} is not valid JSON: {problem}; correct it") from error
    if not isinstance(record, dict):
        raise DataError(f"{where}: expected a JSON object, got {type(record).__name__}")
    return record


def reach(record: Mapping[str, Any], column: str, where: str) -> Any:
    """Return the value of a column; a dotted name that is no column itself reaches into nested mappings.

    In a list of [key, text] pairs it finds the key's text, or None. A DataError lists the columns that exist.
    """
    if column in record:
        return record[column]
    head, dot, rest = column.partition(".")
    value = record.get(head)
    if dot and isinstance(value, Mapping):
        return reach(value, rest, f"{where}: {head}")
    if dot and isinstance(value, list):  # pairs of key and text
        return next((pair[1] for pair in value if isinstance(pair, list) and pair[:1] == [rest]), None)
    raise missing_column(column, list(record), where)


def missing_column(column: str, known: Sequence[str], where: str) -> DataError:
    """Make the error for a column that does not exist."""
    near = difflib.get_close_matches(column, known, n=1)
    hint = f"; did you mean '{near[0]}'?" if near else ""
    return DataError(f"{where}: no column '{column}'; there are: {', '.join(known) or 'none'}{hint}")


def root_columns(columns: Sequence[str], known: Sequence[str], where: str) -> list[str]:
    """Return the outermost columns that some names, dotted or not, need; a DataError for an unknown one."""
    roots = [column if column in known else column.partition(".")[0] for column in columns]
    for column, root in zip(columns, roots, strict=True):
        if root not in known:
            raise missing_column(column, known, where)
    return list(dict.fromkeys(roots))


# Arrow's own reader of zstd refuses a file that is cut off; not every library does.
_COMPRESSION = {".gz": "gzip", ".bz2": "bz2", ".zst": "zstd"}
MOST_LINE_BYTES = 1 << 24
_SIGNATURES = {
    b"\x1f\x8b": "it is gzip data: let its name end in .gz",
    b"\x28\xb5\x2f\xfd": "it is zstd data: let its name end in .zst",
    codecs.BOM_UTF16_LE: "it is UTF-16: save it as UTF-8",
    codecs.BOM_UTF16_BE: "it is UTF-16: save it as UTF-8",
}


def read_lines(path: SourceFile) -> Iterator[tuple[int, str]]:
    """Stream the lines of a text file, also .gz, .bz2 or .zst: number from 1, and text without line feed.

    A byte order mark and the carriage return of CRLF are removed. Only line feeds end a line: an aligned file
    that is cut at U+2028, U+0085 or vertical tabs loses its alignment. Raise a DataError for a file that
    cannot be read, damaged compression, a byte that is not UTF-8, and a line of more than 16 MB.
    """
    packing = _COMPRESSION.get(path.suffix.lower())
    try:
        with open_source(path) as file:
            lines = io.BufferedReader(pa.input_stream(file, compression=packing)) if packing else file
            for number, raw in enumerate(iter(lambda: lines.readline(MOST_LINE_BYTES + 1), b""), start=1):
                if len(raw) > MOST_LINE_BYTES:
                    problem = f"line {number} has more than {MOST_LINE_BYTES:,} bytes"
                    raise DataError(f"{path}: {problem}; is it a table of texts?")
                yield number, _decode(path, number, raw)
    except (OSError, EOFError, zlib.error) as error:
        if isinstance(error, OSError) and not (packing and error.errno is None):
            raise unreadable(path, error) from error
        problem = f"compressed data are damaged or cut off ({error})"
        raise DataError(f"{path}: {problem}; fetch it again") from error


def _decode(path: SourceFile, number: int, raw: bytes) -> str:
    body = raw.removeprefix(codecs.BOM_UTF8) if number == 1 else raw
    try:
        text = body.decode("utf-8")
    except UnicodeDecodeError as error:
        hints = (hint for head, hint in _SIGNATURES.items() if number == 1 and raw.startswith(head))
        byte = error.start + len(raw) - len(body)
        where = f"{path}: line {number}, byte {byte + 1} (0x{raw[byte]:02x})"
        raise DataError(f"{where} is not UTF-8; {next(hints, 'save the file as UTF-8')}") from error
    return text.removesuffix("\n").removesuffix("\r")


def check_same_count(path: object, lines: int, beside: object, count: int) -> None:
    """Raise a DataError where files that belong together have different numbers of lines."""
    if lines != count:
        problem = f"{path} has {lines} lines, {beside} has {count}: they do not correspond"
        raise DataError(f"{problem}; take both from one release")


def read_aligned(english: SourceFile, target: SourceFile, *, blank_lines: bool = False) -> Iterator[Row]:
    """Stream line pairs of two files, English first; `blank_lines` are rows, too, else refused."""
    number = 0
    for left, right in zip_longest(read_lines(english), read_lines(target)):
        if left is None or right is None:
            counts = [sum(1 for _ in read_lines(path)) for path in (english, target)]
            check_same_count(english, counts[0], target, counts[1])
            return
        number, texts = left[0], (left[1], right[1])
        if not blank_lines:
            check_text(texts[0], f"{english}: line {number} (beside {target.name})")
            check_text(texts[1], f"{target}: line {number} (beside {english.name})")
        yield Row(f"{english}, {target.name}: line {number}", texts)
    if not number:
        names = f"{english} and {target.name}"
        raise DataError(f"{names}: hold no lines; check that they were written completely")


CONTAMINATION_KEY = b"langadapt.contamination"


def contamination_metadata(path: Path) -> dict[str, Any] | None:
    """Read the result of a check for test captions from a file: `sets`, `found`, `kept`; None without one."""
    with opened_parquet(path) as file:
        written = (file.schema_arrow.metadata or {}).get(CONTAMINATION_KEY)
    if written is None:
        return None
    try:
        found = parse_json(written)
        return {"sets": dict(found["sets"]), "found": int(found["found"]), "kept": int(found["kept"])}
    except (ValueError, KeyError, TypeError) as error:
        raise DataError(f"{path}: its record of the check is damaged; build it again") from error


@lru_cache(maxsize=64)
def label_names(path: SourceFile, column: str) -> list[str]:
    """Return the names of a column of class numbers, where `datasets` wrote them into the file."""
    with opened_parquet(path) as file:
        written = (file.schema_arrow.metadata or {}).get(b"huggingface", b"{}")
    try:
        feature = parse_json(written).get("info", {}).get("features", {}).get(column, {})
        return [str(name) for name in feature.get("names", ())]
    except (ValueError, AttributeError, TypeError) as error:
        raise DataError(f"{path}: its list of class names is damaged; fetch it again") from error


def read_parquet(path: SourceFile, columns: Sequence[str]) -> Iterator[Row]:
    """Stream columns of any type as `read_values`; a dotted name reaches into nested ones."""
    batches = parquet_batches(path, lambda names: root_columns(columns, names, str(path)))
    with parquet_faults(path):
        records = (record for batch in batches for record in batch.to_pylist())
        for number, record in enumerate(records, start=1):
            where = f"{path}: row {number}"
            yield Row(where, tuple(reach(record, column, where) for column in columns))
