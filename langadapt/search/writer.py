"""What changes an index: batches of files, each on disk before the catalogue names it."""

import os
import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Self

import numpy as np

from langadapt.search.catalogue import (
    Failure,
    ImageFile,
    Meta,
    Rows,
    Scan,
    mapped_rows,
    row_checksum,
    rows_path,
    write_meta,
)

_LEAST_GAPS = 1024


@dataclass(frozen=True, kw_only=True, slots=True)
class Known:
    """What the index knows of a file."""

    size_bytes: int
    mtime_ns: int
    seen_ns: int
    slot: int | None


@dataclass(frozen=True, kw_only=True, slots=True)
class Entry:
    """A file as it was read just now: content and slot or row, or the reason why it has none."""

    file: ImageFile
    seen_ns: int
    sha256: bytes | None = None
    slot: int | None = None
    row: Rows | None = None
    reason: str | None = None

    @classmethod
    def of_failure(cls, failure: Failure) -> Self:
        """A file that could not even be opened."""
        return cls(file=ImageFile(failure.name, 0, 0), seen_ns=0, reason=failure.reason)


class Writer:
    """The one writer of an index.

    Args:
        connection: its catalogue, opened for writing; the caller holds the lock.
        place: folder of the index.
        meta: its description.
    """

    def __init__(self, connection: sqlite3.Connection, place: Path, meta: Meta) -> None:
        self._connection = connection
        self._place = place
        self._meta = meta
        mapped_rows(place, meta)  # raises if the file is shorter than the catalogue says
        path = rows_path(place, meta)
        with path.open("r+b" if path.exists() else "w+b") as file:
            file.truncate(meta.end * meta.dim * 4)  # what a killed update left behind

    def known(self) -> dict[bytes, Known]:
        """All files in the index by name."""
        rows = self._connection.execute("SELECT name, size_bytes, mtime_ns, seen_ns, slot FROM images")
        return {
            name: Known(size_bytes=size, mtime_ns=mtime, seen_ns=seen, slot=slot)
            for name, size, mtime, seen, slot in rows
        }

    def slot_of(self, sha256: bytes) -> int | None:
        """The row of a content."""
        found = self._connection.execute("SELECT slot FROM rows WHERE sha256 = ?", (sha256,)).fetchone()
        return None if found is None else int(found[0])

    def forget(self, scan: Scan) -> int:
        """Takes out files that are not in the folder any more; their rows stay until `drop_unused_rows`.

        Returns:
            How many of them had a row.
        """
        here = {image.name for image in scan.images} | {failure.name for failure in scan.failures}
        gone = [(name, known.slot) for name, known in self.known().items() if name not in here]
        if gone:
            with self._transaction():
                self._connection.executemany(
                    "DELETE FROM images WHERE name = ?", [(name,) for name, _ in gone]
                )
        return sum(slot is not None for _, slot in gone)

    def note(self, entries: Sequence[Entry]) -> None:
        """Keeps a batch: its rows reach the disk first, then the catalogue names all of it at once."""
        if not entries:
            return
        new = [entry for entry in entries if entry.row is not None]
        if new:
            with rows_path(self._place, self._meta).open("r+b") as file:
                file.seek(self._meta.end * self._meta.dim * 4)
                for entry in new:
                    assert entry.row is not None
                    if entry.row.shape != (self._meta.dim,):
                        raise ValueError(f"rows of width {self._meta.dim} expected, got {entry.row.shape}")
                    file.write(entry.row.astype(np.float32).tobytes())
                file.flush()
                os.fsync(file.fileno())
        with self._transaction():
            for slot, entry in enumerate(new, start=self._meta.end):
                assert entry.row is not None
                checksum = row_checksum(entry.row.astype(np.float32))
                self._connection.execute("INSERT INTO rows VALUES (?, ?, ?)", (slot, entry.sha256, checksum))
            for entry in entries:
                slot_now = None if entry.sha256 is None else self.slot_of(entry.sha256)
                reason = entry.reason
                if slot_now is None and reason is None:
                    reason = "has the content of another file that failed"
                found = entry.file
                self._connection.execute(
                    "INSERT OR REPLACE INTO images VALUES (?, ?, ?, ?, ?, ?)",
                    (found.name, found.size_bytes, found.mtime_ns, entry.seen_ns, slot_now, reason),
                )
            if new:
                self._meta = replace(self._meta, end=self._meta.end + len(new))
                self._rows_changed()

    def drop_unused_rows(self) -> None:
        """Drops rows that no file has any more; where many gaps are left, the rows move together."""
        unused = "FROM rows WHERE slot NOT IN (SELECT slot FROM images WHERE slot IS NOT NULL)"
        (count,) = self._connection.execute(f"SELECT count(*) {unused}").fetchone()
        if count:
            with self._transaction():
                self._connection.execute(f"DELETE {unused}")
                self._rows_changed()
        (used,) = self._connection.execute("SELECT count(*) FROM rows").fetchone()
        if self._meta.end - used > max(_LEAST_GAPS, self._meta.end // 4):
            self._move_together()

    def count(self) -> int:
        """Images that can be found."""
        return int(
            self._connection.execute("SELECT count(*) FROM images WHERE slot IS NOT NULL").fetchone()[0]
        )

    def failures(self) -> list[Failure]:
        """Files without a row, sorted by name."""
        rows = self._connection.execute("SELECT name, reason FROM images WHERE slot IS NULL ORDER BY name")
        return [Failure(name, reason) for name, reason in rows]

    def _move_together(self) -> None:
        old = mapped_rows(self._place, self._meta)
        slots = [slot for (slot,) in self._connection.execute("SELECT slot FROM rows ORDER BY slot")]
        meta = replace(self._meta, generation=self._meta.generation + 1, end=len(slots))
        with rows_path(self._place, meta).open("wb") as file:
            for start in range(0, len(slots), 4096):
                file.write(old[slots[start : start + 4096]].tobytes())
            file.flush()
            os.fsync(file.fileno())
        with self._transaction():
            moves = [(new, slot) for new, slot in enumerate(slots)]  # never upwards, so no two collide
            self._connection.executemany("UPDATE rows SET slot = ? WHERE slot = ?", moves)
            self._connection.executemany("UPDATE images SET slot = ? WHERE slot = ?", moves)
            self._meta, before = meta, self._meta
            self._rows_changed()
        rows_path(self._place, before).unlink()  # who reads it keeps it until done

    def _rows_changed(self) -> None:
        self._meta = replace(self._meta, state=self._meta.state + 1)
        write_meta(self._connection, self._meta)

    def _transaction(self) -> "_Transaction":
        return _Transaction(self._connection)


class _Transaction:
    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection

    def __enter__(self) -> None:
        self._connection.execute("BEGIN IMMEDIATE")

    def __exit__(self, kind: object, error: object, trace: object) -> None:
        self._connection.execute("COMMIT" if kind is None else "ROLLBACK")
