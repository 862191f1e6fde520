"""Rows that are computed once and read many times: memory-mapped files under a fingerprint.

Rows go to `rows.partial`, a journal says how many are certain, and the file gets its name when
all are on disk. An interrupted store resumes at its journal; of two processes one waits. A CRC-32
lies beside the rows, with the store's name: damaged rows, or another store's, are computed again.

`shared_rows` keeps rows of texts for many runs: a folder of stores, one for the texts that were missing at a
time, each with the digests of its texts.
"""

import contextlib
import errno
import hashlib
import json
import os
import warnings
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from filelock import FileLock
from numpy.typing import NDArray
from torch import Tensor

from langadapt.errors import DataError, LangadaptWarning
from langadapt.files.atomic import read_tensors, write_tensors, write_text
from langadapt.files.json import read_json
from langadapt.files.paths import user_path

# bfloat16 is stored as the integers that have its bits.
_TYPES: dict[str, tuple[np.dtype[Any], torch.dtype]] = {
    "float32": (np.dtype(np.float32), torch.float32),
    "bfloat16": (np.dtype(np.int16), torch.bfloat16),
    "int8": (np.dtype(np.int8), torch.int8),
}
_BLOCK_BYTES = 1 << 22
_CHECKSUM = "rows.crc"
_DIGESTS = "digests.safetensors"
_ROWS_AT_ONCE = 65536

_TEXTS_PER_PART = 65536
"""What an interruption may lose where the next run wants other texts."""

_DIGEST = np.dtype([("high", "<u8"), ("low", "<u8")])

Fill = Callable[[int], Iterator[Tensor]]
"""Given how many rows are certain, yields the following ones in chunks `[rows, dim]`."""

Compute = Callable[[NDArray[np.int64], int], tuple[NDArray[np.int64], Fill]]


def fingerprint(*parts: object) -> str:
    """Name everything that determines a store's rows, as `fingerprint_of` does."""
    return fingerprint_of(parts)


def fingerprint_of(parts: Iterable[object]) -> str:
    """Return 24 hex digits of SHA-256 over texts, numbers or arrays, each with its length."""
    digest = hashlib.sha256()
    for part in parts:
        if isinstance(part, np.ndarray):
            # No copy: it may be a mapped file.
            raw: Any = np.ascontiguousarray(part).reshape(-1).view(np.uint8)
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
        return self.rows * self.dim * _TYPES[self.dtype][0].itemsize

    def sum_line(self, crc: int) -> str:
        """Text of the checksum; it names the store, so that files of two stores cannot change places."""
        return f"{crc:08x} {self.kind}/{self.fingerprint} {self.rows} x {self.dim} {self.dtype}\n"


def cache_folder() -> Path:
    """`LANGADAPT_CACHE`, or `~/.cache/langadapt`."""
    chosen = os.environ.get("LANGADAPT_CACHE")
    return user_path(chosen) if chosen else Path.home() / ".cache" / "langadapt"


def stored_rows(root: Path, spec: StoreSpec, compute: Fill) -> Tensor:
    """Open a store: memory-mapped `[spec.rows, spec.dim]` in the spec's dtype, read only.

    What is missing is computed first: `compute` yields chunks, and each is written while the next one is
    computed. `root` is the folder of all stores. Raise a DataError where the disk is full or not writable.
    """
    folder = root / spec.kind / spec.fingerprint
    final = folder / "rows.bin"
    with disk_errors(folder, "the store", bytes_needed=spec.bytes):
        if not _complete(final, spec):
            folder.mkdir(parents=True, exist_ok=True)
            with FileLock(folder / "lock"):
                if not _complete(final, spec):
                    crc = _fill(folder, spec, compute)
                    # Before the rows: what has its final name has its sum.
                    write_text(folder / _CHECKSUM, spec.sum_line(crc))
                    os.replace(folder / "rows.partial", final)
                    (folder / "journal.json").unlink(missing_ok=True)
    return _mapped(final, spec)


@contextlib.contextmanager
def disk_errors(folder: Path, what: str, *, bytes_needed: int = 0) -> Iterator[None]:
    """Turn an error of the system into a DataError that names the folder and the way out."""
    try:
        yield
    except (ConnectionError, TimeoutError):
        raise  # not the disk's: of a source that is read while the file is written
    except OSError as error:
        problem = f"cannot write {what} ({error.strerror})"
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            needs = f", {what} needs {bytes_needed / 1e9:.2f} GB" if bytes_needed else ""
            problem = f"the disk is full{needs}"
        again = " and run the same command: it goes on where it stopped" if bytes_needed else ""
        way_out = "free some space or set LANGADAPT_CACHE to a larger disk"
        raise DataError(f"{folder}: {problem}; {way_out}{again}") from error


def _mapped(final: Path, spec: StoreSpec) -> Tensor:
    stored, dtype = _TYPES[spec.dtype]
    return torch.from_numpy(np.memmap(final, stored, mode="c", shape=(spec.rows, spec.dim))).view(dtype)


def _complete(final: Path, spec: StoreSpec) -> bool:
    if not final.is_file():
        return False
    size, checksum = final.stat().st_size, final.with_name(_CHECKSUM)
    problem = "its bytes are not those that were written"
    if size != spec.bytes:
        problem = f"{size} bytes of {spec.bytes}"
    elif checksum.is_file() and checksum.read_text(errors="replace") == spec.sum_line(_crc(final, size)):
        return True
    warnings.warn(f"{final}: damaged ({problem}); computed again", LangadaptWarning, stacklevel=3)
    return False


def _crc(path: Path, size: int) -> int:
    crc = 0
    with path.open("rb") as file:
        while size and (block := file.read(min(size, _BLOCK_BYTES))):
            crc = zlib.crc32(block, crc)
            size -= len(block)
    return crc


def _fill(folder: Path, spec: StoreSpec, compute: Fill) -> int:
    """Compute the missing rows; return the CRC-32 of all."""
    partial, journal = folder / "rows.partial", folder / "journal.json"
    row_bytes = spec.dim * _TYPES[spec.dtype][0].itemsize
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
            write_text(journal, json.dumps({"rows": certain, "crc": crc, "sum": spec.sum_line(crc)}))

        # While one chunk goes to disk the next one is computed.
        with ThreadPoolExecutor(max_workers=1) as disk:
            pending: Future[None] | None = None
            for chunk in compute(done) if done < spec.rows else ():
                raw = chunk.detach().to("cpu", _TYPES[spec.dtype][1]).contiguous()
                if raw.shape[1:] != (spec.dim,):
                    raise ValueError(f"store {spec.kind}: rows of width {spec.dim} expected, got {raw.shape}")
                if pending is not None:
                    pending.result()
                done += len(raw)
                pending = disk.submit(keep, raw, done)
            if pending is not None:
                pending.result()
    if done != spec.rows:
        raise ValueError(f"store {spec.kind} expects {spec.rows} rows, {done} were computed")
    return crc


def _certain_rows(partial: Path, journal: Path, spec: StoreSpec, row_bytes: int) -> tuple[int, int]:
    """Return how many rows of an interrupted store are intact, and their CRC-32."""
    try:
        facts = read_json(journal)
        size = partial.stat().st_size
        done, crc = int(facts["rows"]), int(facts["crc"])
        fits = facts["sum"] == spec.sum_line(crc) and 0 <= done <= spec.rows
    except (FileNotFoundError, KeyError, TypeError, ValueError):
        return 0, 0
    if fits and size >= done * row_bytes and _crc(partial, done * row_bytes) == crc:
        return done, crc
    return 0, 0


@dataclass(frozen=True, kw_only=True)
class SharedRows:
    """Float32 rows `[N, D]`, one per text, in memory-mapped `parts`.

    `index`, int64 `[N]`, is each text's row, counted through all parts.
    """

    parts: tuple[Tensor, ...]
    index: NDArray[np.int64]
    dim: int

    def __len__(self) -> int:
        return len(self.index)

    def take(self, rows: NDArray[np.int64]) -> Tensor:
        """Return some rows, float32 `[len(rows), D]`."""
        index = self.index[rows]
        out = torch.empty(len(index), self.dim)
        ends = np.cumsum([len(part) for part in self.parts])
        part_of_row = np.searchsorted(ends, index, side="right")
        for number in np.unique(part_of_row):  # a batch lies in few of many parts
            part, here = self.parts[number], np.flatnonzero(part_of_row == number)
            inside = index[here] - (ends[number] - len(part))
            out[torch.from_numpy(here)] = part[torch.from_numpy(inside)]
        return out

    def weighted_sum(self, weights: NDArray[np.float64]) -> Tensor:
        """Return the sum of all rows times their weights `[N]`, float32 `[D]`."""
        total = torch.zeros(self.dim)
        for start in range(0, len(self), _ROWS_AT_ONCE):
            rows = np.arange(start, min(start + _ROWS_AT_ONCE, len(self)))
            total += torch.from_numpy(weights[rows]).float() @ self.take(rows)
        return total


def shared_rows(folder: Path, texts: Sequence[str], *, dim: int, compute: Compute) -> SharedRows:
    """Look up the rows of distinct texts; compute the missing ones as new parts, one process at a time.

    `folder` holds everything that is computed in the same way, `dim` is the width of a row. `compute`, given
    the numbers of some missing texts (int64) and how many are missing, these included, returns the order in
    which it computes them, and a function as `stored_rows` wants it.
    """
    wanted = digests(texts)
    index, parts = _look_up(folder, wanted, dim)
    if (index < 0).any():
        with disk_errors(folder, "the store", bytes_needed=4 * dim * int((index < 0).sum())):
            folder.mkdir(parents=True, exist_ok=True)
            with FileLock(folder / "lock"):
                index, parts = _look_up(folder, wanted, dim)  # another process may have computed them
                missing = np.flatnonzero(index < 0)
                for start in range(0, len(missing), _TEXTS_PER_PART):
                    order, fill = compute(missing[start : start + _TEXTS_PER_PART], len(missing) - start)
                    index[order] = sum(map(len, parts)) + np.arange(len(order))
                    parts.append(_new_part(folder, wanted[order], dim, fill))
    return SharedRows(parts=tuple(parts), index=index, dim=dim)


def _new_part(folder: Path, keys: NDArray[np.void], dim: int, fill: Fill) -> Tensor:
    spec = StoreSpec(kind=folder.name, fingerprint=fingerprint(keys), rows=len(keys), dim=dim)
    rows = stored_rows(folder.parent, spec, fill)
    # After the rows: what has digests is complete.
    pairs = torch.from_numpy(keys.view(np.int64).reshape(-1, 2).copy())
    write_tensors(folder / spec.fingerprint / _DIGESTS, {"digests": pairs}, metadata={})
    return rows


def _look_up(folder: Path, wanted: NDArray[np.void], dim: int) -> tuple[NDArray[np.int64], list[Tensor]]:
    """Return each text's row, -1 where no part has it, and the parts that are needed."""
    index = np.full(len(wanted), -1, np.int64)
    parts: list[Tensor] = []
    start = 0
    order = np.argsort(wanted["high"], kind="stable")
    highs = wanted["high"][order]
    for path in sorted(folder.glob(f"*/{_DIGESTS}"), key=lambda path: (path.stat().st_mtime_ns, path)):
        known = _part_digests(path)
        near = np.searchsorted(highs, known["high"])
        row = np.flatnonzero(near < len(wanted))
        text = order[near[row]]
        new = (wanted[text] == known[row]) & (index[text] < 0)
        if len(known) and not new.any():
            continue
        spec = StoreSpec(kind=folder.name, fingerprint=path.parent.name, rows=len(known), dim=dim)
        rows = path.with_name("rows.bin")
        if not len(known) or not _complete(rows, spec):
            with contextlib.suppress(OSError):
                path.unlink()  # a damaged part is no part any more
            continue
        index[text[new]] = start + row[new]
        parts.append(_mapped(rows, spec))
        start += len(known)
    return index, parts


def _part_digests(path: Path) -> NDArray[np.void]:
    """Return the digests of a part; none where the file is damaged, so that its texts are computed again."""
    try:
        found = read_tensors(path)[0]["digests"].numpy().view(_DIGEST).reshape(-1)
        if fingerprint(found) != path.parent.name:
            raise ValueError("it belongs to another part")
    except (ValueError, KeyError, OSError) as error:
        problem = f"{path}: damaged ({error}); what it stands for is computed again"
        warnings.warn(problem, LangadaptWarning, stacklevel=4)
        return np.zeros(0, _DIGEST)
    return found


def digests(texts: Iterable[str]) -> NDArray[np.void]:
    """Return 128 bits of BLAKE2b of each text, `[N]` with the fields `high` and `low` (uint64)."""
    encoded = (text.encode("utf-8", "surrogatepass") for text in texts)
    raw = bytearray().join(hashlib.blake2b(text, digest_size=16).digest() for text in encoded)
    return np.frombuffer(raw, _DIGEST)
