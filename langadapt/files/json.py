"""Read files that may be damaged or hostile: regular ones, of bounded size; faulty JSON is a ValueError.

Exports carry the text of this file.
"""

import errno
import json
import math
import stat
from io import BufferedReader
from pathlib import Path
from typing import Any

_MOST_BYTES = 1 << 26


def read_bytes(path: Path, *, most_bytes: int = _MOST_BYTES) -> bytes:
    """Read a regular file of at most `most_bytes`, 64 MB; raise as `open_regular`."""
    with open_regular(path, most_bytes=most_bytes) as file:
        return file.read()


def open_regular(path: Path, *, most_bytes: int | None = None) -> BufferedReader:
    """Open a file for reading; an OSError for a folder, pipe or device, or more than `most_bytes`."""
    status = path.stat()
    if stat.S_ISDIR(status.st_mode):
        raise IsADirectoryError(errno.EISDIR, "is a folder", str(path))
    if not stat.S_ISREG(status.st_mode):
        raise OSError(errno.EINVAL, "is a pipe or a device, not a regular file", str(path))
    if most_bytes is not None and status.st_size > most_bytes:
        raise OSError(errno.EFBIG, f"has {status.st_size:,} bytes, {most_bytes:,} are allowed", str(path))
    return path.open("rb")


def parse_json(text: str | bytes) -> Any:
    """Parse JSON; a ValueError for what is no JSON, nested too deeply, or no number of float64."""
    try:
        return json.loads(text, parse_float=_number, parse_constant=_number)
    except RecursionError:
        raise ValueError("nested too deeply") from None


def read_json(path: Path) -> Any:
    """Parse a file of UTF-8; raise as `parse_json` and `read_bytes`."""
    return parse_json(read_bytes(path).decode())


def _number(text: str) -> float:
    value = float(text)
    if math.isinf(value):
        raise ValueError(f"{text} is too large a number")
    return value
