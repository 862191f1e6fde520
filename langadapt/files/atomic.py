"""Atomic writes: a file is the old or the new one, never half of one. Also checksums of tensors and facts."""

import errno
import functools
import glob
import hashlib
import inspect
import json
import os
import re
import shutil
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from io import BufferedReader
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

import torch
from filelock import FileLock, Timeout
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor

from langadapt.errors import LangadaptError, ModelError
from langadapt.files.json import open_regular, read_json
from langadapt.files.paths import real_path

P = ParamSpec("P")
T = TypeVar("T")

_PICKLED = {".bin", ".ckpt", ".joblib", ".pickle", ".pkl", ".pt", ".pth"}
_MOST_BYTES = 1 << 26
_CHECKSUM = "sha256"
_OLD_SECONDS = 86_400.0


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yield an empty temporary file that replaces `path`, synced, if the block ends without an error."""
    path.parent.mkdir(parents=True, exist_ok=True)
    prefix = f".{path.name}."
    remove_old(path.parent, f"{glob.escape(prefix)}*.tmp")
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=prefix, suffix=".tmp")
    os.close(handle)
    temporary = Path(name)
    try:
        yield temporary
        sync(temporary)
        temporary.chmod(0o644)  # mkstemp's 0600 would hide it from everybody else
        os.replace(temporary, path)
        sync(path.parent)
    finally:
        temporary.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Write UTF-8 text atomically; missing folders are made."""
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8", newline="\n")


def write_tensors(
    path: Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, str] | None = None
) -> None:
    """Write a safetensors file atomically, from tensors on any device.

    `metadata` is stored with a checksum over all; None stores neither, and equal tensors make equal bytes. An
    OSError says what the system said: a full disk, no permission.
    """
    plain = {name: value.detach().cpu().contiguous() for name, value in tensors.items()}
    header = {"format": "pt", **(metadata or {})}
    checksum = {} if metadata is None else {_CHECKSUM: tensor_digest(plain, header)}
    with replacing(path) as temporary:
        try:
            save_file(plain, temporary, metadata={**header, **checksum})
        except SafetensorError as error:
            # The library wraps what the system said into a text.
            number = re.search(r"os error (\d+)", str(error))
            code = int(number[1]) if number else errno.EIO
            raise OSError(code, os.strerror(code), str(path)) from error


def read_tensors(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Read what `write_tensors` wrote; a ValueError where a byte of it is not what was written."""
    try:
        with safe_open(path, framework="pt") as file:
            metadata: dict[str, str] = dict(file.metadata() or {})
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a dict
    except SafetensorError as error:
        raise ValueError(str(error).splitlines()[0]) from error
    written = metadata.pop(_CHECKSUM, None)
    if written is not None and written != tensor_digest(tensors, metadata):
        raise ValueError("its bytes are not those that were written")
    return tensors, metadata


def sealed(facts: dict[str, Any]) -> dict[str, Any]:
    """Return facts with a SHA-256 over all of them, so that a change by hand is noticed."""
    rest = {key: value for key, value in facts.items() if key != "seal"}
    plain = json.dumps(rest, sort_keys=True, ensure_ascii=False)
    return {**rest, "seal": hashlib.sha256(plain.encode()).hexdigest()}


def is_sealed(facts: Any) -> bool:
    """Return whether facts are those that were sealed."""
    return isinstance(facts, dict) and facts.get("seal") == sealed(facts)["seal"]


@contextmanager
def removed_if_refused(folder: Path, *, unless: Path) -> Iterator[None]:
    """Remove a new folder and its new parents where the block is refused before it writes `unless`.

    The folder stays where another process holds its `lock`.
    """

    def written() -> int:
        return unless.stat().st_mtime_ns if unless.exists() else 0

    new, before = [place for place in (folder, *folder.parents) if not place.exists()], written()
    try:
        yield
    except LangadaptError:
        if new and folder.is_dir() and written() == before:
            with suppress(Timeout, OSError):
                lock = FileLock(folder / "lock", is_singleton=True)
                lock.acquire(timeout=0)
                lock.release(force=True)  # the block may hold it, too
                shutil.rmtree(folder)
                for parent in new[1:]:
                    parent.rmdir()
        raise


def remove_old(folder: Path, pattern: str = ".*.tmp", *, seconds: float = _OLD_SECONDS) -> None:
    """Remove temporary files of killed processes; who is alone in a folder need not wait for a day."""
    for path in folder.glob(pattern):
        with suppress(OSError):
            if time.time() - path.stat().st_mtime > seconds:
                path.unlink()


@contextmanager
def alone(lock: Path, refusal: str) -> Iterator[None]:
    """Hold a lock, whose file is removed at the end; raise `refusal` where another process holds it."""
    lock.parent.mkdir(parents=True, exist_ok=True)
    held = FileLock(lock)
    try:
        held.acquire(timeout=0)
    except Timeout as error:
        raise LangadaptError(refusal) from error
    try:
        yield
    finally:
        lock.unlink(missing_ok=True)
        held.release()


@contextmanager
def whole_folder(out: Path, *, overwrite: bool | None = None) -> Iterator[Path]:
    """Yield a folder beside `out` that takes its name when everything in it is written and synced.

    Refuse an `out` that is not empty, but for `overwrite`; then the old one stays until the new one is whole.
    None stands for a command without that option.
    """
    place = real_path(out)
    lock, partial, old = (place.with_name(f".{place.name}.{kind}") for kind in ("lock", "partial", "old"))

    def check() -> None:
        if place.exists() and not (place.is_dir() and (overwrite or not any(place.iterdir()))):
            problem = "is not empty" if place.is_dir() else "is a file"
            way_out = ", or --overwrite" if place.is_dir() and overwrite is not None else ""
            raise LangadaptError(f"{out}: {problem}; choose another --out{way_out}")

    check()
    with (
        removed_if_refused(place.parent, unless=place),
        alone(lock, f"{out}: another process writes it; wait for it"),
    ):
        shutil.rmtree(partial, ignore_errors=True)
        if old.is_dir() and not place.exists():
            old.rename(place)  # killed between the two renames
            check()
        shutil.rmtree(old, ignore_errors=True)
        partial.mkdir()
        try:
            yield partial
            for path in (*partial.rglob("*"), partial):
                path.chmod(0o755 if path.is_dir() else 0o644)
                sync(path)
            if place.exists():
                place.rename(old)
            partial.rename(place)
            sync(place.parent)
            shutil.rmtree(old, ignore_errors=True)
        finally:
            shutil.rmtree(partial, ignore_errors=True)


def sync(path: Path) -> None:
    """Wait until a file, or the names in a folder, are on the disk."""
    try:
        number = os.open(path, os.O_RDONLY)
    except PermissionError:  # Windows opens no folders
        return
    try:
        os.fsync(number)
    finally:
        os.close(number)


def tensor_digest(tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> str:
    """SHA-256 over names, types, shapes and bytes of tensors on the CPU, as hex digits."""
    digest = hashlib.sha256(repr(sorted(metadata.items())).encode())
    for name, value in sorted(tensors.items()):
        digest.update(f"{name} {value.dtype} {tuple(value.shape)}".encode())
        digest.update(value.reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def leaves_no_trace(stage: Callable[P, T]) -> Callable[P, T]:
    """Let a stage that is refused before its first checkpoint remove what it wrote into its folder `out`."""
    signature = inspect.signature(stage)

    @functools.wraps(stage)
    def run_stage(*args: P.args, **kwargs: P.kwargs) -> T:
        out: Path = signature.bind(*args, **kwargs).arguments["out"]
        with removed_if_refused(out / "checkpoint", unless=out / "checkpoint" / "state.safetensors"):
            return stage(*args, **kwargs)

    return run_stage


def open_for_hash(path: Path, *, most_bytes: int) -> BufferedReader:
    """Open a model's file; raise an OSError as `open_regular`.

    Weights may have any size that their header states: a giant in their place would be hashed for minutes.
    Raise a ModelError for another size.
    """
    file = open_regular(path, most_bytes=None if path.suffix == ".safetensors" else most_bytes)
    if path.suffix == ".safetensors":
        try:
            with safe_open(path, framework="pt"):  # reads the header and compares the sizes
                pass
        except SafetensorError as error:
            file.close()
            problem = str(error).splitlines()[0]
            raise ModelError(f"{path}: damaged or cut off ({problem}); fetch or train it again") from error
    return file


def check_folder(folder: Path, names: Iterable[str], what: str) -> None:
    """Refuse a folder that lacks a file, or holds a pickled one or one outside of the folder."""
    for name in names:
        if not (folder / name).is_file():
            raise ModelError(f"{folder}: no {name} in it; {what}")
    root = real_path(folder)
    # The Hub's cache keeps the files of all revisions in one folder and links to them.
    blobs = root.parents[1] / "blobs" if root.parent.name == "snapshots" else root
    for path in sorted(folder.iterdir()):
        target = real_path(path)
        if not (target.is_relative_to(root) or target.is_relative_to(blobs)):
            leads = f"{path.name} leads out of the folder, to {target}"
            raise ModelError(f"{folder}: {leads}; put the file itself there")
        if path.suffix.lower() in _PICKLED:
            raise ModelError(f"{folder}: {path.name} may be pickled and run anything when opened; remove it")


def read_weights(path: Path) -> dict[str, Tensor]:
    """Read weights, floating ones as float32; raise a ModelError where one holds NaN or infinity."""
    weights = {name: v.float() if v.is_floating_point() else v for name, v in load_file(path).items()}
    for name, value in weights.items():
        if not torch.isfinite(value).all():
            raise ModelError(f"{path}: '{name}' holds numbers that are not finite; train or fetch it again")
    return weights


def write_sealed(path: Path, facts: dict[str, Any], *, version: int, files: Iterable[str]) -> None:
    """Write facts with the sums of files beside them, sealed: a change by hand is noticed."""
    sums = {name: file_hash(path.with_name(name)) for name in files}
    content = sealed({"format_version": version, **facts, "files": sums})
    write_text(path, json.dumps(content, indent=2, ensure_ascii=False) + "\n")


def read_sealed(path: Path, *, version: int, files: set[str], again: str) -> dict[str, Any]:
    """Read what `write_sealed` wrote; refuse another format, a change, or no sums of `files`."""
    folder, facts = path.parent, read_json(path)
    if facts["format_version"] > version:
        raise ModelError(f"{folder}: written by a newer langadapt; update with `pip install -U langadapt`")
    if facts["format_version"] < version:
        raise ModelError(f"{folder}: written by an older langadapt, whose weights differ; {again}")
    sums = facts["files"]
    if not is_sealed(facts):
        raise ModelError(f"{folder}: {path.name} was changed after it was written; {again}")
    if not files <= sums.keys():
        raise ModelError(f"{folder}: {path.name} has no sums of {' and '.join(sorted(files))}; {again}")
    for name, written in sums.items():
        if Path(name).name != name:
            raise ModelError(f"{folder}: {path.name} names a file outside the folder: {name}")
        if not (folder / name).is_file():
            raise ModelError(f"{folder}: no {name} in it, which {path.name} names; {again}")
        if file_hash(folder / name) != written:
            raise ModelError(f"{folder}: {name} is not the file that was written; {again}")
    return dict(facts)


def file_hash(path: Path) -> str:
    """SHA-256 of a file, as hex digits."""
    with open_for_hash(path, most_bytes=_MOST_BYTES) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
