"""Brings an index up to date with its folder: only what is new or changed is encoded."""

import errno
import hashlib
import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

import PIL
import torch
import transformers
from filelock import FileLock, Timeout
from PIL.Image import Image
from torch import Tensor

from langadapt.data.images import open_image
from langadapt.errors import DataError, Progress, Report
from langadapt.files.store import cache_folder, fingerprint
from langadapt.models import LanguageModel
from langadapt.search.catalogue import (
    CATALOGUE,
    LOCK,
    Failure,
    ImageFile,
    Meta,
    Scan,
    check_rows,
    create,
    opened,
    read_meta,
    scan_images,
)
from langadapt.search.writer import Entry, Known, Writer

_BATCH = 64

_OWN_FILES = (CATALOGUE, f".{CATALOGUE}", LOCK, "rows-", "approximate")

# A file that was written less than this before it was read may change again without a new time.
_RACY_NS = 2_000_000_000


@dataclass(frozen=True, kw_only=True)
class Update:
    """What an update did, in files."""

    place: Path
    folder: Path
    images: int
    """Images that can be found now."""
    encoded: int
    """Went through the image tower."""
    same: int
    """Were as the index knew them, or had known content under another name or time."""
    removed: int
    """Were in the index and are not in the folder any more."""
    failed: list[Failure] = field(default_factory=list)


@dataclass(frozen=True, kw_only=True)
class ImageTower:
    """An image tower with its preprocessing.

    Two models with the same fingerprint give the same rows, whatever language they speak.
    """

    fingerprint: str
    label: str
    """For people: model and short revision."""
    dim: int
    encode: Callable[[list[Image]], Tensor]
    """RGB images to `[B, D]` float32 unit rows on the CPU."""


def default_place(folder: Path, tower: ImageTower) -> Path:
    """Where the index of a folder lies unless said otherwise: in the cache, one for each image tower."""
    return cache_folder() / "index" / fingerprint(os.path.realpath(folder), tower.fingerprint)


def update_index(
    folder: Path,
    tower: ImageTower,
    *,
    report: Report,
    place: Path | None = None,
    rebuild: bool = False,
    verify: bool = False,
) -> Update:
    """Makes or updates an index. An interrupted update goes on where it stopped.

    Args:
        folder: of images; nothing is written into it.
        tower: encodes them.
        report: told about progress.
        place: folder of the index; one in the cache unless said.
        rebuild: throw away what is there.
        verify: compare the rows that are there with their checksums first.

    Raises:
        DataError: no images, an index of another image tower or folder, a damaged index, a full disk.
    """
    scan = scan_images(folder)
    place = place or default_place(folder, tower)
    if place.exists() and not place.is_dir():
        raise DataError(f"{place}: is not a folder; an index is one")
    with _writing(place, report):
        _prepare(folder, place, tower, rebuild=rebuild)
        with opened(place, write=True) as connection:
            meta = read_meta(connection, place)
            _check_fits(meta, folder, place, tower)
            if verify:
                check_rows(connection, place, meta)
            writer = Writer(connection, place, meta)
            removed = writer.forget(scan)
            encoded = _encode_new(scan, folder, tower, writer, report)
            writer.drop_unused_rows()
            images, failures = writer.count(), writer.failures()
    return Update(
        place=place,
        folder=folder,
        images=images,
        encoded=encoded,
        same=images - encoded,
        removed=removed,
        failed=failures,
    )


@contextmanager
def _writing(place: Path, report: Report) -> Iterator[None]:
    """One writer at a time; a second one waits."""
    try:
        place.mkdir(parents=True, exist_ok=True)
        lock = FileLock(place / LOCK)
        try:
            lock.acquire(timeout=0)
        except Timeout:
            report(Progress(stage=f"waiting for another process that writes {place}"))
            lock.acquire()
        try:
            yield
        finally:
            lock.release()
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT, errno.EACCES, errno.EROFS, errno.EFBIG):
            raise
        raise DataError(
            f"{place}: cannot write the index: {error.strerror}; make room there or name another place with "
            "--index and run the same command: it goes on where it stopped"
        ) from error


def _prepare(folder: Path, place: Path, tower: ImageTower, *, rebuild: bool) -> None:
    """Makes an empty index where there is none, or a new one in the place of the old."""
    if (place / CATALOGUE).exists() and not rebuild:
        return
    strange = sorted(path.name for path in place.iterdir() if not path.name.startswith(_OWN_FILES))
    if strange:
        raise DataError(f"{place}: holds other files, first '{strange[0]}'; give --index a folder of its own")
    old = sorted(place.glob("rows-*.bin"))
    create(
        place,
        Meta(
            fingerprint=tower.fingerprint,
            label=tower.label,
            folder=os.fsencode(os.path.realpath(folder)).hex(),
            dim=tower.dim,
            generation=1 + max((int(path.stem[5:]) for path in old), default=-1),
        ),
    )
    for path in old:
        path.unlink()


def _check_fits(meta: Meta, folder: Path, place: Path, tower: ImageTower) -> None:
    if meta.fingerprint != tower.fingerprint:
        raise DataError(
            f"{place}: made with another image model ({meta.label}, this one is {tower.label}) or another "
            "version of its libraries; give another --index, or make it anew with --rebuild"
        )
    if meta.folder_path != Path(os.path.realpath(folder)):
        raise DataError(
            f"{place}: the index of {meta.folder_path}, not of {folder}; give another --index, or --rebuild"
        )


def _encode_new(scan: Scan, folder: Path, tower: ImageTower, writer: Writer, report: Report) -> int:
    known = writer.known()
    todo = [image for image in scan.images if not _same(image, known.get(image.name))]
    writer.note([Entry.of_failure(failure) for failure in scan.failures])
    encoded = 0
    for start in range(0, len(todo), _BATCH):
        entries = read_batch(todo[start : start + _BATCH], folder, tower, known_slot=writer.slot_of)
        encoded += sum(entry.row is not None for entry in entries)
        writer.note(entries)
        report(Progress(stage="images", done=min(start + _BATCH, len(todo)), total=len(todo)))
    return encoded


def _same(image: ImageFile, known: Known | None) -> bool:
    """Whether a file is certainly the one that was read before; where it is not, its content decides."""
    return (
        known is not None
        and known.slot is not None
        and (known.size_bytes, known.mtime_ns) == (image.size_bytes, image.mtime_ns)
        and known.seen_ns - image.mtime_ns >= _RACY_NS
    )


_CODE_VERSION = 2


def image_tower(model: LanguageModel) -> ImageTower:
    """The image side of a language model."""
    teacher = model.teacher
    versions = (_CODE_VERSION, transformers.__version__, PIL.__version__)
    return ImageTower(
        fingerprint=fingerprint(*versions, model.image_identity),
        label=teacher.source.label,
        dim=teacher.dim,
        encode=lambda images: teacher.embed_images(images).cpu(),
    )


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
