"""Parquet files that may be damaged or hostile: opened, and measured page by page before they are unpacked.

pyarrow aborts the process where a column's metadata are damaged, and believes sizes that are not true, so the
metadata of columns and pages are read here, in the compact protocol of Thrift.
Source: the Apache Parquet format, `parquet.thrift` and "Thrift compact protocol encoding".
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from typing import IO, Any

import pyarrow as pa
import pyarrow.parquet as pq

from langadapt.data.sources import SourceFile, open_source, unreadable
from langadapt.errors import DataError

_ROWS_AT_ONCE, _MOST_RATIO, _MOST_UNPACKED_BYTES = 1024, 50, 1 << 28
_MOST_FOOTER_BYTES, _PAGE_HEADER_BYTES, _MOST_PAGE_HEADER_BYTES = 1 << 25, 1 << 10, 1 << 22
_MOST_ELEMENTS = 1 << 24
"""Elements of lists in a row group, beyond one per row."""
_MOST_DEPTH = 20
_DICTIONARY_PAGE, _DELTA_BYTE_ARRAY = 2, 7


@contextmanager
def opened_parquet(path: SourceFile) -> Iterator[pq.ParquetFile]:
    """Open a Parquet file; raise a DataError where it is unreadable or damaged.

    Never ask a row group of its metadata for a column: pyarrow aborts the process where that is damaged.
    """
    with _opened(path) as (_, file):
        yield file


def parquet_batches(
    path: SourceFile, choose: Callable[[Sequence[str]], list[str]], group: int | None = None
) -> Iterator[pa.RecordBatch]:
    """Stream the columns that `choose` takes of all names, of one row group or all, in bounded memory.

    Raise a DataError as `opened_parquet`, and where a column unpacks to far more than it takes on the disk.
    """
    with _opened(path) as (raw, file):
        columns = choose([str(name) for name in file.schema_arrow.names])
        groups = _row_groups(raw, file)
        for index in range(len(groups)) if group is None else (group,):
            rows = _rows_at_once(raw, groups[index], columns)
            yield from file.iter_batches(batch_size=rows, row_groups=[index], columns=columns)


@contextmanager
def _opened(path: SourceFile) -> Iterator[tuple[IO[bytes], pq.ParquetFile]]:
    with ExitStack() as opened:
        try:
            raw = opened.enter_context(open_source(path))
        except OSError as error:
            raise unreadable(path, error) from error
        with parquet_faults(path):
            yield raw, pq.ParquetFile(raw)


@contextmanager
def parquet_faults(path: SourceFile) -> Iterator[None]:
    """Turn what pyarrow raises, also where a date or a text has no value in Python, into a DataError."""
    try:
        yield
    except (pa.ArrowException, EOFError, OSError, OverflowError, ValueError) as error:
        problem = str(error).splitlines()[0].rstrip(". ")
        raise DataError(f"{path}: not readable as Parquet ({problem}); fetch it again") from error


def _row_groups(raw: IO[bytes], file: pq.ParquetFile) -> list[dict[int, Any]]:
    """Return the footer's row groups; pyarrow has found the footer, so it is there."""
    size = int(file.metadata.serialized_size)
    if size > _MOST_FOOTER_BYTES:
        raise ValueError(f"metadata of {size:,} bytes")
    end = raw.seek(-8, 2)
    raw.seek(end - size)
    groups = _parsed(raw.read(size))[0].get(4)
    if not isinstance(groups, list) or len(groups) != file.metadata.num_row_groups:
        raise ValueError("metadata of its row groups")
    return groups


@dataclass
class _Pages:
    """What the pages of a column chunk hold, in bytes; `repeated` may occur in each of its rows."""

    packed: int = 1
    unpacked: int = 0
    repeated: int = 0
    values: int = 0


def _rows_at_once(raw: IO[bytes], group: dict[int, Any], columns: Sequence[str]) -> int:
    """Return how many rows of a row group to unpack at once: few where each may be huge."""
    rows = _ROWS_AT_ONCE
    try:
        for facts in (chunk[3] for chunk in group[1]):
            name = ".".join(part.decode() for part in facts[3])
            if name not in columns and name.partition(".")[0] not in columns:
                continue
            found = _measured(raw, facts)
            if found.values - group[3] > _MOST_ELEMENTS:
                raise ValueError(f"lists of {found.values:,} values in {group[3]:,} rows of column {name}")
            if found.unpacked > _MOST_RATIO * found.packed:
                if found.unpacked > _MOST_UNPACKED_BYTES:
                    sizes = f"{found.packed:,} to {found.unpacked:,} bytes; is it a table of texts?"
                    raise ValueError(f"column {name} unpacks from {sizes}")
                found.repeated = max(found.repeated, found.unpacked)
            rows = min(rows, 1 + _MOST_UNPACKED_BYTES // max(1, found.repeated))
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError("metadata of its columns") from error
    return rows


def _measured(raw: IO[bytes], facts: dict[int, Any]) -> _Pages:
    """Add up the headers of a column chunk's pages."""
    found = _Pages()
    place = min(facts[9], facts.get(11) or facts[9])
    end = place + facts[7]
    while place < end:
        page, length = _page_header(raw, place)
        place += length + page[3]
        values = page.get(5) or page.get(8) or {}
        encoding = values.get(2) if 5 in page else values.get(4)
        if page[2] < 0 or page[3] < 0 or values.get(1, 0) < 0:
            raise ValueError("pages of negative size")
        found.packed, found.unpacked = found.packed + page[3], found.unpacked + page[2]
        found.values += values.get(1, 0)
        if page[1] == _DICTIONARY_PAGE or encoding == _DELTA_BYTE_ARRAY:
            found.repeated = max(found.repeated, page[2])
    return found


def _page_header(raw: IO[bytes], place: int) -> tuple[dict[int, Any], int]:
    size = _PAGE_HEADER_BYTES
    while True:
        raw.seek(place)
        head = raw.read(size)
        try:
            return _parsed(head)
        except EOFError as error:
            if len(head) < size or size >= _MOST_PAGE_HEADER_BYTES:
                raise ValueError("headers of its pages") from error
        size *= 16


def _parsed(raw: bytes) -> tuple[dict[int, Any], int]:
    """Parse a Thrift struct into values by field number; also its length in bytes. EOFError if cut off."""
    try:
        return _Compact(raw).parsed()
    except IndexError as error:
        raise EOFError("metadata are cut off") from error


class _Compact:
    """A reader of Thrift's compact protocol."""

    def __init__(self, raw: bytes) -> None:
        self._raw, self._at, self._depth = raw, 0, 0
        self._readers: dict[int, Callable[[], Any]] = {
            **{1: lambda: True, 2: lambda: False, 3: self._byte, 4: self._integer, 5: self._integer},
            **{6: self._integer, 7: partial(self._bytes, 8), 8: lambda: self._bytes(self._varint())},
            **{9: self._list, 10: self._list, 12: self._struct},
        }

    def parsed(self) -> tuple[dict[int, Any], int]:
        return self._struct(), self._at

    def _value(self, kind: int) -> Any:
        if kind not in self._readers or self._depth == _MOST_DEPTH:
            raise ValueError(f"metadata with a field of type {kind} in {self._depth} others")
        self._depth += 1
        value = self._readers[kind]()
        self._depth -= 1
        return value

    def _byte(self) -> int:
        self._at += 1
        return self._raw[self._at - 1]

    def _varint(self) -> int:
        value = shift = 0
        while (byte := self._byte()) & 0x80:
            value |= (byte & 0x7F) << shift
            shift += 7
            if shift > 63:
                raise ValueError("metadata with a number of more than 64 bits")
        return value | byte << shift

    def _integer(self) -> int:
        value = self._varint()
        return value >> 1 ^ -(value & 1)

    def _bytes(self, length: int) -> bytes:
        self._at += length
        if self._at > len(self._raw):
            raise EOFError("metadata are cut off")
        return self._raw[self._at - length : self._at]

    def _list(self) -> list[Any]:
        head = self._byte()
        kind, size = head & 15, head >> 4
        if size == 15:
            size = self._varint()
        read = self._byte if kind in (1, 2) else partial(self._value, kind)
        return [read() for _ in range(size)]

    def _struct(self) -> dict[int, Any]:
        fields: dict[int, Any] = {}
        number = 0
        while head := self._byte():
            number = number + (head >> 4) if head >> 4 else self._integer()
            fields[number] = self._value(head & 15)
        return fields
