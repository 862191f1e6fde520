"""Bring an index up to date with its folder: encode only what is new or changed."""

import errno
import hashlib
import os
import stat
import time
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import PIL
import transformers
from filelock import FileLock, Timeout
from PIL.Image import Image
from torch import Tensor

from langadapt.data.images import list_images, open_image
from langadapt.data.pixels import MOST_IMAGE_BYTES
from langadapt.errors import DataError, Progress, Report
from langadapt.files.json import open_regular
from langadapt.files.store import cache_folder, fingerprint
from langadapt.models import LanguageModel
from langadapt.search.catalogue import (
    CATALOGUE,
    Catalogue,
    ImageFile,
    Metadata,
    create_catalogue,
    open_catalogue,
)

_BATCH = 64
_LOCK = "lock"
_OWN_FILES = (CATALOGUE, f".{CATALOGUE}", _LOCK, "rows-", "approximate", ".approximate")
_CODE_VERSION = 3


@dataclass(frozen=True, kw_only=True)
class ImageTower:
    """An image tower with its preprocessing.

    Two models with the same fingerprint compute the same embeddings, whatever language they know.
    """

    fingerprint: str
    label: str
    """For people: model and short revision."""
    dim: int
    encode: Callable[[list[Image]], Tensor]
    """RGB images to `[B, D]` float32 normalised embeddings on the CPU."""


def image_tower(model: LanguageModel) -> ImageTower:
    """Return the image side of a language model."""
    teacher = model.teacher
    versions = (_CODE_VERSION, transformers.__version__, PIL.__version__)
    return ImageTower(
        fingerprint=fingerprint(*versions, model.image_identity),
        label=teacher.source.label,
        dim=teacher.dim,
        encode=lambda images: teacher.embed_pixels(teacher.read_pixels(images)).cpu(),
    )


@dataclass(frozen=True, kw_only=True)
class Update:
    """What an update did, counted in files."""

    index: Path
    folder: Path
    images: int
    """Images that can be found now."""
    encoded: int
    """Passed through the image tower."""
    same: int
    """Already in the index, perhaps under another name or modification time."""
    removed: int
    """In the index before and not in the folder any more."""
    failed: list[ImageFile]
    skipped: dict[str, int]
    """Files that are not named like images, by suffix, and links to folders, as `link`."""


def update_index(
    folder: Path,
    tower: ImageTower,
    *,
    report: Report,
    index: Path | None = None,
    rebuild: bool = False,
    verify: bool = False,
) -> Update:
    """Create or update an index. An interrupted update continues where it stopped.

    Nothing is written into the `folder` of images. The `index` is a folder of its own, in the cache if None;
    `rebuild` replaces an existing one, `verify` first compares the stored rows with their checksums.

    Raise a DataError for no images, an index of another tower or folder, a damaged one, or a full disk.
    """
    skipped: Counter[str] = Counter()
    files = scan_images(folder, skipped)
    index = index or cache_folder() / "index" / fingerprint(os.path.realpath(folder), tower.fingerprint)
    if index.exists() and not index.is_dir():
        raise DataError(f"{index}: is not a folder; an index is one")
    if rebuild or not (index / CATALOGUE).exists():
        found = index.iterdir() if index.exists() else ()  # before the lock is written there
        if foreign := sorted(path.name for path in found if not path.name.startswith(_OWN_FILES)):
            problem = f"holds other files, first '{foreign[0]}'"
            raise DataError(f"{index}: {problem}; give --index a folder of its own")
    with _lock(index, report):
        _prepare(folder, index, tower, rebuild=rebuild)
        with open_catalogue(index, write=True) as catalogue:
            check_tower(catalogue.metadata, index, tower)
            if catalogue.metadata.folder != os.path.realpath(folder):
                other, way_out = catalogue.metadata.folder, "give another --index, or --rebuild"
                raise DataError(f"{index}: the index of {other}, not of {folder}; {way_out}")
            if verify:
                catalogue.check()
            removed = catalogue.remove_missing({file.name for file in files})
            catalogue.add([file for file in files if file.reason is not None], {})
            unchanged, encoded = catalogue.unchanged(), 0
            new = [file for file in files if file.reason is None and file not in unchanged]
            for start in range(0, len(new), _BATCH):
                encoded += _encode_batch(new[start : start + _BATCH], folder, tower, catalogue)
                report(Progress(stage="images", done=min(start + _BATCH, len(new)), total=len(new)))
            catalogue.drop_unused_rows()
            failed = catalogue.failures()
    return Update(
        index=index,
        folder=folder,
        images=len(files) - len(failed),
        encoded=encoded,
        same=len(files) - len(failed) - encoded,
        removed=removed,
        failed=failed,
        skipped=dict(skipped.most_common()),
    )


@contextmanager
def _lock(index: Path, report: Report) -> Iterator[None]:
    """Allow one writer at a time; a second one waits."""
    try:
        index.mkdir(parents=True, exist_ok=True)
        lock = FileLock(index / _LOCK)
        try:
            lock.acquire(timeout=0)
        except Timeout:
            report(Progress(stage=f"waiting for another process that writes {index}"))
            lock.acquire()
        try:
            yield
        finally:
            lock.release()
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT, errno.EACCES, errno.EROFS, errno.EFBIG):
            raise
        way_out = "make room, or name another --index, and run the same command: it continues"
        raise DataError(f"{index}: cannot write the index: {error.strerror}; {way_out}") from error


def _prepare(folder: Path, index: Path, tower: ImageTower, *, rebuild: bool) -> None:
    """Create an empty index where there is none, or in place of the old one."""
    if (index / CATALOGUE).exists() and not rebuild:
        return
    old = sorted(index.glob("rows-*.bin"))
    metadata = Metadata(
        fingerprint=tower.fingerprint,
        label=tower.label,
        folder=os.path.realpath(folder),
        dim=tower.dim,
        generation=1 + max((int(path.stem[5:]) for path in old), default=-1),
    )
    create_catalogue(index, metadata)
    for path in old:
        path.unlink()


def check_tower(metadata: Metadata, index: Path, tower: ImageTower) -> None:
    """Raise DataError where an index was made with another image tower."""
    if metadata.fingerprint != tower.fingerprint:
        models = f"made with another image model or library ({metadata.label}, this is {tower.label})"
        raise DataError(f"{index}: {models}; use that model, or give another --index, or --rebuild")


def scan_images(folder: Path, skipped: Counter[str] | None = None) -> list[ImageFile]:
    """List the images below a folder; what cannot be read has a reason; `skipped` counts other files."""
    unlisted: list[OSError] = []
    others: Counter[str] = Counter() if skipped is None else skipped

    def skip(path: Path) -> None:
        others["link" if path.is_dir() else path.suffix.lower() or path.name] += 1

    start = len(os.fsencode(folder / "x")) - 1
    files = [_stat_image(os.fsencode(path), start) for path in list_images(folder, unlisted.append, skip)]
    for error in unlisted:
        name = os.fsencode(os.path.relpath(error.filename, folder))
        files.append(ImageFile(name, reason=f"folder cannot be listed: {error.strerror}"))
    return files


def _stat_image(path: bytes, start: int) -> ImageFile:
    name = path[start:]
    try:
        found = os.stat(path)
    except OSError as error:
        return ImageFile(name, reason=f"cannot be read: {error.strerror}")
    if not stat.S_ISREG(found.st_mode):  # opening a pipe would wait for ever
        return ImageFile(name, reason="is not a regular file")
    return ImageFile(name, found.st_size, found.st_mtime_ns)


def _encode_batch(files: Sequence[ImageFile], folder: Path, tower: ImageTower, catalogue: Catalogue) -> int:
    """Read some files, encode those whose content is new, and store them; return how many were encoded."""
    read: list[ImageFile] = []
    new: dict[bytes, Image] = {}
    for file in files:
        path = folder / os.fsdecode(file.name)
        file = replace(file, seen_ns=time.time_ns())
        try:
            sha256, image = _read_image(path, file, new.keys(), catalogue)
        except DataError as error:
            problem, _, way_out = str(error).removeprefix(f"{path}: ").rpartition("; ")
            read.append(replace(file, reason=problem or way_out))
            continue
        read.append(replace(file, sha256=sha256))
        if image is not None:
            new[sha256] = image
    rows = dict(zip(new, tower.encode(list(new.values())).numpy(), strict=True)) if new else {}
    finite = {sha256: row for sha256, row in rows.items() if np.isfinite(row).all()}
    failed, reason = rows.keys() - finite.keys(), "the image model computes no finite numbers for it"
    read = [replace(file, sha256=None, reason=reason) if file.sha256 in failed else file for file in read]
    catalogue.add(read, finite)
    return len(finite)


def _read_image(
    path: Path, file: ImageFile, read: Collection[bytes], catalogue: Catalogue
) -> tuple[bytes, Image | None]:
    """Return the SHA-256 of a file, and the image where the content is neither read nor stored yet."""
    image = None
    try:
        with open_regular(path, most_bytes=MOST_IMAGE_BYTES) as opened:
            sha256 = hashlib.file_digest(opened, "sha256").digest()
        if sha256 not in read and catalogue.find_content(sha256) is None:
            image = open_image(path)
        now = path.stat()
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror}; check its permissions") from error
    if (now.st_size, now.st_mtime_ns) != (file.size_bytes, file.mtime_ns):
        raise DataError(f"{path}: changed while it was read; index it again")
    return sha256, image
