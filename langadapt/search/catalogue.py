"""An index on disk: a SQLite catalogue of files beside a file of rows.

Rows are only ever appended to `rows-G.bin`; what the catalogue does not name does not count. A batch is on
disk before the transaction that names it commits, so a killed update loses at most its last batch. A row is
never overwritten in place: who reads while another writes sees one state, the one it opened.
"""

import json
import os
import sqlite3
import stat
import zlib
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from langadapt.data.images import SUFFIXES
from langadapt.errors import DataError

FORMAT_VERSION = 1

CATALOGUE, LOCK = "index.sqlite", "lock"

Rows = NDArray[np.float32]

_MENDABLE = (
    sqlite3.SQLITE_FULL,
    sqlite3.SQLITE_IOERR,
    sqlite3.SQLITE_READONLY,
    sqlite3.SQLITE_BUSY,
    sqlite3.SQLITE_CANTOPEN,
)

_SCHEMA = """
CREATE TABLE meta (value TEXT NOT NULL);
CREATE TABLE rows (slot INTEGER PRIMARY KEY, sha256 BLOB NOT NULL UNIQUE, crc INTEGER NOT NULL);
CREATE TABLE images (
    name BLOB PRIMARY KEY, size_bytes INTEGER NOT NULL, mtime_ns INTEGER NOT NULL, seen_ns INTEGER NOT NULL,
    slot INTEGER, reason TEXT
) WITHOUT ROWID;
CREATE INDEX images_by_slot ON images (slot);
"""


@dataclass(frozen=True, kw_only=True)
class Meta:
    """What an index says about itself."""

    format_version: int = FORMAT_VERSION
    fingerprint: str
    """Of the image tower; rows of two towers do not compare."""
    label: str
    folder: str
    """The images' folder as hexadecimal bytes: a path need not be UTF-8."""
    dim: int
    generation: int = 0
    """Number of the file of rows."""
    end: int = 0
    """Rows in that file that count, gaps of removed images included."""
    state: int = 0
    """Rises whenever rows come or go: what was built from an older state is stale."""

    def __post_init__(self) -> None:
        bytes.fromhex(self.folder)
        numbers = (self.dim, self.generation, self.end, self.state)
        if not all(isinstance(number, int) and number >= 0 for number in numbers):
            raise ValueError(f"{numbers} are not all whole numbers from 0 on")

    @property
    def folder_path(self) -> Path:
        """The images' folder."""
        return Path(os.fsdecode(bytes.fromhex(self.folder)))


def rows_path(place: Path, meta: Meta) -> Path:
    """The file of rows that belongs to a catalogue."""
    return place / f"rows-{meta.generation}.bin"


def create(place: Path, meta: Meta) -> None:
    """Makes an empty catalogue; it appears whole or not at all.

    Raises:
        DataError: there is no room for it.
    """
    place.mkdir(parents=True, exist_ok=True)
    temporary = place / f".{CATALOGUE}.tmp"
    (place / f"{CATALOGUE}-journal").unlink(missing_ok=True)  # would be played back into the new one
    temporary.unlink(missing_ok=True)
    with _explained(place), closing(sqlite3.connect(temporary)) as connection, connection:
        connection.executescript(_SCHEMA)
        connection.execute("INSERT INTO meta VALUES (?)", (json.dumps(asdict(meta)),))
    os.replace(temporary, place / CATALOGUE)


@contextmanager
def opened(place: Path, *, write: bool = False) -> Iterator[sqlite3.Connection]:
    """The catalogue of an index. A reader sees one state from beginning to end.

    Raises:
        DataError: no index there, a damaged one, or one that may not be written.
    """
    path = place / CATALOGUE
    if not path.is_file():
        raise DataError(f"{place}: no index in it; make one with `langadapt index FOLDER --model RUN`")
    # A reader, too, may have to roll back what a killed writer left.
    mode = "rw" if write or os.access(path, os.W_OK) else "ro"
    address = f"{path.resolve().as_uri()}?mode={mode}"
    with _explained(place), closing(sqlite3.connect(address, uri=True, timeout=60)) as connection:
        connection.isolation_level = None
        if not write:
            connection.execute("BEGIN")
        yield connection


@contextmanager
def _explained(place: Path) -> Iterator[None]:
    try:
        yield
    except sqlite3.DatabaseError as error:
        # Python's own errors, of a text that is not UTF-8, have no code.
        if getattr(error, "sqlite_errorcode", 0) & 0xFF in _MENDABLE:
            raise DataError(
                f"{place}: cannot use the index: {error}; make room, or name another --index"
            ) from error
        raise damaged(place, str(error)) from error


def damaged(place: Path, problem: str) -> DataError:
    """The error for an index that is not what was written."""
    return DataError(f"{place}: damaged index ({problem}); make it anew: `langadapt index` with --rebuild")


def read_meta(connection: sqlite3.Connection, place: Path) -> Meta:
    """What the index says about itself.

    Raises:
        DataError: it is damaged, or newer than this program.
    """
    try:
        said = json.loads(connection.execute("SELECT value FROM meta").fetchone()[0])
        if said["format_version"] > FORMAT_VERSION:
            raise DataError(f"{place}: written by a newer langadapt; update with `pip install -U langadapt`")
        return Meta(**said)
    except (TypeError, ValueError, KeyError) as error:
        raise damaged(place, f"its description: {error}") from error


def write_meta(connection: sqlite3.Connection, meta: Meta) -> None:
    """Replaces the description, inside the caller's transaction."""
    connection.execute("UPDATE meta SET value = ?", (json.dumps(asdict(meta)),))


def mapped_rows(place: Path, meta: Meta) -> Rows:
    """`[end, dim]` float32, memory-mapped, read only.

    Raises:
        DataError: the file of rows is missing or shorter than the catalogue says.
    """
    path = rows_path(place, meta)
    if not meta.end:
        return np.zeros((0, meta.dim), np.float32)
    size = path.stat().st_size if path.is_file() else 0
    if size < meta.end * meta.dim * 4:
        raise damaged(place, f"{path.name} has {size} bytes of {meta.end * meta.dim * 4}")
    return np.memmap(path, dtype=np.float32, mode="r", shape=(meta.end, meta.dim))


def check_rows(connection: sqlite3.Connection, place: Path, meta: Meta) -> None:
    """Reads all rows and compares their checksums.

    Raises:
        DataError: a row or the catalogue is not what was written.
    """
    (verdict,) = connection.execute("PRAGMA quick_check(1)").fetchone()
    if verdict != "ok":
        raise damaged(place, verdict)
    rows = mapped_rows(place, meta)
    for slot, crc in connection.execute("SELECT slot, crc FROM rows ORDER BY slot"):
        check_row(place, rows, slot, crc)


def check_row(place: Path, rows: Rows, slot: int, crc: int) -> None:
    """Compares one row with its checksum.

    Raises:
        DataError: it is not what was written.
    """
    if slot >= len(rows) or row_checksum(rows[slot]) != crc:
        raise damaged(place, f"row {slot} is not the row that was written")


def row_checksum(row: Rows) -> int:
    """CRC-32 of a row's bytes."""
    return zlib.crc32(row.tobytes())


@dataclass(frozen=True, slots=True, order=True)
class ImageFile:
    """One file. `name` is its path below the folder as the file system spells it: it need not be UTF-8."""

    name: bytes
    size_bytes: int
    mtime_ns: int


@dataclass(frozen=True, slots=True, order=True)
class Failure:
    """A file that looks like an image and is none, or a folder that cannot be listed."""

    name: bytes
    reason: str


@dataclass(frozen=True, kw_only=True)
class Scan:
    """All images below a folder and what cannot be read, both sorted by name."""

    images: list[ImageFile]
    failures: list[Failure]


def scan_images(folder: Path) -> Scan:
    """Lists a folder with all its subfolders; hidden ones and links to folders are left out.

    Raises:
        DataError: no such folder, or nothing in it that is named like an image.
    """
    if not folder.is_dir():
        problem = "is not a folder" if folder.exists() else "no such folder"
        raise DataError(f"{folder}: {problem}; name the folder that holds the images")
    root = os.fsencode(folder)
    suffixes = tuple(suffix.encode() for suffix in SUFFIXES)
    images: list[ImageFile] = []
    failures: list[Failure] = []

    def unlisted(error: OSError) -> None:
        name = os.path.relpath(os.fsencode(error.filename), root)
        failures.append(Failure(name, f"folder cannot be listed: {error.strerror}"))

    for place, folders, files in os.walk(root, onerror=unlisted):
        folders[:] = [name for name in folders if not name.startswith(b".")]
        for file in files:
            if file.startswith(b".") or not file.lower().endswith(suffixes):
                continue
            path = os.path.join(place, file)
            name = os.path.relpath(path, root)
            try:
                found = os.stat(path)
            except OSError as error:
                failures.append(Failure(name, f"cannot be read: {error.strerror}"))
                continue
            if stat.S_ISREG(found.st_mode):
                images.append(ImageFile(name, found.st_size, found.st_mtime_ns))
            else:  # opening a pipe would wait for ever
                failures.append(Failure(name, "is not a regular file"))
    if not images and not failures:
        raise DataError(f"{folder}: holds no images; expected files ending in {', '.join(SUFFIXES)}")
    return Scan(images=sorted(images), failures=sorted(failures))


def shown_name(name: bytes) -> str:
    """A file's name as text; what is not UTF-8 in it becomes a replacement character."""
    return name.decode("utf-8", "replace")
