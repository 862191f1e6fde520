"""Rows that are computed once and read many times: a memory-mapped file under a fingerprint.

A store is complete or it is not read: rows are appended to `rows.partial`, a small journal says how many of
them are certain, and the file gets its final name only when all are on disk. An interrupted store goes on
where its journal stands, and of two processes that want the same store one computes while the other waits.
"""

import errno
import hashlib
import json
import os
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from filelock import FileLock
from torch import Tensor

from langadapt.errors import DataError

_NUMPY: dict[str, np.dtype[Any]] = {"float32": np.dtype(np.float32), "bfloat16": np.dtype(np.int16)}
_TORCH = {"float32": torch.float32, "bfloat16": torch.bfloat16}


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


def fingerprint(*parts: object) -> str:
    """A short name for everything that determines a store's rows: 24 hex digits of SHA-256.

    Args:
        parts: texts, numbers, bytes or arrays, each hashed with its length, so that no two lists collide.
    """
    digest = hashlib.sha256()
    for part in parts:
        raw = part.tobytes() if isinstance(part, np.ndarray) else str(part).encode("utf-8", "surrogatepass")
        digest.update(len(raw).to_bytes(8, "little"))
        digest.update(raw)
    return digest.hexdigest()[:24]


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
    try:
        if not _complete(final, spec):
            folder.mkdir(parents=True, exist_ok=True)
            with FileLock(folder / "lock"):
                if not _complete(final, spec):
                    _fill(folder, spec, compute)
                    os.replace(folder / "rows.partial", final)
                    (folder / "journal.json").unlink(missing_ok=True)
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise DataError(
                f"{folder}: the disk is full, the store needs {spec.bytes / 1e9:.2f} GB; free some space or "
                "set LANGADAPT_CACHE to a larger disk and run the same command: it goes on where it stopped"
            ) from error
        raise DataError(f"{folder}: cannot write the store: {error.strerror}; set LANGADAPT_CACHE") from error
    mapped = np.memmap(final, dtype=_NUMPY[spec.dtype], mode="c", shape=(spec.rows, spec.dim))
    return torch.from_numpy(mapped).view(_TORCH[spec.dtype])


def _complete(final: Path, spec: StoreSpec) -> bool:
    return final.is_file() and final.stat().st_size == spec.bytes


def _fill(folder: Path, spec: StoreSpec, compute: Callable[[int], Iterator[Tensor]]) -> None:
    partial, journal = folder / "rows.partial", folder / "journal.json"
    row_bytes = spec.dim * _NUMPY[spec.dtype].itemsize
    done = _certain_rows(partial, journal, spec, row_bytes)
    with partial.open("r+b" if partial.exists() else "w+b") as file:
        file.truncate(done * row_bytes)
        file.seek(done * row_bytes)

        def keep(raw: Tensor, certain: int) -> None:
            file.write(raw.view(torch.uint8).numpy().data)
            file.flush()
            os.fsync(file.fileno())
            _write_journal(journal, spec, certain)

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


def _certain_rows(partial: Path, journal: Path, spec: StoreSpec, row_bytes: int) -> int:
    try:
        said = json.loads(journal.read_text(encoding="utf-8"))
        size = partial.stat().st_size
    except (FileNotFoundError, ValueError):
        return 0
    same = said.get("dim") == spec.dim and said.get("dtype") == spec.dtype
    done = int(said.get("rows", 0))
    return done if same and size >= done * row_bytes and done <= spec.rows else 0


def _write_journal(journal: Path, spec: StoreSpec, done: int) -> None:
    temporary = journal.with_suffix(".tmp")
    temporary.write_text(json.dumps({"rows": done, "dim": spec.dim, "dtype": spec.dtype}), encoding="utf-8")
    os.replace(temporary, journal)
