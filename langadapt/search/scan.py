"""What lies in a folder of images: names, sizes and times, without opening a file."""

import os
import stat
from dataclasses import dataclass
from pathlib import Path

from langadapt.data.images import SUFFIXES
from langadapt.errors import DataError


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
