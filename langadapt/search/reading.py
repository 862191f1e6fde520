"""Files to rows: hashed, decoded, encoded, and each failure kept with its reason."""

import hashlib
import os
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import torch
from PIL.Image import Image

from langadapt.data.images import open_image
from langadapt.errors import DataError
from langadapt.search.scan import ImageFile
from langadapt.search.tower import ImageTower
from langadapt.search.writer import Entry

# Towers scale the short side to a few hundred pixels: one pixel by ten thousand would fill the memory.
_MOST_OBLONG = 200


def read_batch(
    images: Sequence[ImageFile],
    folder: Path,
    tower: ImageTower,
    *,
    known_slot: Callable[[bytes], int | None],
) -> list[Entry]:
    """Reads some files and encodes those whose content is new.

    Args:
        images: the files.
        folder: where their names start.
        tower: encodes them.
        known_slot: the row of a content's SHA-256, where the index has it.

    Returns:
        One entry per file: with a row if its content is new, else with what is known, or with a reason.
    """
    entries: list[Entry] = []
    pictures: dict[int, Image] = {}
    read: set[bytes] = set()
    for image in images:
        path = Path(os.fsdecode(os.path.join(os.fsencode(folder), image.name)))
        entry = Entry(file=image, seen_ns=time.time_ns())
        try:
            content = _content(path)
            slot = known_slot(content)
            entry = replace(entry, sha256=content, slot=slot)
            if slot is None and content not in read:
                pictures[len(entries)] = _picture(path)
                read.add(content)
            _check_unchanged(path, image)
        except DataError as error:
            pictures.pop(len(entries), None)
            said, _, mend = str(error).removeprefix(f"{path}: ").rpartition("; ")
            entry = Entry(file=image, seen_ns=entry.seen_ns, reason=said or mend)
        entries.append(entry)
    if pictures:
        rows = tower.encode(list(pictures.values()))
        for place, row in zip(pictures, rows, strict=True):
            if not torch.isfinite(row).all():
                reason = "the image model gives no finite numbers for it"
                entries[place] = replace(entries[place], sha256=None, reason=reason)
            else:
                entries[place] = replace(entries[place], row=row.numpy())
    return entries


def _content(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").digest()
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror}; see its rights") from error


def _picture(path: Path) -> Image:
    picture = open_image(path)
    long, short = max(picture.size), min(picture.size)
    if long > _MOST_OBLONG * short:
        raise DataError(f"{path}: {picture.width} x {picture.height} pixels are too oblong; crop it")
    return picture


def _check_unchanged(path: Path, image: ImageFile) -> None:
    try:
        now = path.stat()
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror}; see its rights") from error
    if (now.st_size, now.st_mtime_ns) != (image.size_bytes, image.mtime_ns):
        raise DataError(f"{path}: changed while it was read; index it again")
