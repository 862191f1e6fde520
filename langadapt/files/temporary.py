"""Arrays and texts that may outgrow memory: in mapped files of the cache that have no name."""

import contextlib
import itertools
import os
import tempfile
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, overload

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from langadapt.files.atomic import remove_old
from langadapt.files.store import cache_folder, disk_errors

_MEMORY_BYTES = 1 << 25
_PREFIX = "temporary-"
_TEXTS_AT_ONCE = 16384


@contextlib.contextmanager
def temporary_file() -> Iterator[Path]:
    """Make a file in the cache that loses its name at the end; who has mapped it keeps its content."""
    folder = cache_folder()
    with disk_errors(folder, "a temporary file"):
        folder.mkdir(parents=True, exist_ok=True)
        remove_old(folder, f"{_PREFIX}*")
        handle, name = tempfile.mkstemp(prefix=_PREFIX, dir=folder)
        os.close(handle)
        try:
            yield Path(name)
        finally:
            # Windows keeps the name of a mapped file; there it stays in the cache.
            with contextlib.suppress(PermissionError):
                os.unlink(name)


def temporary_array(parts: Iterable[NDArray[Any]], dtype: type[np.generic]) -> NDArray[Any]:
    """Concatenate arrays, `[N]`: in memory up to 32 MB, beyond in a mapped file."""
    kept: list[NDArray[Any]] = []
    size = 0
    rest = iter(parts)
    for part in rest:
        kept.append(part.astype(dtype, copy=False))
        size += kept[-1].nbytes
        if size > _MEMORY_BYTES:
            break
    else:
        return np.concatenate(kept) if kept else np.zeros(0, dtype)
    with temporary_file() as path:
        with path.open("wb") as file:
            # Not `tofile`: it does not notice when the last bytes find no room.
            for part in kept:
                file.write(part.tobytes())
            kept.clear()
            for part in rest:
                file.write(part.astype(dtype, copy=False).tobytes())
        return np.memmap(path, dtype=dtype, mode="c")


class Texts(Sequence[str]):
    """Texts of memory-mapped Arrow columns, one behind another, or those that `rows` names, in its order."""

    def __init__(self, parts: Sequence[pa.LargeStringArray], rows: NDArray[np.int64] | None = None) -> None:
        self._parts = [part for part in parts if len(part)]
        self._starts = [0, *itertools.accumulate(map(len, self._parts))]
        self._rows = rows

    def __len__(self) -> int:
        return self._starts[-1] if self._rows is None else len(self._rows)

    @overload
    def __getitem__(self, index: int) -> str: ...
    @overload
    def __getitem__(self, index: slice) -> list[str]: ...
    def __getitem__(self, index: int | slice) -> str | list[str]:
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        row = range(len(self))[index]
        row = row if self._rows is None else int(self._rows[row])
        part = bisect_right(self._starts, row) - 1
        return str(self._parts[part][row - self._starts[part]].as_py())

    def __iter__(self) -> Iterator[str]:
        if self._rows is not None:
            yield from (self[index] for index in range(len(self._rows)))
            return
        for part in self._parts:
            for start in range(0, len(part), _TEXTS_AT_ONCE):
                yield from part.slice(start, _TEXTS_AT_ONCE).to_pylist()


def temporary_texts(rows: Iterable[Sequence[str]], *, columns: int) -> list[Texts]:
    """Write rows of `columns` texts to a temporary file; return each column, mapped from it."""
    schema = pa.schema([(str(number), pa.large_string()) for number in range(columns)])
    with temporary_file() as path:
        with pa.OSFile(str(path), "wb") as file, pa.ipc.new_file(file, schema) as writer:
            rest = iter(rows)
            while chunk := list(itertools.islice(rest, _TEXTS_AT_ONCE)):
                arrays = [pa.array(column, pa.large_string()) for column in zip(*chunk, strict=True)]
                writer.write_batch(pa.record_batch(arrays, schema=schema))
        table = pa.ipc.open_file(pa.memory_map(str(path))).read_all()
    return [Texts(table.column(number).chunks) for number in range(columns)]


def join_texts(texts: Iterable[Sequence[str]]) -> Texts:
    """Concatenate texts; chosen ones, and those that are on no disk, are held in memory."""
    parts: list[pa.LargeStringArray] = []
    for some in texts:
        if isinstance(some, Texts) and some._rows is None:
            parts += some._parts
        else:
            parts.append(pa.array(list(some), pa.large_string()))
    return Texts(parts)


def take_texts(texts: Sequence[str], rows: NDArray[np.int64]) -> Sequence[str]:
    """Return some of the texts, `rows` int64 `[n]`; those on disk stay there."""
    if isinstance(texts, Texts):
        return Texts(texts._parts, rows if texts._rows is None else texts._rows[rows])
    return [texts[row] for row in rows]
