"""Folders that appear whole or not at all."""

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from langadapt.errors import ModelError


@contextmanager
def whole_folder(out: Path, *, overwrite: bool) -> Iterator[Path]:
    """A folder beside `out` that takes its name when everything in it is written.

    Raises:
        ModelError: `out` exists and is not empty, and may not be replaced.
    """
    if out.exists() and not out.is_dir():
        raise ModelError(f"{out}: is a file; choose another --out")
    used = out.is_dir() and any(out.iterdir())
    if used and not overwrite:
        raise ModelError(f"{out}: is not empty; choose another --out, or --overwrite")
    out.parent.mkdir(parents=True, exist_ok=True)
    partial = Path(tempfile.mkdtemp(dir=out.parent, prefix=f".{out.name}."))
    try:
        yield partial
        for path in (partial, *partial.rglob("*")):
            path.chmod(0o755 if path.is_dir() else 0o644)  # mkdtemp's 0700 would hide it from everybody else
        if out.exists():
            shutil.rmtree(out)
        partial.replace(out)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
