"""Rows that are computed once and read many times: a memory-mapped file under a fingerprint.

A store is complete or it is not read: rows are appended to `rows.partial`, a small journal says how many of
them are certain, and the file gets its final name only when all are on disk. An interrupted store goes on
where its journal stands, and of two processes that want the same store one computes while the other waits.
A CRC-32 of all rows lies beside them: rows whose bytes changed since are computed again, with a warning.
"""

import contextlib
import errno
import hashlib
import json
import os
import tempfile
import time
import warnings
import zlib
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from filelock import FileLock
from numpy.typing import NDArray
from torch import Tensor

from langadapt.errors import DataError, LangadaptWarning
from langadapt.files.atomic import write_text

_NUMPY: dict[str, np.dtype[Any]] = {
    "float32": np.dtype(np.float32),
    "bfloat16": np.dtype(np.int16),
    "int8": np.dtype(np.int8),
}

_SUM = "rows.crc"

_BLOCK_BYTES = 1 << 22

_TORCH = {"float32": torch.float32, "bfloat16": torch.bfloat16, "int8": torch.int8}


def fingerprint(*parts: object) -> str:
    """A short name for everything that determines a store's rows: 24 hex digits of SHA-256.

    Args:
        parts: texts, numbers, bytes or arrays, each hashed with its length, so that no two lists collide.
    """
    digest = hashlib.sha256()
    for part in parts:
        if isinstance(part, np.ndarray):
            raw: Any = (
                np.ascontiguousarray(part).reshape(-1).view(np.uint8)
            )  # no copy: it may be a mapped file
        else:
            raw = str(part).encode("utf-8", "surrogatepass")
        digest.update(len(raw).to_bytes(8, "little"))
        digest.update(raw)
    return digest.hexdigest()[:24]


@dataclass(frozen=True, kw_only=True)
class StoreSpec:
    """What a store holds; the fingerprint names model, revision, preprocessing, input and code version."""

    kind: str
    fingerprint: str
    rows: int
    dim: int
    dtype: str = "float32"

    @property
    def bytes(self) -> int:
        """Size on disk."""
        return self.rows * self.dim * _NUMPY[self.dtype].itemsize


def cache_folder() -> Path:
    """`LANGADAPT_CACHE`, or `~/.cache/langadapt`."""
    chosen = os.environ.get("LANGADAPT_CACHE")
    return Path(chosen).expanduser() if chosen else Path.home() / ".cache" / "langadapt"


def stored_rows(root: Path, spec: StoreSpec, compute: Callable[[int], Iterator[Tensor]]) -> Tensor:
    """Opens a store, computing what is missing first.

    Args:
        root: folder of all stores.
        spec: name and shape.
        compute: given how many rows are certain, yields the following ones in chunks `[rows, dim]`, which it
            does not change afterwards: they are written while the next chunk is computed.

    Returns:
        Memory-mapped `[spec.rows, spec.dim]` in the spec's dtype; read only.

    Raises:
        DataError: the disk is full or not writable.
    """
    folder = root / spec.kind / spec.fingerprint
    final = folder / "rows.bin"
    with writing(folder, bytes_needed=spec.bytes):
        if not _complete(final, spec):
            folder.mkdir(parents=True, exist_ok=True)
            with FileLock(folder / "lock"):
                if not _complete(final, spec):
                    crc = _fill(folder, spec, compute)
                    # Before the rows: what has its final name has its sum.
                    write_text(folder / _SUM, f"{crc:08x}\n")
                    os.replace(folder / "rows.partial", final)
                    (folder / "journal.json").unlink(missing_ok=True)
    return _mapped(final, spec)


def opened_rows(root: Path, spec: StoreSpec) -> Tensor | None:
    """Opens a store that is complete, as `stored_rows` does; None where it is not, or is damaged."""
    final = root / spec.kind / spec.fingerprint / "rows.bin"
    return _mapped(final, spec) if _complete(final, spec) else None


@contextmanager
def writing(folder: Path, *, bytes_needed: int) -> Iterator[None]:
    """Says in one line why a folder of the cache cannot be written.

    Raises:
        DataError: the disk is full or not writable.
    """
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            size = f"{bytes_needed / 1e9:.2f} GB"
            raise DataError(
                f"{folder}: the disk is full, the store needs {size}; free some space or set LANGADAPT_CACHE "
                "to a larger disk and run the same command: it goes on where it stopped"
            ) from error
        raise DataError(f"{folder}: cannot write the store: {error.strerror}; set LANGADAPT_CACHE") from error


def _mapped(final: Path, spec: StoreSpec) -> Tensor:
    mapped = np.memmap(final, dtype=_NUMPY[spec.dtype], mode="c", shape=(spec.rows, spec.dim))
    return torch.from_numpy(mapped).view(_TORCH[spec.dtype])


def _complete(final: Path, spec: StoreSpec) -> bool:
    """Whether all rows are there as they were written; a store without a sum is older than sums."""
    if not final.is_file():
        return False
    written = final.with_name(_SUM)
    if final.stat().st_size != spec.bytes:
        problem = f"{final.stat().st_size} bytes of {spec.bytes}"
    elif (
        written.is_file() and written.read_text(errors="replace").strip() != f"{_crc(final, spec.bytes):08x}"
    ):
        problem = "its bytes are not those that were written"
    else:
        return True
    warnings.warn(f"{final}: damaged ({problem}); computed again", LangadaptWarning, stacklevel=3)
    return False


def _crc(path: Path, size: int) -> int:
    """CRC-32 of the first `size` bytes of a file."""
    crc = 0
    with path.open("rb") as file:
        while size and (block := file.read(min(size, _BLOCK_BYTES))):
            crc = zlib.crc32(block, crc)
            size -= len(block)
    return crc


def _fill(folder: Path, spec: StoreSpec, compute: Callable[[int], Iterator[Tensor]]) -> int:
    """Computes the rows that are missing; returns the CRC-32 of all."""
    partial, journal = folder / "rows.partial", folder / "journal.json"
    row_bytes = spec.dim * _NUMPY[spec.dtype].itemsize
    done, crc = _certain_rows(partial, journal, spec, row_bytes)
    with partial.open("r+b" if partial.exists() else "w+b") as file:
        file.truncate(done * row_bytes)
        file.seek(done * row_bytes)

        def keep(raw: Tensor, certain: int) -> None:
            nonlocal crc
            content = raw.view(torch.uint8).numpy().data
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
            crc = zlib.crc32(content, crc)
            _write_journal(journal, spec, certain, crc)

        # While one chunk goes to disk the next one is computed.
        with ThreadPoolExecutor(max_workers=1) as disk:
            writing: Future[None] | None = None
            for chunk in compute(done) if done < spec.rows else ():
                raw = chunk.detach().to("cpu", _TORCH[spec.dtype]).contiguous()
                if raw.shape[1:] != (spec.dim,):
                    raise ValueError(f"store {spec.kind}: rows of width {spec.dim} expected, got {raw.shape}")
                if writing is not None:
                    writing.result()
                done += len(raw)
                writing = disk.submit(keep, raw, done)
            if writing is not None:
                writing.result()
    if done != spec.rows:
        raise ValueError(f"store {spec.kind} expects {spec.rows} rows, {done} were computed")
    return crc


def _certain_rows(partial: Path, journal: Path, spec: StoreSpec, row_bytes: int) -> tuple[int, int]:
    """How many rows of an interrupted store are as they were written, and their CRC-32."""
    try:
        said = json.loads(journal.read_text(encoding="utf-8"))
        size = partial.stat().st_size
        done, crc = int(said["rows"]), int(said["crc"])
        fits = (said["dim"], said["dtype"]) == (spec.dim, spec.dtype) and 0 <= done <= spec.rows
    except (FileNotFoundError, KeyError, TypeError, ValueError):
        return 0, 0
    if fits and size >= done * row_bytes and _crc(partial, done * row_bytes) == crc:
        return done, crc
    return 0, 0


def _write_journal(journal: Path, spec: StoreSpec, done: int, crc: int) -> None:
    temporary = journal.with_suffix(".tmp")
    said = {"rows": done, "dim": spec.dim, "dtype": spec.dtype, "crc": crc}
    temporary.write_text(json.dumps(said), encoding="utf-8")
    os.replace(temporary, journal)


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


DIGEST = np.dtype([("high", "<u8"), ("low", "<u8")])


@dataclass(frozen=True, kw_only=True)
class Distinct:
    """Distinct texts, counted in the order of their first appearance."""

    first: NDArray[np.int64]
    """Where each distinct text stands first, `[M]`, ascending."""
    index: NDArray[np.int64]
    """Which distinct text each text is, `[N]`."""


def digests(texts: Iterable[str]) -> NDArray[np.void]:
    """128 bits of BLAKE2b of each text, `[N]` with the fields `high` and `low` (uint64)."""
    made = bytearray()
    for text in texts:
        made += hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=16).digest()
    return np.frombuffer(made, DIGEST)


def distinct(texts: Iterable[str]) -> Distinct:
    """Numbers texts so that equal ones have one number; texts of equal digest are taken for equal."""
    said = digests(texts)
    order = np.lexsort((said["low"], said["high"]))  # stable: of equal texts the first one stands first
    ordered = said[order]
    new = np.ones(len(said), np.bool_)
    new[1:] = ordered[1:] != ordered[:-1]
    heads = order[new]
    number = np.empty(len(heads), np.int64)
    number[np.argsort(heads)] = np.arange(len(heads))
    index = np.empty(len(said), np.int64)
    index[order] = number[np.cumsum(new) - 1]
    return Distinct(first=np.sort(heads), index=index)
