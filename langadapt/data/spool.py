"""What may be too large for memory: a nameless file in the cache, which vanishes with its last reader.

A process that is killed while it writes leaves the file; a day later the next one takes it away.
"""

import contextlib
import errno
import os
import tempfile
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from langadapt.data.store import cache_folder
from langadapt.errors import DataError

_MEMORY_BYTES = 1 << 25
_PREFIX, _OLD_SECONDS = "spool-", 86_400.0


@contextlib.contextmanager
def nameless_file() -> Iterator[Path]:
    """A new file in the cache; who has mapped it when the context ends keeps its content.

    Raises:
        DataError: the disk is full or not writable.
    """
    folder = cache_folder()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        _forget_old(folder)
        handle, name = tempfile.mkstemp(prefix=_PREFIX, dir=folder)
        os.close(handle)
        try:
            yield Path(name)
        finally:
            # Windows keeps the name of a mapped file; there it stays in the cache.
            with contextlib.suppress(PermissionError):
                os.unlink(name)
    except (ConnectionError, TimeoutError):
        raise  # not the disk's: of a source that is read while the file is written
    except OSError as error:
        full = error.errno in (errno.ENOSPC, errno.EDQUOT)
        problem = "the disk is full" if full else f"cannot write ({error.strerror})"
        raise DataError(
            f"{folder}: {problem}; free some space or set LANGADAPT_CACHE to a larger disk"
        ) from error


def _forget_old(folder: Path) -> None:
    """Takes away what killed processes left; whoever still reads such a file keeps its content."""
    for path in folder.glob(f"{_PREFIX}*"):
        with contextlib.suppress(OSError):
            if time.time() - path.stat().st_mtime > _OLD_SECONDS:
                path.unlink()


def spooled(parts: Iterable[NDArray[Any]], dtype: type[np.generic]) -> NDArray[Any]:
    """Arrays one behind another, `[N]`: in memory while they are few, beyond 32 MB in a mapped file."""
    kept: list[NDArray[Any]] = []
    size = 0
    left = iter(parts)
    for part in left:
        kept.append(part.astype(dtype, copy=False))
        size += kept[-1].nbytes
        if size > _MEMORY_BYTES:
            break
    else:
        return np.concatenate(kept) if kept else np.zeros(0, dtype)
    with nameless_file() as path:
        with path.open("wb") as file:
            # Not `tofile`: it does not notice when the last bytes find no room.
            for part in kept:
                file.write(part.tobytes())
            kept.clear()
            for part in left:
                file.write(part.astype(dtype, copy=False).tobytes())
        return np.memmap(path, dtype=dtype, mode="r")
