"""A busy Hub is asked again, a wrong file is thrown away, and what cannot mend is not repeated."""

import hashlib
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
from huggingface_hub.errors import HTTPError

from langadapt.errors import LangadaptWarning
from langadapt.files.fetch import WrongHashError, fetch_verified, with_backoff


class Answered(OSError):
    def __init__(self, status: int, **headers: str) -> None:
        super().__init__(f"answered {status}")
        self.response = SimpleNamespace(status_code=status, headers=headers)


class Cut(HTTPError):
    pass


class ConnectError(HTTPError):
    pass


@pytest.fixture
def slept(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    found: list[float] = []
    monkeypatch.setattr(time, "sleep", found.append)
    monkeypatch.setattr("langadapt.files.fetch._FIRST_WAIT_SECONDS", 1.0)
    return found


def failing(*errors: Exception):
    left = list(errors)

    def call() -> str:
        if left:
            raise left.pop(0)
        return "done"

    return call


def test_it_waits_longer_each_time(slept: list[float]) -> None:
    with pytest.warns(
        LangadaptWarning, match="me/it: the server answers 429; trying again in 1 s .2 of 5."
    ) as said:
        assert (
            with_backoff(failing(Answered(429), Answered(500), Cut("cut"), Answered(503)), what="me/it")
            == "done"
        )
    assert slept == [1, 2, 4, 8]
    assert "the connection was cut (Cut); trying again in 4 s" in str(said[2].message)


def test_it_waits_as_long_as_it_is_asked_to(slept: list[float]) -> None:
    asked = [Answered(429, **{"Retry-After": value}) for value in ("7", "9000", "Wed, 21 Oct 2026")]
    with pytest.warns(LangadaptWarning):
        with_backoff(failing(*asked), what="x")
    assert slept == [7, 60, 4]


@pytest.mark.parametrize(
    "error",
    [Answered(404), Answered(401), ConnectError("refused"), OSError("disk"), ValueError("no")],
    ids=str,
)
def test_what_will_not_mend_is_not_repeated(slept: list[float], error: Exception) -> None:
    with pytest.raises(type(error)):
        with_backoff(failing(error, error), what="x")
    assert slept == []


def test_the_fifth_time_is_the_last(slept: list[float]) -> None:
    with pytest.raises(Answered, match="502"), pytest.warns(LangadaptWarning):
        with_backoff(failing(*[Answered(502)] * 9), what="x")
    assert len(slept) == 4


def cache(folder: Path, name: str, content: bytes) -> str:
    """A file as the Hub's cache keeps it, under its hash."""
    blob = folder / "blobs" / name
    link = folder / "snapshots" / "main" / "file.bin"
    for path in (blob, link):
        path.parent.mkdir(parents=True, exist_ok=True)
    blob.write_bytes(content)
    link.unlink(missing_ok=True)
    link.symlink_to(blob)
    return str(link.parent)


@pytest.mark.parametrize("git", [False, True], ids=["sha256", "git"])
def test_a_wrong_file_is_fetched_again(slept: list[float], tmp_path: Path, git: bool) -> None:
    good = b"good content" + bytes([git])
    name = hashlib.sha1(b"blob 13\0" + good).hexdigest() if git else hashlib.sha256(good).hexdigest()
    contents = [b"bad", good]
    with pytest.warns(LangadaptWarning, match="file.bin is not the file that the Hub announced"):
        folder = fetch_verified(lambda: cache(tmp_path, name, contents.pop(0)), what="x")
    assert (folder / "file.bin").read_bytes() == good
    with pytest.raises(WrongHashError), pytest.warns(LangadaptWarning):
        fetch_verified(lambda: cache(tmp_path, name, b"bad"), what="x")
    assert not (tmp_path / "blobs" / name).exists(), "nobody takes it for good later"


def test_a_clear_answer_is_not_asked_for_again(slept: list[float]) -> None:
    # As the library raises it: its own error, caused by the HTTP client's.
    refused = Answered(404)
    refused.__cause__ = Cut("404")
    with pytest.raises(Answered):
        with_backoff(failing(refused), what="me/it")
    assert not slept
