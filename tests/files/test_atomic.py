"""A file is the old or the new one, on the disk before it has its name, and nothing stays beside it."""

import os
import stat
import time
from pathlib import Path

import pytest

from langadapt.files.atomic import replacing, write_text


def test_an_error_keeps_the_old_file_and_leaves_nothing(tmp_path: Path) -> None:
    path = tmp_path / "new" / "page.txt"
    write_text(path, "old\n")

    def stopped() -> None:
        with replacing(path) as temporary:
            temporary.write_text("half of the n")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        stopped()
    assert path.read_bytes() == b"old\n"
    write_text(path, "né\n")
    assert path.read_bytes() == "né\n".encode()
    assert [item.name for item in path.parent.iterdir()] == ["page.txt"]
    assert stat.S_IMODE(path.stat().st_mode) == 0o644


def test_content_is_on_the_disk_before_the_name_and_the_name_before_the_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    done: list[tuple[str, bytes]] = []
    sync, replace = os.fsync, os.replace

    def synced(number: int) -> None:
        folder = stat.S_ISDIR(os.fstat(number).st_mode)
        done.append(("folder", b"") if folder else ("file", os.pread(number, 99, 0)))
        sync(number)

    def replaced(source: Path, target: Path) -> None:
        done.append(("replace", Path(target).name.encode()))
        replace(source, target)

    monkeypatch.setattr(os, "fsync", synced)
    monkeypatch.setattr(os, "replace", replaced)
    write_text(tmp_path / "a", "text")
    assert done == [("file", b"text"), ("replace", b"a"), ("folder", b"")]


def test_what_killed_writers_left_of_this_file_goes_after_a_day(tmp_path: Path) -> None:
    for name, age in ((".a[1].x.tmp", 90_000), (".a[1].y.tmp", 60), (".b.x.tmp", 90_000)):
        (tmp_path / name).write_text("half")
        os.utime(tmp_path / name, (time.time() - age,) * 2)
    write_text(tmp_path / "a[1]", "whole")
    assert sorted(os.listdir(tmp_path)) == [".a[1].y.tmp", ".b.x.tmp", "a[1]"]
