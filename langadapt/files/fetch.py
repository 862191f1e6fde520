"""Downloads: retried, continued where they stopped, verified."""

import hashlib
import json
import os
import time
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from filelock import FileLock
from huggingface_hub import constants, errors, get_session, get_token, snapshot_download
from huggingface_hub.errors import HfHubHTTPError, HTTPError
from huggingface_hub.utils import tqdm

from langadapt.errors import LangadaptWarning, ModelError
from langadapt.files.atomic import replacing, write_text
from langadapt.files.json import read_json
from langadapt.files.paths import real_path
from langadapt.files.store import cache_folder

T = TypeVar("T")

_TRIES = 5
_FIRST_WAIT_SECONDS, _LONGEST_WAIT_SECONDS = 1.0, 60.0
_BUSY = frozenset({408, 429, 500, 502, 503, 504})
_TIMEOUT_SECONDS = 60.0
_SHA256_DIGITS, _GIT_DIGITS = 64, 40


class WrongHashError(OSError):
    """A fetched file is not the one that its hash names."""


class NotTheFileError(OSError):
    """A server answers with something else than the file."""


_local_only: ContextVar[bool] = ContextVar("local_only", default=False)


@contextmanager
def local_only() -> Iterator[None]:
    """While inside, nothing is downloaded: what is not on this machine is missing."""
    token = _local_only.set(True)
    try:
        yield
    finally:
        _local_only.reset(token)


def is_offline() -> bool:
    """Whether nothing may be downloaded: `local_only`, `--offline` or HF_HUB_OFFLINE."""
    return _local_only.get() or bool(constants.HF_HUB_OFFLINE)


def download(
    url: str, path: Path, *, sha256: str | None = None, announce: Callable[[int], None] = lambda size: None
) -> None:
    """Download a file; a part that an earlier try left is continued.

    The file gets its name when it is complete and has its checksum. Two processes do not fetch it at once.
    `announce` is told the number of bytes, 0 where the server does not say, before the first one is read.

    Raise an HTTPError where the server refuses it or the connection was cut each time, a WrongHashError for
    another file than the checksum's (nothing of it is kept), a NotTheFileError for a page in HTML instead.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.part")
    with FileLock(path.with_name(f".{path.name}.lock")):
        if path.is_file():
            return
        with_backoff(lambda: _continue(url, part, announce), what=path.name)
        with part.open("rb") as file:
            if sha256 and hashlib.file_digest(file, "sha256").hexdigest() != sha256:
                part.unlink()
                raise WrongHashError("its SHA-256 is another one than the recipe's; it was thrown away")
        os.replace(part, path)


def download_small(url: str, path: Path) -> None:
    """Download a file of some megabytes at most, without a lock; raise as `download`."""

    def get() -> None:
        response = get_session().get(url, timeout=_TIMEOUT_SECONDS)
        response.raise_for_status()
        _refuse_html(response.headers, response.content[:64])
        with replacing(path) as temporary:
            temporary.write_bytes(response.content)

    with_backoff(get, what=path.name)


def _continue(url: str, part: Path, announce: Callable[[int], None]) -> None:
    """Read what is missing of a file. The server's mark of the version tells whether the old part fits."""
    mark = part.with_name(f"{part.name}.etag")
    done = part.stat().st_size if part.is_file() and mark.is_file() else 0
    headers = {"Accept-Encoding": "identity"}
    if done:
        headers |= {"Range": f"bytes={done}-", "If-Range": mark.read_text("utf-8")}
    with get_session().stream("GET", url, headers=headers, timeout=_TIMEOUT_SECONDS) as response:
        if response.status_code == 416:  # the part is as long as the file
            return
        response.raise_for_status()
        _refuse_html(response.headers, b"")
        if response.status_code != 206:
            done = 0
            mark.unlink(missing_ok=True)
            if etag := response.headers.get("ETag", ""):
                write_text(mark, etag)
        size = done + int(response.headers.get("Content-Length", 0))
        announce(size)
        bar: Any = tqdm(total=size or None, initial=done, unit="B", unit_scale=True, desc=part.name[1:-5])  # type: ignore[no-untyped-call]
        with bar, part.open("ab" if done else "wb") as file:
            for number, block in enumerate(response.iter_bytes()):
                if not number and not done:
                    _refuse_html(response.headers, block[:64])
                file.write(block)
                bar.update(len(block))
    mark.unlink(missing_ok=True)


def _refuse_html(headers: Mapping[str, str], start: bytes) -> None:
    page = start.lstrip().lower().startswith((b"<!doctype html", b"<html"))
    if page or headers.get("Content-Type", "").lower().startswith("text/html"):
        raise NotTheFileError("a page in HTML came instead of the file: a proxy or a login page answers")


def with_backoff(call: Callable[[], T], *, what: str) -> T:
    """Call, and call again if the Hub was busy or the connection was cut.

    The waits are 1, 2, 4 and 8 seconds, or as long as the Hub asks for, up to a minute each. Where nothing
    listens there is no second try: the machine is offline. `what` names the call in warnings.
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
    """Download a snapshot, or one file of it, and verify it by its hashes; retry as `with_backoff`."""

    def fetch() -> Path:
        folder = Path(download())
        for path in sorted(folder.rglob("*")) if folder.is_dir() else [folder]:
            if path.is_symlink() and path.is_file():
                _verify(path)
        return folder

    return with_backoff(fetch, what=what)


def fetch_snapshot(repo: str, revision: str | None, patterns: Iterable[str], *, what: str) -> Path:
    """Download some files of a model's repository and verify them; a ModelError says why none came."""
    download = partial(snapshot_download, repo, revision=revision, allow_patterns=list(patterns))
    try:
        return fetch_verified(download, what=what)
    except (HTTPError, errors.HFValidationError, OSError) as error:
        # No cause: a traceback of the HTTP library may show the request with its headers.
        raise ModelError(f"{what}: no such folder here; {hub_problem(error, repo, revision)}") from None


def one_line(error: BaseException) -> str:
    """Return an error in one line without the user's token: a server may send back what it was sent."""
    text, token = " ".join(str(error).split()) or type(error).__name__, get_token()
    return (text.replace(token, "***") if token else text)[:300]


def hub_problem(error: Exception, repo: str, revision: str | None, *, kind: str = "") -> str:
    """Say why nothing of a repository came, and the way out; `kind` is `datasets/`, or empty for models."""
    page = f"https://huggingface.co/{kind}{repo}"
    if isinstance(error, WrongHashError):
        return f"{error}; try again later"
    if isinstance(error, errors.RevisionNotFoundError):
        return f"no revision {revision}; {page}/commits/main lists them"
    unknown = isinstance(error, errors.RepositoryNotFoundError | errors.HFValidationError)
    if unknown and not isinstance(error, errors.GatedRepoError):
        return f"not on the Hub, or private; check the name at {page}, for a private one run `hf auth login`"
    if http_status(error) in (401, 403):
        return f"access is restricted; accept its terms at {page}, then run `hf auth login`"
    if is_offline():
        return "not in the Hub's cache, and --offline or HF_HUB_OFFLINE forbids to download it"
    problem = f"the Hub is out of reach ({one_line(error):.120}) and no copy is in the cache"
    return f"{problem}; check the connection, HF_ENDPOINT and HF_HUB_OFFLINE"


def http_status(error: BaseException) -> int | None:
    """Return the status of the answer that an error is about; None without one."""
    return getattr(getattr(error, "response", None), "status_code", None)


def _verify(link: Path) -> None:
    """Verify a cached file of the Hub by the hash that is its name; remember the result by size and time."""
    blob = real_path(link)
    facts = blob.stat()
    known = cache_folder() / "hub-files" / f"{blob.name}.json"
    stamp = [facts.st_size, facts.st_mtime_ns]
    try:
        if read_json(known) == stamp:
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
            digest = hashlib.sha1(b"blob %d\0" % size, usedforsecurity=False)
            return hashlib.file_digest(file, lambda: digest).hexdigest()
    return None


def _passing_reason(error: BaseException) -> str | None:
    for cause in causes(error):
        if isinstance(cause, WrongHashError):
            return str(cause)
        status = http_status(cause)
        if status in _BUSY:
            return f"the server answers {status}"
        if status is not None:
            return None  # an answer that stays the same
        if isinstance(cause, HTTPError) and not isinstance(cause, HfHubHTTPError):
            name = type(cause).__name__
            return None if name.startswith("Connect") else f"the connection was cut ({name})"
    return None


def _retry_after(error: BaseException) -> float:
    for cause in causes(error):
        headers = getattr(getattr(cause, "response", None), "headers", {})
        if (seconds := str(headers.get("Retry-After", ""))).isdigit():
            return float(seconds)
    return 0.0


def causes(error: BaseException) -> Iterator[BaseException]:
    """Yield an error, what it came from, and so on."""
    found: BaseException | None = error
    while found is not None:
        yield found
        found = found.__cause__ or found.__context__
