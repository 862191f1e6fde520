"""Text files that are either the old or the new one, never half of one."""

import errno
import hashlib
import os
import re
import tempfile
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor


def write_text(path: Path, text: str) -> None:
    """Write UTF-8 text atomically; missing folders are made.

    Args:
        path: the file to make or replace.
        text: all of its content.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    number, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".tmp")
    temporary = Path(name)
    try:
        with os.fdopen(number, "w", encoding="utf-8", newline="\n") as file:
            file.write(text)
        temporary.chmod(0o644)  # mkstemp's 0600 would hide the page from everybody else
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


_SUM = "sha256"


def write_tensors(path: Path, tensors: Mapping[str, Tensor], said: Mapping[str, str] | None = None) -> None:
    """Writes a safetensors file; it appears whole or not at all, and is on the disk when it appears.

    Args:
        path: the file; its folder is made.
        tensors: on any device.
        said: plain texts that come back with them, and with them a sum over all; None writes neither, and
            the same tensors always make the same bytes.

    Raises:
        OSError: as the system says: a full disk, no permission.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    plain = {name: value.detach().cpu().contiguous() for name, value in tensors.items()}
    temporary = path.with_name(f".{path.name}.tmp")
    metadata = {"format": "pt", **(said or {})}
    more = {} if said is None else {_SUM: _digest(plain, metadata)}
    try:
        save_file(plain, temporary, metadata={**metadata, **more})
        with temporary.open("rb") as file:
            os.fsync(file.fileno())
        temporary.chmod(0o644)  # safetensors' own 0600 would hide it from everybody else
        os.replace(temporary, path)
    except SafetensorError as error:
        # The library wraps what the system said into a text.
        number = re.search(r"os error (\d+)", str(error))
        code = int(number[1]) if number else errno.EIO
        raise OSError(code, os.strerror(code), str(path)) from error
    finally:
        temporary.unlink(missing_ok=True)


def read_tensors(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Reads what `write_tensors` wrote: tensors and texts.

    Raises:
        ValueError: the file is cut off, or a byte of it is not what was written.
        OSError: the system does not hand it out.
    """
    try:
        with safe_open(path, framework="pt") as file:
            said: dict[str, str] = dict(file.metadata() or {})
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a dict
    except SafetensorError as error:
        raise ValueError(str(error).splitlines()[0]) from error
    written = said.pop(_SUM, None)
    if written is not None and written != _digest(tensors, said):
        raise ValueError("its bytes are not those that were written")
    return tensors, said


def _digest(tensors: Mapping[str, Tensor], said: Mapping[str, str]) -> str:
    digest = hashlib.sha256(repr(sorted(said.items())).encode())
    for name, value in sorted(tensors.items()):
        digest.update(f"{name} {value.dtype} {tuple(value.shape)}".encode())
        digest.update(value.reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()
