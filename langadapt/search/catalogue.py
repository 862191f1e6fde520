"""An index on disk: a SQLite catalogue of image files beside a file of embeddings.

Embeddings are only ever appended to `rows-G.bin`; rows that the catalogue does not name do not count. A batch
reaches the disk before the transaction that names it commits, so a killed update loses at most one batch. No
row is overwritten in place: a reader keeps the state that it opened while another process writes.
"""

import json
import os
import sqlite3
import zlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from langadapt.errors import DataError
from langadapt.files.atomic import replacing
from langadapt.files.json import parse_json
from langadapt.files.paths import real_path

FORMAT_VERSION = 3
CATALOGUE = "index.sqlite"
Rows = NDArray[np.float32]

# A file written less than this before it was read may change again without a new modification time.
_MTIME_RESOLUTION_NS = 2_000_000_000
_LEAST_GAPS = 1024
_MENDABLE = ("SQLITE_FULL", "SQLITE_IOERR", "SQLITE_READONLY", "SQLITE_BUSY", "SQLITE_CANTOPEN")
_SCHEMA = """
CREATE TABLE meta (value TEXT NOT NULL);
CREATE TABLE rows (slot INTEGER PRIMARY KEY, sha256 BLOB NOT NULL UNIQUE, crc INTEGER NOT NULL);
CREATE TABLE images (
    name BLOB PRIMARY KEY, size_bytes INTEGER NOT NULL, mtime_ns INTEGER NOT NULL, seen_ns INTEGER NOT NULL,
    slot INTEGER, reason TEXT, crc INTEGER NOT NULL
) WITHOUT ROWID;
CREATE INDEX images_by_slot ON images (slot);
"""
_PARTS = [("index", "images_by_slot"), ("table", "images"), ("table", "meta"), ("table", "rows")]


@dataclass(frozen=True, kw_only=True)
class Metadata:
    """What the catalogue records about the index as a whole."""

    format_version: int = FORMAT_VERSION
    fingerprint: str
    """Of the image tower; embeddings of two towers do not compare."""
    label: str
    """Model and short revision of the image tower."""
    folder: str
    """The image folder; lone surrogates stand for bytes that are not UTF-8, as in `os.fsdecode`."""
    dim: int
    generation: int = 0
    """Number of the file of rows."""
    end: int = 0
    """Rows of that file that count, including gaps left by removed images."""
    state: int = 0
    """Rises whenever rows are added or removed: what was built from an older state is stale."""

    def __post_init__(self) -> None:
        numbers = (self.dim, self.generation, self.end, self.state)
        if not all(isinstance(number, int) and number >= 0 for number in numbers):
            raise ValueError(f"{numbers} are not all whole numbers from 0 on")
        if not isinstance(self.folder, str):
            raise ValueError(f"{self.folder!r} is no path")


@dataclass(frozen=True, slots=True)
class ImageFile:
    """A file that is named like an image. What was found out about it has defaults."""

    name: bytes
    """Path below the folder as the file system spells it; it need not be UTF-8."""
    size_bytes: int = 0
    mtime_ns: int = 0
    seen_ns: int = 0
    """When it was read."""
    sha256: bytes | None = None
    """Of its content."""
    reason: str | None = None
    """Why it has no embedding."""


class Catalogue:
    """An open index, in its folder and SQLite database. Only one process at a time may change it."""

    def __init__(self, path: Path, connection: sqlite3.Connection) -> None:
        self.path = path
        self.connection = connection
        parts = "SELECT type, name FROM sqlite_master WHERE name NOT LIKE 'sqlite_%' ORDER BY type, name"
        if connection.execute(parts).fetchall() != _PARTS:
            raise damaged(path, "its catalogue has other tables than an index")
        try:
            value = parse_json(connection.execute("SELECT value FROM meta").fetchone()[0])
            if value["format_version"] != FORMAT_VERSION:
                way_out = "update langadapt, or make it anew: `langadapt index` with --rebuild"
                raise DataError(f"{path}: written by another version of langadapt; {way_out}")
            self.metadata = Metadata(**value)
        except (TypeError, ValueError, KeyError) as error:
            raise damaged(path, f"its description: {error}") from error

    @property
    def rows_path(self) -> Path:
        """The current file of rows."""
        return self.path / f"rows-{self.metadata.generation}.bin"

    def rows(self) -> Rows:
        """Map the rows into memory, `[end, dim]` float32, read-only; they may be cut off."""
        shape = (self.metadata.end, self.metadata.dim)
        if not self.metadata.end:
            return np.zeros(shape, np.float32)
        size = self.rows_path.stat().st_size if self.rows_path.is_file() else 0
        if size < self._end_byte():
            raise damaged(self.path, f"{self.rows_path.name} has {size} bytes of {self._end_byte()}")
        return np.memmap(self.rows_path, dtype=np.float32, mode="r", shape=shape)

    def check(self) -> None:
        """Check the database and compare every row with its checksum."""
        (verdict,) = self.connection.execute("PRAGMA quick_check(1)").fetchone()
        if verdict != "ok":
            raise damaged(self.path, verdict)
        for _ in self.images():
            pass
        rows = self.rows()
        for slot, crc in self.connection.execute("SELECT slot, crc FROM rows ORDER BY slot"):
            check_row(self.path, rows, slot, crc)

    def unchanged(self) -> set[ImageFile]:
        """List the files whose size and modification time prove that their content is still the same."""
        rows = self.connection.execute(
            "SELECT name, size_bytes, mtime_ns FROM images"
            f" WHERE slot IS NOT NULL AND seen_ns - mtime_ns >= {_MTIME_RESOLUTION_NS}"
        )
        return {ImageFile(*row) for row in rows}

    def find_content(self, sha256: bytes) -> int | None:
        """Look up the slot of a content's row, None where the index has none."""
        found = self.connection.execute("SELECT slot FROM rows WHERE sha256 = ?", (sha256,)).fetchone()
        return None if found is None else int(found[0])

    def remove_missing(self, names: set[bytes]) -> int:
        """Forget all files but `names`; return how many of them had an embedding."""
        stored = self.connection.execute("SELECT name, slot FROM images").fetchall()
        missing = [(name, slot) for name, slot in stored if name not in names]
        with self._transaction():
            self.connection.executemany("DELETE FROM images WHERE name = ?", [(name,) for name, _ in missing])
        return sum(slot is not None for _, slot in missing)

    def add(self, images: Sequence[ImageFile], rows: Mapping[bytes, Rows]) -> None:
        """Store a batch: first the rows of new contents, on the disk, then all names in one transaction."""
        start = self.metadata.end
        self.rows()  # raises where the file is shorter than the catalogue says
        for row in rows.values():
            if row.shape != (self.metadata.dim,) or row.dtype != np.float32:
                raise ValueError(f"{self.metadata.dim} float32 expected, got {row.dtype} {row.shape}")
        with self.rows_path.open("r+b" if self.rows_path.exists() else "wb") as file:
            file.seek(self._end_byte())  # overwrites what a killed update appended without committing it
            file.writelines(row.tobytes() for row in rows.values())
            file.flush()
            os.fsync(file.fileno())
        with self._transaction():
            self.connection.executemany(
                "INSERT INTO rows VALUES (?, ?, ?)",
                (
                    (slot, key, zlib.crc32(row.tobytes()))
                    for slot, (key, row) in enumerate(rows.items(), start=start)
                ),
            )
            for image in images:
                key = image.sha256 or b""
                found = self.connection.execute("SELECT slot, crc FROM rows WHERE sha256 = ?", (key,))
                slot, row_crc = found.fetchone() or (None, 0)
                crc = image_checksum(image.name, key, row_crc)
                self.connection.execute(
                    "INSERT OR REPLACE INTO images VALUES (?, ?, ?, ?, ?, ?, ?)",
                    (image.name, image.size_bytes, image.mtime_ns, image.seen_ns, slot, image.reason, crc),
                )
            if rows:
                self._rows_changed(replace(self.metadata, end=start + len(rows)))

    def drop_unused_rows(self) -> None:
        """Drop rows that no file has any more; rewrite the file of rows once many gaps are left."""
        unused = "FROM rows WHERE slot NOT IN (SELECT slot FROM images WHERE slot IS NOT NULL)"
        if self._count(unused):
            with self._transaction():
                self.connection.execute(f"DELETE {unused}")
                self._rows_changed(self.metadata)
        gaps = self.metadata.end - self._count("FROM rows")
        if gaps > max(_LEAST_GAPS, self.metadata.end // 4):
            self._compact()

    def _compact(self) -> None:
        old, old_path = self.rows(), self.rows_path
        slots = [slot for (slot,) in self.connection.execute("SELECT slot FROM rows ORDER BY slot")]
        metadata = replace(self.metadata, generation=self.metadata.generation + 1, end=len(slots))
        with (self.path / f"rows-{metadata.generation}.bin").open("wb") as file:
            for start in range(0, len(slots), 4096):
                file.write(old[slots[start : start + 4096]].tobytes())
            file.flush()
            os.fsync(file.fileno())
        with self._transaction():
            moves = list(enumerate(slots))  # never upwards, so no two collide
            self.connection.executemany("UPDATE rows SET slot = ? WHERE slot = ?", moves)
            self.connection.executemany("UPDATE images SET slot = ? WHERE slot = ?", moves)
            self._rows_changed(metadata)
        old_path.unlink()  # a process that has mapped it keeps it until it ends

    def failures(self) -> list[ImageFile]:
        """List the files without an embedding, sorted by name."""
        rows = self.connection.execute("SELECT name, reason FROM images WHERE slot IS NULL ORDER BY name")
        return [ImageFile(name, reason=reason) for name, reason in rows]

    def images(self) -> Iterator[tuple[bytes, int]]:
        """List names and slots of the files with an embedding, sorted by name; check their checksums."""
        query = (
            "SELECT name, images.slot, images.crc, sha256, rows.crc FROM images"
            " LEFT JOIN rows ON rows.slot = images.slot WHERE images.slot IS NOT NULL ORDER BY name"
        )
        for name, slot, crc, sha256, row_crc in self.connection.execute(query):
            name, content = bytes(name), bytes(sha256 or b"")
            if name.startswith(b"/") or b".." in name.split(b"/"):
                raise damaged(self.path, f"'{display_name(name):.80}' leads out of the folder")
            if crc != image_checksum(name, content, row_crc or 0):
                raise damaged(self.path, f"'{display_name(name):.80}' is not the image that was written")
            yield name, slot

    def _count(self, what: str) -> int:
        return int(self.connection.execute(f"SELECT count(*) {what}").fetchone()[0])

    def _end_byte(self) -> int:
        return self.metadata.end * self.metadata.dim * 4

    def _rows_changed(self, metadata: Metadata) -> None:
        self.metadata = replace(metadata, state=metadata.state + 1)
        self.connection.execute("UPDATE meta SET value = ?", (json.dumps(asdict(self.metadata)),))

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        with self.connection:  # commits, or rolls back on an error
            self.connection.execute("BEGIN IMMEDIATE")
            yield


def create_catalogue(path: Path, metadata: Metadata) -> None:
    """Create an empty index in a folder; it appears whole or not at all."""
    (path / f"{CATALOGUE}-journal").unlink(missing_ok=True)  # SQLite would apply it to the new database
    with (
        _explain_errors(path),
        replacing(path / CATALOGUE) as temporary,
        closing(sqlite3.connect(temporary)) as connection,
        connection,
    ):
        connection.executescript(_SCHEMA)
        connection.execute("INSERT INTO meta VALUES (?)", (json.dumps(asdict(metadata)),))


@contextmanager
def open_catalogue(path: Path, *, write: bool = False) -> Iterator[Catalogue]:
    """Open the index in a folder. A reader sees one state from beginning to end."""
    file = path / CATALOGUE
    if not file.is_file():
        raise DataError(f"{path}: no index in it; make one with `langadapt index FOLDER --model RUN`")
    # A reader, too, may have to roll back the transaction of a killed writer.
    mode = "rw" if write or os.access(file, os.W_OK) else "ro"
    uri = f"{real_path(file).as_uri()}?mode={mode}"
    with _explain_errors(path), closing(sqlite3.connect(uri, uri=True, timeout=60)) as connection:
        connection.isolation_level = None
        if not write:
            connection.execute("BEGIN")
        yield Catalogue(path, connection)


@contextmanager
def _explain_errors(path: Path) -> Iterator[None]:
    try:
        yield
    except (sqlite3.DatabaseError, UnicodeDecodeError) as error:
        # Errors of Python's own sqlite3 module, such as text that is not UTF-8, have no name.
        if getattr(error, "sqlite_errorname", "").startswith(_MENDABLE):
            line = f"{path}: cannot use the index: {error}; make room, or name another --index"
            raise DataError(line) from error
        raise damaged(path, str(error)) from error


def damaged(path: Path, problem: str) -> DataError:
    """Build the error for an index that is not what was written."""
    return DataError(f"{path}: damaged index ({problem}); make it anew: `langadapt index` with --rebuild")


def check_row(path: Path, rows: Rows, slot: int, crc: int) -> None:
    """Compare one row with its checksum; raise a DataError where it is not what was written."""
    if slot >= len(rows) or zlib.crc32(rows[slot]) != crc:
        raise damaged(path, f"row {slot} is not the row that was written")


def image_checksum(name: bytes, sha256: bytes, row_crc: int) -> int:
    """Compute the CRC-32 that binds a name to its content and to the content's row."""
    return zlib.crc32(b"%s\0%s%d" % (name, sha256, row_crc))


def display_name(name: bytes) -> str:
    """Decode a file's name; bytes that are not UTF-8 become replacement characters."""
    return name.decode("utf-8", "replace")
