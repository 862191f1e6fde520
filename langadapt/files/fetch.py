"""Retry and verify Hub downloads."""

import hashlib
import json
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeVar

from huggingface_hub import get_token
from huggingface_hub.errors import HfHubHTTPError, HTTPError

from langadapt.errors import LangadaptWarning
from langadapt.files.atomic import write_text
from langadapt.files.store import cache_folder

T = TypeVar("T")

_TRIES = 5
_FIRST_WAIT_SECONDS, _LONGEST_WAIT_SECONDS = 1.0, 60.0
_BUSY = frozenset({408, 429, 500, 502, 503, 504})
_SHA256_DIGITS, _GIT_DIGITS = 64, 40


class WrongHashError(OSError):
    """A fetched file is not the one that its hash names."""


def with_backoff(call: Callable[[], T], *, what: str) -> T:
    """Call, and call again if the Hub was busy or the connection was cut.

    The waits are 1, 2, 4 and 8 seconds, or as long as the Hub asks for, up to a minute each time. Where
    nothing listens at all there is no second try: the machine is offline.

    Args:
        call: may be called several times.
        what: names it in the warnings.
    """
    wait = _FIRST_WAIT_SECONDS
    for tried in range(1, _TRIES):
        try:
            return call()
        except (HTTPError, OSError, RuntimeError, ValueError) as error:
            reason = _passing_reason(error)
            if reason is None:
                raise
            seconds = min(max(wait, _retry_after(error)), _LONGEST_WAIT_SECONDS)
        again = f"{what}: {reason}; trying again in {seconds:.0f} s ({tried + 1} of {_TRIES})"
        warnings.warn(again, LangadaptWarning, stacklevel=2)
        time.sleep(seconds)
        wait *= 2
    return call()


def fetch_verified(download: Callable[[], str], *, what: str) -> Path:
    """Download a snapshot and verify its files by their hashes; retry as `with_backoff`.

    Raises:
        WrongHashError: a file was wrong each time.
    """

    def fetch() -> Path:
        folder = Path(download())
        for path in sorted(folder.rglob("*")):
            if path.is_symlink() and path.is_file():
                _verify(path)
        return folder

    return with_backoff(fetch, what=what)


def one_line(error: BaseException) -> str:
    """Return an error in one line without the user's token: a server may send back what it was sent."""
    return without_token(" ".join(str(error).split()) or type(error).__name__)[:300]


def without_token(text: str) -> str:
    """Replace the user's token by stars."""
    token = get_token()
    return text.replace(token, "***") if token else text


def _verify(link: Path) -> None:
    """Compare a file of the Hub's cache with its name, once: it is then known by size and time."""
    blob = link.resolve()
    facts = blob.stat()
    known = cache_folder() / "hub-files" / f"{blob.name}.json"
    stamp = [facts.st_size, facts.st_mtime_ns]
    try:
        if json.loads(known.read_text(encoding="utf-8")) == stamp:
            return
    except (OSError, ValueError):
        pass
    if _content_hash(blob, facts.st_size) not in (None, blob.name):
        link.unlink()
        blob.unlink()
        raise WrongHashError(f"{link.name} is not the file that the Hub announced; it was thrown away")
    write_text(known, json.dumps(stamp))


def _content_hash(blob: Path, size: int) -> str | None:
    """Return the hash of the kind that names the file: SHA-256, or git's own for small files; else None."""
    with blob.open("rb") as file:
        if len(blob.name) == _SHA256_DIGITS:
            return hashlib.file_digest(file, "sha256").hexdigest()
        if len(blob.name) == _GIT_DIGITS:
            return hashlib.sha1(b"blob %d\0" % size + file.read(), usedforsecurity=False).hexdigest()
    return None


def _passing_reason(error: BaseException) -> str | None:
    """Return what went wrong, if it may go right the next time."""
    for cause in _causes(error):
        if isinstance(cause, WrongHashError):
            return str(cause)
        status = getattr(getattr(cause, "response", None), "status_code", None)
        if status in _BUSY:
            return f"the Hub answers {status}"
        if status is not None:
            return None  # an answer that stays the same
        if isinstance(cause, HTTPError) and not isinstance(cause, HfHubHTTPError):
            name = type(cause).__name__
            return None if name.startswith("Connect") else f"the connection was cut ({name})"
    return None


def _retry_after(error: BaseException) -> float:
    """Return the seconds of the Hub's `Retry-After`; 0 without one, or for a date."""
    for cause in _causes(error):
        headers = getattr(getattr(cause, "response", None), "headers", {})
        if (seconds := str(headers.get("Retry-After", ""))).isdigit():
            return float(seconds)
    return 0.0


def _causes(error: BaseException) -> Iterator[BaseException]:
    found: BaseException | None = error
    while found is not None:
        yield found
        found = found.__cause__ or found.__context__
