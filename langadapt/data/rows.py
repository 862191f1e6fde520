"""One row of a table and the checks of its values."""

import codecs
import difflib
import gzip
import json
import zlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import pyarrow as pa
import pyarrow.parquet as pq
import zstandard

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


_PACKED_BYTES = 1 << 16

_SIGNATURES = {
    b"\x1f\x8b": "it is gzip data: let its name end in .gz",
    b"\x28\xb5\x2f\xfd": "it is zstd data: let its name end in .zst",
    codecs.BOM_UTF16_LE: "it is UTF-16: save it as UTF-8",
    codecs.BOM_UTF16_BE: "it is UTF-16: save it as UTF-8",
}


@dataclass(frozen=True, slots=True)
class Line:
    """One line without its line feed; `number` counts from 1."""

    number: int
    text: str


def read_lines(path: Path) -> Iterator[Line]:
    """Streams the lines of a text file.

    A byte order mark and the carriage return of CRLF are removed. Only line feeds end a line: U+2028, U+0085
    and vertical tabs are text, because an aligned file that is cut there loses its alignment.

    Args:
        path: text file, also .gz or .zst.

    Raises:
        DataError: no such file, a folder, no permission, damaged compression, a byte that is not UTF-8.
    """
    try:
        for number, raw in enumerate(_raw_lines(path), start=1):
            yield Line(number, _decode(path, number, raw))
    except (gzip.BadGzipFile, zlib.error, EOFError, zstandard.ZstdError) as error:
        raise DataError(
            f"{path}: compressed data are damaged or cut off ({error}); fetch it again"
        ) from error
    except OSError as error:
        raise unreadable(path, error) from error


def unreadable(path: object, error: OSError) -> DataError:
    """The error for a file that the system does not hand out."""
    if isinstance(error, FileNotFoundError):
        return DataError(f"{path}: no such file; check the name and the folder")
    if isinstance(error, IsADirectoryError):
        return DataError(f"{path}: is a folder; name a file inside it")
    if isinstance(error, PermissionError):
        return DataError(f"{path}: may not be read; change its permissions")
    return DataError(f"{path}: cannot be read: {error.strerror or error}; check the disk and the name")


def _raw_lines(path: Path) -> Iterator[bytes]:
    with path.open("rb") as packed:
        if path.suffix.lower() == ".gz":
            with gzip.open(packed) as unpacked:
                yield from unpacked
        elif path.suffix.lower() == ".zst":
            rest = b""
            for piece in _unzstd(packed):
                *whole, rest = (rest + piece).split(b"\n")
                yield from (line + b"\n" for line in whole)
            if rest:
                yield rest
        else:
            yield from packed


def _unzstd(packed: IO[bytes]) -> Iterator[bytes]:
    """Unpacks zstd frames. The library's own stream reader takes a cut-off file for a complete one."""
    unpacker = None
    while raw := packed.read(_PACKED_BYTES):
        while raw:
            unpacker = unpacker or zstandard.ZstdDecompressor().decompressobj()
            yield unpacker.decompress(raw)
            raw = unpacker.unused_data
            if unpacker.eof:
                unpacker = None
    if unpacker is not None:
        raise EOFError("ends inside a zstd frame")


def _decode(path: Path, number: int, raw: bytes) -> str:
    body = raw.removeprefix(codecs.BOM_UTF8) if number == 1 else raw
    try:
        text = body.decode("utf-8")
    except UnicodeDecodeError as error:
        hints = (hint for head, hint in _SIGNATURES.items() if number == 1 and raw.startswith(head))
        byte = error.start + len(raw) - len(body)
        raise DataError(
            f"{path}: line {number}, byte {byte + 1} (0x{raw[byte]:02x}) is not UTF-8; "
            f"{next(hints, 'save the file as UTF-8')}"
        ) from error
    return text.removesuffix("\n").removesuffix("\r")


CONTAMINATION_KEY = b"langadapt.contamination"


def contamination_metadata(path: Path) -> dict[str, Any] | None:
    """What a check for test captions wrote into a file: `sets`, `found`, `kept`; None where none did.

    Raises:
        DataError: unreadable file, or something else under that name.
    """
    with _opened(path) as file:
        said = (file.schema_arrow.metadata or {}).get(CONTAMINATION_KEY)
    if said is None:
        return None
    try:
        found = json.loads(said)
        return {"sets": dict(found["sets"]), "found": int(found["found"]), "kept": int(found["kept"])}
    except (ValueError, KeyError, TypeError) as error:
        raise DataError(
            f"{path}: its record of the check for test captions is damaged; build it again"
        ) from error


def parquet_columns(path: Path) -> list[str]:
    """Names of the outermost columns."""
    with _opened(path) as file:
        return [str(name) for name in file.schema_arrow.names]


def read_parquet(path: Path, columns: Sequence[str]) -> Iterator[Row]:
    """Streams columns of any type; a dotted name reaches into nested ones.

    Raises:
        DataError: unreadable or damaged file, wrong column.
    """
    with _opened(path) as file:
        names = [str(name) for name in file.schema_arrow.names]
        roots = [column if column in names else column.partition(".")[0] for column in columns]
        for column, root in zip(columns, roots, strict=True):
            if root not in names:
                raise missing_column(column, names, str(path))
        number = 0
        for batch in file.iter_batches(batch_size=1024, columns=list(dict.fromkeys(roots))):
            for record in batch.to_pylist():
                number += 1
                place = f"{path}: row {number}"
                yield Row(place, tuple(reach(record, column, place) for column in columns))


@contextmanager
def _opened(path: Path) -> Iterator[pq.ParquetFile]:
    try:
        raw = path.open("rb")
    except OSError as error:
        raise unreadable(path, error) from error
    with raw:
        try:
            yield pq.ParquetFile(raw)
        except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
            problem = str(error).splitlines()[0].rstrip(". ")
            raise DataError(f"{path}: not readable as Parquet ({problem}); fetch it again") from error
