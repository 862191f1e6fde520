"""Texts that need no memory: on disk as Arrow, one behind another, or chosen by number."""

import itertools
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence
from typing import overload

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from langadapt.data.spool import nameless_file

_ROWS = 16384
"""Texts that are written, and read, at a time."""


class Texts(Sequence[str]):
    """Texts of memory-mapped Arrow columns, one behind another, or those that `rows` names, in its order."""

    def __init__(self, parts: Sequence[pa.LargeStringArray], rows: NDArray[np.int64] | None = None) -> None:
        self._parts = [part for part in parts if len(part)]
        self._starts = [0, *itertools.accumulate(map(len, self._parts))]
        self._rows = rows

    def __len__(self) -> int:
        return self._starts[-1] if self._rows is None else len(self._rows)

    @overload
    def __getitem__(self, place: int) -> str: ...
    @overload
    def __getitem__(self, place: slice) -> list[str]: ...
    def __getitem__(self, place: int | slice) -> str | list[str]:
        if isinstance(place, slice):
            return [self[i] for i in range(*place.indices(len(self)))]
        row = range(len(self))[place]
        row = row if self._rows is None else int(self._rows[row])
        part = bisect_right(self._starts, row) - 1
        return str(self._parts[part][row - self._starts[part]].as_py())

    def __iter__(self) -> Iterator[str]:
        if self._rows is not None:
            yield from (self[place] for place in range(len(self._rows)))
            return
        for part in self._parts:
            for start in range(0, len(part), _ROWS):
                yield from part.slice(start, _ROWS).to_pylist()


def joined(texts: Iterable[Sequence[str]]) -> Texts:
    """Texts one behind another; chosen ones, and those that are on no disk, are held in memory."""
    parts: list[pa.LargeStringArray] = []
    for some in texts:
        if isinstance(some, Texts) and some._rows is None:
            parts += some._parts
        else:
            parts.append(pa.array(list(some), pa.large_string()))
    return Texts(parts)


def chosen(texts: Sequence[str], rows: NDArray[np.int64]) -> Sequence[str]:
    """Some of the texts, `rows` int64 `[n]`; those on disk stay there."""
    if isinstance(texts, Texts):
        return Texts(texts._parts, rows if texts._rows is None else texts._rows[rows])
    return [texts[row] for row in rows]


def on_disk(rows: Iterable[Sequence[str]], *, columns: int) -> list[Texts]:
    """Writes rows of texts to a nameless file.

    Args:
        rows: `columns` texts each.
        columns: number of columns.

    Returns:
        Each column's texts, mapped from the file.

    Raises:
        DataError: the disk is full or not writable.
    """
    schema = pa.schema([(str(number), pa.large_string()) for number in range(columns)])
    with nameless_file() as path:
        with pa.OSFile(str(path), "wb") as file, pa.ipc.new_file(file, schema) as writer:
            left = iter(rows)
            while chunk := list(itertools.islice(left, _ROWS)):
                arrays = [pa.array(column, pa.large_string()) for column in zip(*chunk, strict=True)]
                writer.write_batch(pa.record_batch(arrays, schema=schema))
        table = pa.ipc.open_file(pa.memory_map(str(path))).read_all()
    return [Texts(table.column(number).chunks) for number in range(columns)]
