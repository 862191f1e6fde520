"""The command line: a command finds a recipe, calls one function, prints."""

import codecs
import errno
import io
import shlex
import sys
import warnings
from collections.abc import Sequence

from langadapt.cli.app import app
from langadapt.errors import LangadaptError, LangadaptWarning, Stopped, stops_at_once

_MENDABLE = (
    *(errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EACCES, errno.EPERM, errno.EROFS),
    *(errno.ENOTDIR, errno.EISDIR, errno.EEXIST, errno.ENAMETOOLONG, errno.ELOOP),
)


_PLAIN = str.maketrans({"–": "-", "—": "-", "…": "...", "→": "->", "’": "'"})


def main() -> None:
    """Runs the command line. What a user can mend is one line and exit code 2; a bug shows its traceback.

    Stopped by a signal it ends with 128 and the signal's number, as shells expect.
    """
    _print_any_text()
    try:
        with stops_at_once(), warnings.catch_warnings():
            _plain_warnings()
            app()
    except (LangadaptError, OSError, RuntimeError) as error:
        line = _mendable(error)
        if line is None:
            raise
        sys.stderr.write(f"langadapt: {line}\n")
        sys.exit(2)
    except Stopped as stop:
        parts = (f"stopped by {stop.name}", stop.note, way_on(sys.argv[1:]))
        sys.stderr.write(f"\nlangadapt: {'; '.join(part for part in parts if part)}\n")
        sys.exit(128 + stop.number)


def _mendable(error: Exception) -> str | None:
    """Say what the user can mend, and how; None for a bug."""
    if isinstance(error, LangadaptError):
        return str(error)
    if isinstance(error, OSError) and error.errno in _MENDABLE:  # a full disk, a read-only folder
        return f"{error.filename or 'output'}: {error.strerror}; nothing was overwritten"
    if type(error).__name__ == "OutOfMemoryError":  # torch's, which is not imported here
        return f"{str(error).partition('. ')[0]}; lower the batch size, or choose another --device"
    return None


def _print_any_text() -> None:
    """Let streams that lack letters (a latin-1 terminal, half a surrogate pair) get escapes, not an error."""

    def escaped(error: UnicodeError) -> tuple[str | bytes, int]:
        assert isinstance(error, UnicodeEncodeError)
        part = error.object[error.start : error.end]
        return part.translate(_PLAIN).encode("ascii", "backslashreplace").decode(), error.end

    codecs.register_error("langadapt", escaped)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="langadapt")


def _plain_warnings() -> None:
    """Shows what langadapt itself warns of as one line, everything else as before."""
    shown = warnings.showwarning

    def show(message, category, *place, **more):  # type: ignore[no-untyped-def]
        if issubclass(category, LangadaptWarning):
            sys.stderr.write(f"langadapt: {message}\n")
        else:
            shown(message, category, *place, **more)

    warnings.simplefilter("always", LangadaptWarning)
    warnings.showwarning = show


_RESUMABLE = ("distill", "tune", "align", "domain", "index", "quickstart", "data build", "data translate")
_BEGINS_ANEW = ("--overwrite", "--rebuild")


def way_on(arguments: Sequence[str]) -> str:
    """How to go on after a command of these arguments was stopped; empty where nothing is left of it.

    Example:
        >>> way_on(["distill", "--lang", "zh", "--overwrite"])
        'go on with: langadapt distill --lang zh'
    """
    words = " ".join(arguments[:2])
    again = shlex.join(["langadapt", *(word for word in arguments if word not in _BEGINS_ANEW)])
    if words.startswith(_RESUMABLE):
        return f"go on with: {again}"
    if words.startswith("prompts"):
        return f"nothing was written; start again with: {again}"
    return ""
