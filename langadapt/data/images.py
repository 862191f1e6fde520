"""Images from files: upright, RGB, or an error that names the file."""

import json
import math
import os
from bisect import bisect_right
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from functools import lru_cache
from itertools import accumulate
from pathlib import Path
from threading import Lock
from typing import Any

import pyarrow as pa
import torch
from PIL import Image, ImageOps

from langadapt.data.parquet import opened_parquet, parquet_batches
from langadapt.data.pixels import MOST_IMAGE_BYTES, SUFFIXES, ImageError, read_image
from langadapt.data.rows import root_columns
from langadapt.data.sources import unreadable
from langadapt.errors import DataError
from langadapt.files.atomic import write_text
from langadapt.files.json import read_bytes, read_json
from langadapt.files.store import cache_folder

_WORKERS = 4
_MOST_GROUP_BYTES = 1 << 30


@dataclass(frozen=True, slots=True)
class PackedImage:
    """An image that is a stretch of a larger file; reads like a path."""

    path: Path
    """The larger file."""
    name: str
    offset: int
    size: int

    def __str__(self) -> str:
        return f"{self.path}: {self.name}"

    def read_bytes(self) -> bytes:
        """The image's own bytes."""
        if self.size > MOST_IMAGE_BYTES:
            raise DataError(f"{self}: {self.size:,} bytes are no image; take it out of the archive")
        with self.path.open("rb") as file:
            file.seek(self.offset)
            return file.read(self.size)


@dataclass(frozen=True, slots=True)
class ParquetImage:
    """An image in a cell of a Parquet file, `Image` or a struct of bytes and path; reads like a path."""

    path: Path
    """The Parquet file."""
    column: str
    row: int
    """Counts from 0."""

    def __str__(self) -> str:
        return f"{self.path}: {self.name}"

    @property
    def name(self) -> str:
        return f"row {self.row + 1}"

    def read_bytes(self) -> bytes:
        """The image's own bytes."""
        starts = _group_starts(self.path)
        group = bisect_right(starts, self.row) - 1
        with _ONE_GROUP_AT_A_TIME:
            cell = _group_cells(self.path, self.column, group)[self.row - starts[group]]
        if isinstance(cell, pa.StructScalar) and "bytes" in cell:
            cell = cell["bytes"]
        found = cell.as_py() if pa.types.is_binary(cell.type) or pa.types.is_large_binary(cell.type) else None
        if not isinstance(found, bytes):
            raise DataError(f"{self}: column '{self.column}' holds no image; name the one that does")
        return found


# Images are read in order, mostly: what is kept is little.
_ONE_GROUP_AT_A_TIME = Lock()


@lru_cache(maxsize=64)
def _group_starts(path: Path) -> list[int]:
    """Return the first row of each row group, and the number of rows."""
    with opened_parquet(path) as file:
        sizes = [file.metadata.row_group(i).num_rows for i in range(file.metadata.num_row_groups)]
    return list(accumulate(sizes, initial=0))


@lru_cache(maxsize=2)
def _group_cells(path: Path, column: str, group: int) -> Any:
    batches = parquet_batches(path, lambda names: root_columns([column], names, str(path)), group)
    cells, size = [], 0
    for batch in batches:
        size += batch.nbytes
        if size > _MOST_GROUP_BYTES:
            raise DataError(f"{path}: the images of row group {group + 1} have over {size:,} bytes; split it")
        cells.append(batch.column(0))
    return pa.chunked_array(cells)


ImageFile = Path | PackedImage | ParquetImage


def image_bytes(image: ImageFile) -> bytes:
    """Return the bytes of an image; raise a DataError that names it where they cannot be read."""
    try:
        if isinstance(image, Path):
            return read_bytes(image, most_bytes=MOST_IMAGE_BYTES)
        return image.read_bytes()
    except OSError as error:
        raise unreadable(image, error) from error


def open_image(source: ImageFile | Image.Image | bytes | str) -> Image.Image:
    """Read an image completely, upright by its EXIF orientation, as RGB; of an animation the first frame."""
    if isinstance(source, str):
        source = Path(source)
    name = getattr(source, "filename", "") or "image" if isinstance(source, Image.Image | bytes) else source
    try:
        return read_image(image_bytes(source) if isinstance(source, ImageFile) else source)
    except ImageError as error:
        raise DataError(f"{name}: {error}") from error


def file_identity(path: Path) -> object:
    """Return what all names of a file share: relative, absolute, through links; of no file, its path."""
    try:
        status = path.stat()
    except (OSError, ValueError):
        return os.path.abspath(path)
    return status.st_dev, status.st_ino


def list_images(
    folder: Path,
    on_error: Callable[[OSError], object] | None = None,
    on_skip: Callable[[Path], object] = lambda path: None,
) -> list[Path]:
    """Return all images below a folder, sorted by path; hidden files are left out.

    Links to folders are not followed. `on_error` is told about subfolders that cannot be listed, `on_skip`
    about files of other names and links to folders.
    """
    if not folder.is_dir():
        problem = "is not a folder" if folder.exists() else "no such folder"
        raise DataError(f"{folder}: {problem}; name the folder that holds the images")
    if not os.access(folder, os.R_OK | os.X_OK):
        raise DataError(f"{folder}: cannot be listed; check its permissions")
    found = []
    for place, folders, files in os.walk(folder, onerror=on_error):
        folders[:] = [name for name in folders if not name.startswith(".")]
        inside = Path(place)
        shown = [inside / name for name in files if not name.startswith(".")]
        found += [path for path in shown if path.name.lower().endswith(SUFFIXES)]
        for path in [path for path in shown if not path.name.lower().endswith(SUFFIXES)]:
            on_skip(path)
        for link in filter(Path.is_symlink, map(inside.joinpath, folders)):
            on_skip(link)
    if not found:
        raise DataError(f"{folder}: holds no images; expected files ending in {', '.join(SUFFIXES)}")
    return sorted(found)


@dataclass(frozen=True, kw_only=True)
class BrokenImage:
    """An image that cannot be read; `number` counts within its data set, `reason` is one line."""

    number: int
    reason: str


def broken_images(
    images: Sequence[ImageFile],
    *,
    fingerprint: str | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> list[BrokenImage]:
    """Decode all images in threads; return the broken ones. The cache keeps them under `fingerprint`."""
    known = None if fingerprint is None else cache_folder() / "checked-images" / f"{fingerprint}.json"
    with suppress(OSError, ValueError, KeyError, TypeError):  # missing or damaged: looked at again
        if known is not None:
            return [BrokenImage(number=item["number"], reason=item["reason"]) for item in read_json(known)]
    found: list[BrokenImage] = []
    with ThreadPoolExecutor(_WORKERS) as pool:
        for number, reason in enumerate(pool.map(_fault, images)):
            if reason is not None:
                found.append(BrokenImage(number=number, reason=reason))
            if progress:
                progress(number + 1, len(images))
    if known is not None:
        write_text(known, json.dumps([{"number": item.number, "reason": item.reason} for item in found]))
    return found


def _fault(image: ImageFile) -> str | None:
    try:
        open_image(image)
    except DataError as error:
        return str(error)
    return None


_LEAST_AREA = 0.5
_RATIO = math.log(4 / 3)


def random_view(image: Image.Image, *, flip: bool, generator: torch.Generator) -> Image.Image:
    """Cut out a random part of an image, at least half of it, sometimes mirrored.

    The part's sides differ by at most a third more than those of the RGB image. The model's image processor
    comes after it. `flip` mirrors with probability one half.
    """
    draws = torch.rand(5, generator=generator).tolist()
    area = (_LEAST_AREA + (1 - _LEAST_AREA) * draws[0]) * image.width * image.height
    ratio = image.width / image.height * math.exp(_RATIO * (2 * draws[1] - 1))
    width = max(1, min(image.width, round(math.sqrt(area * ratio))))
    height = max(1, min(image.height, round(math.sqrt(area / ratio))))
    left = int(draws[2] * (image.width - width + 1))
    top = int(draws[3] * (image.height - height + 1))
    part = image.crop((left, top, left + width, top + height))
    return ImageOps.mirror(part) if flip and draws[4] < 0.5 else part
