"""A store is complete or it is not read; what is certain is never computed again."""

import errno
import hashlib
import itertools
import os
import resource
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

from langadapt.errors import DataError, LangadaptWarning
from langadapt.files.store import StoreSpec, cache_folder, fingerprint, stored_rows

ROWS = torch.randn(10, 4, generator=torch.Generator().manual_seed(0))
SPEC = StoreSpec(kind="test", fingerprint="abc", rows=10, dim=4)


class Compute:
    """Yields `ROWS` three at a time and remembers which; may stop before a chunk, as a killed run does."""

    def __init__(self, *, stop_at: int | None = None) -> None:
        self.asked: list[int] = []
        self.yielded: list[int] = []
        self.stop_at = stop_at

    def __call__(self, done: int) -> Iterator[torch.Tensor]:
        self.asked.append(done)
        for start in range(done, len(ROWS), 3):
            if start == self.stop_at:
                raise KeyboardInterrupt
            self.yielded += range(start, min(start + 3, len(ROWS)))
            yield ROWS[start : start + 3]


def folder(root: Path) -> Path:
    return root / "test" / "abc"


def interrupted(root: Path, stop_at: int) -> None:
    with pytest.raises(KeyboardInterrupt):
        stored_rows(root, SPEC, Compute(stop_at=stop_at))
    assert not (folder(root) / "rows.bin").exists()


def test_rows_are_computed_once(tmp_path: Path) -> None:
    first, second = Compute(), Compute()
    assert torch.equal(stored_rows(tmp_path, SPEC, first), ROWS)
    assert torch.equal(stored_rows(tmp_path, SPEC, second), ROWS)
    assert first.yielded == list(range(10))
    assert second.asked == []
    assert (folder(tmp_path) / "rows.bin").read_bytes() == ROWS.numpy().tobytes()


def test_changing_the_rows_in_memory_leaves_the_file_alone(tmp_path: Path) -> None:
    stored_rows(tmp_path, SPEC, Compute()).zero_()
    assert torch.equal(stored_rows(tmp_path, SPEC, Compute()), ROWS)


def test_bfloat16_is_kept_bit_for_bit(tmp_path: Path) -> None:
    spec = StoreSpec(kind="test", fingerprint="abc", rows=10, dim=4, dtype="bfloat16")
    rows = stored_rows(tmp_path, spec, Compute())
    assert rows.dtype == torch.bfloat16
    assert torch.equal(rows, ROWS.bfloat16())
    assert spec.bytes == (folder(tmp_path) / "rows.bin").stat().st_size == 80


@pytest.mark.parametrize("stop_at", [0, 3, 9])
def test_an_interrupted_store_goes_on(tmp_path: Path, stop_at: int) -> None:
    interrupted(tmp_path, stop_at)
    again = Compute()
    assert torch.equal(stored_rows(tmp_path, SPEC, again), ROWS)
    assert again.asked == [stop_at]
    assert again.yielded == list(range(stop_at, 10))
    assert {path.name for path in folder(tmp_path).iterdir()} <= {"rows.bin", "rows.crc", "lock"}


@pytest.mark.parametrize(
    ("size", "goes_on_at"), [(7 * 16 + 5, 6), (20 * 16, 6), (6 * 16, 6), (6 * 16 - 1, 0), (0, 0)], ids=str
)
def test_a_torn_file_is_never_trusted(tmp_path: Path, size: int, goes_on_at: int) -> None:
    """The journal says 6 rows; bytes behind them are uncertain, fewer than them mean another file."""
    interrupted(tmp_path, 6)
    with (folder(tmp_path) / "rows.partial").open("r+b") as file:
        file.seek(6 * 16)
        file.write(b"\xff" * 64)
        file.truncate(size)
    again = Compute()
    assert torch.equal(stored_rows(tmp_path, SPEC, again), ROWS)
    assert again.asked == [goes_on_at]
    assert (folder(tmp_path) / "rows.bin").stat().st_size == SPEC.bytes


@pytest.mark.parametrize("text", ["", "{", '{"rows": 6, "dim": 8, "dtype": "float32"}', '{"rows": 11}'])
def test_a_journal_that_does_not_fit_starts_again(tmp_path: Path, text: str) -> None:
    interrupted(tmp_path, 6)
    (folder(tmp_path) / "journal.json").write_text(text, encoding="utf-8")
    again = Compute()
    assert torch.equal(stored_rows(tmp_path, SPEC, again), ROWS)
    assert again.asked == [0]


def test_a_short_final_file_is_computed_again(tmp_path: Path) -> None:
    stored_rows(tmp_path, SPEC, Compute())
    with (folder(tmp_path) / "rows.bin").open("r+b") as file:
        file.truncate(100)
    with pytest.warns(LangadaptWarning, match="damaged .100 bytes of 160.; computed again"):
        assert torch.equal(stored_rows(tmp_path, SPEC, Compute()), ROWS)


@pytest.mark.parametrize("place", [0, 77, 159])
def test_a_flipped_bit_is_noticed_and_the_rows_are_computed_again(tmp_path: Path, place: int) -> None:
    stored_rows(tmp_path, SPEC, Compute())
    flip(folder(tmp_path) / "rows.bin", place)
    again = Compute()
    with pytest.warns(LangadaptWarning, match="not those that were written.; computed again"):
        assert torch.equal(stored_rows(tmp_path, SPEC, again), ROWS)
    assert again.asked == [0]
    assert torch.equal(stored_rows(tmp_path, SPEC, Compute()), ROWS)


def test_a_flipped_bit_in_the_certain_part_of_an_interrupted_store(tmp_path: Path) -> None:
    interrupted(tmp_path, 6)
    flip(folder(tmp_path) / "rows.partial", 17)
    again = Compute()
    assert torch.equal(stored_rows(tmp_path, SPEC, again), ROWS)
    assert again.asked == [0]


def test_rows_without_their_checksum_are_computed_again(tmp_path: Path) -> None:
    stored_rows(tmp_path, SPEC, Compute())
    (folder(tmp_path) / "rows.crc").unlink()
    again = Compute()
    with pytest.warns(LangadaptWarning, match="computed again"):
        assert torch.equal(stored_rows(tmp_path, SPEC, again), ROWS)
    assert again.asked == [0]


@pytest.mark.parametrize("finished", [True, False])
def test_rows_of_another_store_are_noticed(tmp_path: Path, finished: bool) -> None:
    """Of the same shape, exchanged with their sums."""
    other = StoreSpec(kind="test", fingerprint="other", rows=10, dim=4)
    stored_rows(tmp_path, other, lambda done: iter([-ROWS]))
    if finished:
        stored_rows(tmp_path, SPEC, Compute())
        for name in ("rows.bin", "rows.crc"):
            (tmp_path / "test" / "other" / name).replace(folder(tmp_path) / name)
        with pytest.warns(LangadaptWarning, match="not those that were written.; computed again"):
            assert torch.equal(stored_rows(tmp_path, SPEC, Compute()), ROWS)
    else:
        interrupted(tmp_path, 6)
        (tmp_path / "test" / "other").rename(tmp_path / "test" / "gone")
        folder(tmp_path).rename(tmp_path / "test" / "other")
        assert torch.equal(stored_rows(tmp_path, other, lambda done: iter([-ROWS[done:]])), -ROWS)


def test_rows_of_another_width_or_type_are_not_continued(tmp_path: Path) -> None:
    """Eight bfloat16 are as many bytes as four float32: only the journal tells them apart."""
    interrupted(tmp_path, 6)
    asked: list[int] = []

    def other(done: int) -> Iterator[torch.Tensor]:
        asked.append(done)
        yield torch.ones(10 - done, 8)

    spec = StoreSpec(kind="test", fingerprint="abc", rows=10, dim=8, dtype="bfloat16")
    assert torch.equal(stored_rows(tmp_path, spec, other), torch.ones(10, 8, dtype=torch.bfloat16))
    assert asked == [0]


def flip(path: Path, place: int) -> None:
    raw = bytearray(path.read_bytes())
    raw[place] ^= 16
    path.write_bytes(raw)


def test_a_full_disk_is_one_line_and_the_next_run_completes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = itertools.count()

    def full(number: int) -> None:
        if next(calls) == 6:  # three a chunk: rows, journal, folder
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        with pytest.raises(DataError, match=r"the disk is full.*LANGADAPT_CACHE.*goes on where it stopped"):
            stored_rows(tmp_path, SPEC, Compute())
    assert not (folder(tmp_path) / "rows.bin").exists()
    again = Compute()
    assert torch.equal(stored_rows(tmp_path, SPEC, again), ROWS)
    assert again.asked == [6]


def test_a_file_that_may_not_grow_is_one_line_and_the_next_run_completes(tmp_path: Path) -> None:
    """A real write that stops half-way through a chunk."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100, hard))
    try:
        with pytest.raises(DataError, match="cannot write the store") as error:
            stored_rows(tmp_path, SPEC, Compute())
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert "\n" not in str(error.value)
    assert (folder(tmp_path) / "rows.partial").stat().st_size == 100
    again = Compute()
    assert torch.equal(stored_rows(tmp_path, SPEC, again), ROWS)
    assert again.asked == [6]


@pytest.mark.parametrize("count", [9, 11])
def test_another_number_of_rows_is_a_bug_and_never_read(tmp_path: Path, count: int) -> None:
    def wrong(done: int) -> Iterator[torch.Tensor]:
        yield torch.zeros(count - done, 4)

    with pytest.raises(ValueError, match=f"expects 10 rows, {count} were computed"):
        stored_rows(tmp_path, SPEC, wrong)
    assert not (folder(tmp_path) / "rows.bin").exists()


def test_two_at_once_compute_it_once(tmp_path: Path) -> None:
    begun = threading.Event()
    first, second = Compute(), Compute()

    def slow(done: int) -> Iterator[torch.Tensor]:
        for chunk in first(done):
            begun.set()
            yield chunk
            threading.Event().wait(0.02)

    worker = threading.Thread(target=lambda: stored_rows(tmp_path, SPEC, slow))
    worker.start()
    begun.wait()
    assert torch.equal(stored_rows(tmp_path, SPEC, second), ROWS)
    worker.join()
    assert second.asked == []


def test_fingerprint_changes_with_every_part() -> None:
    ids = np.array([1, 2, 3], np.int32)
    parts = (1, "revision", 77, None, ids, np.array([0, 2, 3]))
    changed = [
        (2, *parts[1:]),
        (1, "Revision", *parts[2:]),
        (*parts[:2], 64, *parts[3:]),
        (*parts[:3], 64, *parts[4:]),
        (*parts[:4], np.array([1, 2, 4], np.int32), parts[5]),
        (*parts[:5], np.array([0, 1, 3])),
        parts[:-1],
        (*parts, ""),
        parts[::-1],
    ]
    names = {fingerprint(*given) for given in (parts, *changed)}
    assert len(names) == 1 + len(changed)
    assert fingerprint(*parts) == fingerprint(*parts)


def test_texts_cannot_flow_into_each_other() -> None:
    lists = (["ab", "c"], ["a", "bc"], ["abc"], ["abc", ""], ["c", "ab"])
    assert len({fingerprint(*texts) for texts in lists}) == len(lists)


def test_fingerprint_stays_what_it_was() -> None:
    """Another value would throw away every cache of every user."""
    raw = b"".join(len(part).to_bytes(8, "little") + part for part in (b"ab", b"1"))
    assert fingerprint("ab", 1) == hashlib.sha256(raw).hexdigest()[:24]


def test_cache_folder_is_the_users_choice(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LANGADAPT_CACHE", "~/somewhere")
    assert cache_folder() == Path.home() / "somewhere"
    monkeypatch.delenv("LANGADAPT_CACHE")
    assert cache_folder() == Path.home() / ".cache" / "langadapt"
