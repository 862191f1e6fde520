"""A folder that replaces another: the old one or the new one is there, whenever the process ends."""

import os
from pathlib import Path

import pytest
from filelock import FileLock

from langadapt.errors import DataError, LangadaptError
from langadapt.files import atomic
from langadapt.files.atomic import alone, removed_if_refused, whole_folder


class Ended(BaseException):
    """Stands for SIGKILL: nothing is cleaned up behind it."""


def write(out: Path, text: str, *, overwrite: bool | None = False) -> None:
    with whole_folder(out, overwrite=overwrite) as folder:
        (folder / "inner").mkdir()
        (folder / "inner" / "a").write_text(text)


def refused(out: Path) -> None:
    with whole_folder(out, overwrite=True) as folder:
        (folder / "a").write_text("x")
        raise DataError("refused")


def test_what_takes_its_name(tmp_path: Path) -> None:
    out = tmp_path / "some" / "out"
    write(out, "one")
    with pytest.raises(LangadaptError, match=r"out: is not empty; choose another --out, or --overwrite"):
        write(out, "two")
    write(out, "two", overwrite=True)
    assert (out / "inner" / "a").read_text() == "two"
    assert [path.name for path in out.parent.iterdir()] == ["out"]
    (tmp_path / "file").write_text("x")
    with pytest.raises(LangadaptError, match="file: is a file"):
        write(tmp_path / "file", "x", overwrite=True)


def test_a_refusal_leaves_the_old_one_and_nothing_else(tmp_path: Path) -> None:
    write(tmp_path / "out", "one")
    for out in (tmp_path / "out", tmp_path / "new" / "er"):
        with pytest.raises(DataError):
            refused(out)
    assert (tmp_path / "out" / "inner" / "a").read_text() == "one"
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_ended_at_every_step_it_is_the_old_or_the_new_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each rename, removal and sync in turn is the one before which the process ends."""
    originals = {name: getattr(os, name) for name in ("rename", "fsync", "mkdir", "unlink", "chmod")}
    finished, at = False, 0
    while not finished:
        at += 1
        place = tmp_path / str(at)
        write(place / "out", "old")
        count = 0

        def counted(name: str, at: int = at):  # type: ignore[no-untyped-def]
            def call(*given, **more):  # type: ignore[no-untyped-def]
                nonlocal count
                count += 1
                if count >= at:
                    raise Ended
                return originals[name](*given, **more)

            return call

        with monkeypatch.context() as patch:
            for name in originals:
                patch.setattr(os, name, counted(name))
            try:
                write(place / "out", "new", overwrite=True)
                finished = True
            except Ended:
                pass
        names = {path.name for path in place.iterdir()}
        kept = place / ("out" if "out" in names else ".out.old") / "inner" / "a"
        assert kept.read_text() in ("old", "new"), names
        with pytest.raises(LangadaptError, match="is not empty"):
            write(place / "out", "x")
        write(place / "out", "last", overwrite=True)
        assert [path.name for path in place.iterdir()] == ["out"], at
        assert (place / "out" / "inner" / "a").read_text() == "last"
    assert at > 10


@pytest.mark.parametrize(("old", "trains"), [(False, False), (False, True), (True, False), (True, True)])
def test_a_new_folder_stays_once_the_log_is_written(tmp_path: Path, old: bool, trains: bool) -> None:
    """`old`: the log of a run before lies there, as with --overwrite."""
    data, log = tmp_path / "run" / "data", tmp_path / "run" / "log.jsonl"
    if old:
        log.parent.mkdir()
        log.write_text("old")
        os.utime(log, (1, 1))

    def refused() -> None:
        with removed_if_refused(data, unless=log):
            data.mkdir(parents=True)
            if trains:
                log.write_text("new")
            raise DataError("refused")

    with pytest.raises(DataError):
        refused()
    assert data.is_dir() == trains
    assert log.exists() == (old or trains)


def test_a_second_process_is_refused_in_one_line(tmp_path: Path) -> None:
    with FileLock(tmp_path / ".out.lock"), pytest.raises(LangadaptError, match="another process writes it"):
        write(tmp_path / "out", "x")
    write(tmp_path / "out", "x")
    with alone(tmp_path / "lock", "busy"):
        with pytest.raises(LangadaptError, match="busy"), alone(tmp_path / "lock", "busy"):
            pass
        assert (tmp_path / "lock").exists()
    assert not (tmp_path / "lock").exists()


def test_a_folder_is_synced_before_it_has_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    synced: list[str] = []
    monkeypatch.setattr(atomic, "sync", lambda path: synced.append(path.name))
    write(tmp_path / "out", "x")
    assert synced == ["inner", "a", ".out.partial", tmp_path.name]
