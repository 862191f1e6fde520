"""An index agrees with its folder, and nothing is encoded twice or lost in silence."""

import os
import shutil
import sqlite3
import threading
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from colour_tower import LONG_AGO_NS, Colour, paint, update
from PIL import Image

from langadapt.data.images import open_image
from langadapt.errors import DataError
from langadapt.search.catalogue import display_name
from langadapt.search.index import open_index

RED = np.array([[1, 0, 0]], np.float32)


def names(index_path: Path) -> list[str]:
    index = open_index(index_path, None)
    return [display_name(name) for name in index.names]


def agrees(index_path: Path, expected: dict[str, tuple[int, int, int]]) -> None:
    """Every image is there once, with the row of its own colour."""
    index = open_index(index_path, None)
    assert names(index_path) == sorted(expected)
    for number, name in enumerate(sorted(expected)):
        unit = np.array(expected[name], np.float32) / np.linalg.norm(expected[name])
        np.testing.assert_allclose(index.row(number)[0], unit, rtol=1e-6)


def test_only_what_is_new_or_changed_is_encoded(photos: Path, tmp_path: Path) -> None:
    index_path, first, second = tmp_path / "index", Colour(), Colour()
    done = update(photos, index_path, first)
    assert (done.images, done.encoded, done.same, done.removed, done.failed) == (3, 3, 0, 0, [])
    agrees(index_path, {"red.png": (1, 0, 0), "sub/green.png": (0, 1, 0), "blue.png": (0, 0, 1)})

    paint(photos / "red.png", (250, 250, 0), time_ns=LONG_AGO_NS + 1)
    paint(photos / "white.png", (9, 9, 9))
    (photos / "blue.png").unlink()
    done = update(photos, index_path, second)
    assert (done.images, done.encoded, done.same, done.removed) == (3, 2, 1, 1)
    assert sorted(second.asked) == [(9, 9, 9), (250, 250, 0)]
    agrees(index_path, {"red.png": (1, 1, 0), "sub/green.png": (0, 1, 0), "white.png": (1, 1, 1)})
    assert "blue.png" not in {hit.name for hit in open_index(index_path, None).search(RED, count=9)[0]}


def test_known_content_is_not_encoded_again(photos: Path, tmp_path: Path) -> None:
    """Moved, copied, touched: the content decides."""
    index_path, again = tmp_path / "index", Colour()
    update(photos, index_path, Colour())
    (photos / "red.png").rename(photos / "sub" / "moved.png")
    shutil.copy(photos / "blue.png", photos / "copy.png")
    os.utime(photos / "sub" / "green.png", ns=(1, 1))
    done = update(photos, index_path, again)
    assert (again.asked, done.images, done.encoded) == ([], 4, 0)
    blue = (0, 0, 1)
    agrees(
        index_path,
        {"blue.png": blue, "copy.png": blue, "sub/green.png": (0, 1, 0), "sub/moved.png": (1, 0, 0)},
    )


def test_a_file_changed_within_the_same_time_and_size_is_noticed(tmp_path: Path) -> None:
    """Times are coarse: a file written just before it was read is read again, whatever its time says."""
    photos, index_path = tmp_path / "photos", tmp_path / "index"
    paint(photos / "a.bmp", (250, 0, 0))
    now = time.time_ns() + 3_600_000_000_000  # later than the reading, however slow the machine is
    os.utime(photos / "a.bmp", ns=(now, now))
    update(photos, index_path, Colour())
    paint(photos / "a.bmp", (0, 250, 0), time_ns=now)
    assert update(photos, index_path, Colour()).encoded == 1
    agrees(index_path, {"a.bmp": (0, 1, 0)})


def test_a_new_time_at_the_same_size_is_noticed(tmp_path: Path) -> None:
    photos, index_path = tmp_path / "photos", tmp_path / "index"
    paint(photos / "a.bmp", (250, 0, 0))
    update(photos, index_path, Colour())
    paint(photos / "a.bmp", (0, 250, 0), time_ns=LONG_AGO_NS + 1)
    assert update(photos, index_path, Colour()).encoded == 1
    agrees(index_path, {"a.bmp": (0, 1, 0)})


def test_what_failed_is_tried_again_even_if_size_and_time_stay(tmp_path: Path) -> None:
    """As when a file's rights are mended."""
    photos, index_path = tmp_path / "photos", tmp_path / "index"
    paint(photos / "a.bmp", (250, 0, 0))
    (photos / "b.bmp").write_bytes(b"x" * (photos / "a.bmp").stat().st_size)
    os.utime(photos / "b.bmp", ns=(LONG_AGO_NS, LONG_AGO_NS))
    assert len(update(photos, index_path, Colour()).failed) == 1
    paint(photos / "b.bmp", (0, 250, 0))
    assert update(photos, index_path, Colour()).failed == []
    agrees(index_path, {"a.bmp": (1, 0, 0), "b.bmp": (0, 1, 0)})


def test_a_killed_update_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("langadapt.search.update._BATCH", 4)
    photos, index_path = tmp_path / "photos", tmp_path / "index"
    colours = {f"{number:02}.png": (number, 10, 10) for number in range(14)}
    for name, colour in colours.items():
        paint(photos / name, colour)
    first, second = Colour(stop_after=8), Colour()
    with pytest.raises(KeyboardInterrupt):
        update(photos, index_path, first)
    assert names(index_path) == sorted(colours)[:8], "what is certain can be searched"
    with (index_path / "rows-0.bin").open("ab") as file:
        file.write(b"\xff" * 30)  # rows that reached the disk before their batch was certain
    done = update(photos, index_path, second, verify=True)
    assert (len(first.asked), len(second.asked), done.images) == (8, 6, 14)
    agrees(index_path, colours)


def test_images_that_fail_are_listed_and_tried_again(photos: Path, tmp_path: Path) -> None:
    index_path = tmp_path / "index"
    Image.effect_noise((64, 64), 50).save(photos / "cut.png")
    whole = (photos / "cut.png").read_bytes()
    (photos / "cut.png").write_bytes(whole[: len(whole) // 2])
    (photos / "text.jpg").write_text("no picture")
    (photos / "empty.gif").touch()
    (photos / "gone.png").symlink_to(tmp_path / "nowhere")
    (photos / "folder.png").mkdir()
    os.mkfifo(photos / "pipe.png")
    Image.new("RGB", (1, 900)).save(photos / "thread.png")
    for name in ("a.heic", "b.HEIC", "README"):
        (photos / name).touch()
    (photos / "elsewhere").symlink_to(tmp_path, target_is_directory=True)
    done = update(photos, index_path, Colour())
    assert done.images == 3
    assert done.skipped == {".heic": 2, "README": 1, "link": 1}
    reasons = {display_name(item.name): item.reason for item in done.failed}
    assert list(reasons) == sorted(reasons)
    expected = {
        "cut.png": "damaged",
        "empty.gif": "is empty",
        "gone.png": "No such file",
        "pipe.png": "not a regular file",
        "text.jpg": "not an image",
        "thread.png": "oblong",
    }
    assert reasons.keys() == expected.keys()
    for name, word in expected.items():
        assert word in reasons[name], reasons[name]
    paint(photos / "text.jpg", (7, 7, 7), time_ns=(photos / "text.jpg").stat().st_mtime_ns)
    (photos / "cut.png").unlink()
    done = update(photos, index_path, Colour())
    assert (done.images, done.encoded, len(done.failed)) == (4, 1, 4)


def test_equal_scores_stand_by_name_whoever_shares_a_row(tmp_path: Path) -> None:
    """a and c are one content, b looks the same and is another file."""
    photos, index_path = tmp_path / "photos", tmp_path / "index"
    paint(photos / "c.png", (250, 0, 0))
    update(photos, index_path, Colour())
    shutil.copy(photos / "c.png", photos / "a.png")
    Image.new("RGB", (9, 9), (250, 0, 0)).save(photos / "b.png")
    paint(photos / "d.png", (0, 250, 0))
    update(photos, index_path, Colour())
    index = open_index(index_path, None)
    for count in range(1, 5):
        assert [hit.name for hit in index.search(RED, count=count)[0]] == [
            "a.png",
            "b.png",
            "c.png",
            "d.png",
        ][:count]


def test_a_picture_that_turns_bad_leaves_the_index(photos: Path, tmp_path: Path) -> None:
    index_path = tmp_path / "index"
    update(photos, index_path, Colour())
    (photos / "red.png").write_bytes(b"spoiled")
    done = update(photos, index_path, Colour())
    assert [display_name(item.name) for item in done.failed] == ["red.png"]
    assert names(index_path) == ["blue.png", "sub/green.png"]


def test_names_that_are_not_utf8(tmp_path: Path) -> None:
    photos, index_path = tmp_path / "photos", tmp_path / "index"
    odd = photos / os.fsdecode(b"\xe9t\xe9.png")
    paint(odd, (250, 0, 0))
    update(photos, index_path, Colour())
    ((hit,),) = open_index(index_path, None).search(RED, count=1)
    assert (hit.name, hit.path) == ("\ufffdt\ufffd.png", odd)


def test_gaps_of_removed_images_are_closed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("langadapt.search.catalogue._LEAST_GAPS", 2)
    photos, index_path = tmp_path / "photos", tmp_path / "index"
    colours = {f"{number:02}.png": (number, 10, 10) for number in range(10)}
    for name, colour in colours.items():
        paint(photos / name, colour)
    update(photos, index_path, Colour())
    before = open_index(index_path, None)
    kept = {name: colour for name, colour in colours.items() if name in ("00.png", "05.png", "09.png")}
    for name in colours.keys() - kept.keys():
        (photos / name).unlink()
    paint(photos / "new.png", (0, 0, 99))
    again = Colour()
    update(photos, index_path, again)
    assert again.asked == [(0, 0, 99)]
    assert [path.stat().st_size for path in index_path.glob("rows-*.bin")] == [4 * 3 * 4]
    agrees(index_path, {**kept, "new.png": (0, 0, 99)})
    assert len(before) == 10
    assert before.search(RED, count=1)[0][0].name == "09.png", "who reads the old state keeps it"


def test_another_image_tower_is_refused_and_a_rebuild_reindex_paths_it(photos: Path, tmp_path: Path) -> None:
    index_path, other = tmp_path / "index", Colour("another")
    update(photos, index_path, Colour())
    with pytest.raises(DataError, match=r"another image model.*--rebuild"):
        update(photos, index_path, other)
    with pytest.raises(DataError, match="another image model"):
        open_index(index_path, other.tower)
    assert other.asked == []
    assert update(photos, index_path, other, rebuild=True).encoded == 3
    assert len(open_index(index_path, other.tower)) == 3


def test_another_folder_is_refused(photos: Path, tmp_path: Path) -> None:
    update(photos, tmp_path / "index", Colour())
    paint(tmp_path / "others" / "a.png", (1, 1, 1))
    with pytest.raises(DataError, match=r"the index of .*photos, not of .*others"):
        update(tmp_path / "others", tmp_path / "index", Colour())


def test_a_folder_with_other_files_is_refused_for_an_index(photos: Path, tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "letter.txt").touch()
    with pytest.raises(DataError, match=r"holds other files, first 'letter.txt'"):
        update(photos, tmp_path / "mine", Colour(), rebuild=True)


CHANGES = {
    "names exchanged": "UPDATE images SET slot = CASE slot WHEN 0 THEN 1 WHEN 1 THEN 0 ELSE slot END",
    "rows exchanged": "UPDATE rows SET slot = CASE slot WHEN 0 THEN 9 WHEN 1 THEN 0 END WHERE slot < 2;"
    "UPDATE rows SET slot = 1 WHERE slot = 9",
    "way out": "UPDATE images SET name = CAST('../../etc/passwd' AS BLOB) WHERE slot = 0",
    "absolute": "UPDATE images SET name = CAST('/etc/passwd' AS BLOB) WHERE slot = 0",
    "renamed": "UPDATE images SET name = CAST('red2.png' AS BLOB) WHERE slot = 0",
    "view": "ALTER TABLE images RENAME TO real; CREATE VIEW images AS SELECT * FROM real",
    "trigger": "CREATE TRIGGER more AFTER INSERT ON rows BEGIN DELETE FROM images; END",
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=list(CHANGES))
def test_a_changed_catalogue_is_never_used(photos: Path, tmp_path: Path, change: str) -> None:
    index_path = tmp_path / "index"
    update(photos, index_path, Colour())
    with sqlite3.connect(index_path / "index.sqlite") as connection:
        connection.executescript(change)
    if change == CHANGES["rows exchanged"]:  # the rows themselves go along
        path = index_path / "rows-0.bin"
        rows = np.fromfile(path, np.float32).reshape(3, 3)
        rows[[1, 0, 2]].tofile(path)
    with pytest.raises(DataError, match=r"damaged index.*--rebuild"):
        open_index(index_path, None)
    with pytest.raises(DataError, match=r"damaged index.*--rebuild"):
        update(photos, index_path, Colour(), verify=True)
    assert update(photos, index_path, Colour(), rebuild=True).encoded == 3


@pytest.mark.parametrize("part", ["catalogue", "schema", "short rows", "a bit", "not a number"])
def test_a_damaged_index_is_never_used(photos: Path, tmp_path: Path, part: str) -> None:
    index_path = tmp_path / "index"
    update(photos, index_path, Colour())
    rows = index_path / "rows-0.bin"
    raw = bytearray(rows.read_bytes())
    if part == "catalogue":
        (index_path / "index.sqlite").write_bytes(b"not a data base at all" * 400)
    elif part == "schema":
        with sqlite3.connect(index_path / "index.sqlite") as connection:
            connection.execute("DROP TABLE rows")
    elif part == "short rows":
        rows.write_bytes(raw[:-4])
    elif part == "a bit":
        raw[1] ^= 1
        rows.write_bytes(raw)
    else:
        raw[0:4] = np.float32(np.nan).tobytes()
        rows.write_bytes(raw)
    with pytest.raises(DataError, match="--rebuild"):
        open_index(index_path, None).search(np.ones((1, 3), np.float32), count=3)
    with pytest.raises(DataError, match=r"damaged index.*--rebuild"):
        update(photos, index_path, Colour(), verify=True)
    assert update(photos, index_path, Colour(), rebuild=True).encoded == 3
    agrees(index_path, {"red.png": (1, 0, 0), "sub/green.png": (0, 1, 0), "blue.png": (0, 0, 1)})


def test_of_two_writers_one_waits(photos: Path, tmp_path: Path) -> None:
    index_path, first, second = tmp_path / "index", Colour(), Colour()
    inside, go_on = threading.Event(), threading.Event()
    encode = first.tower.encode

    def slow(images):  # type: ignore[no-untyped-def]
        inside.set()
        assert go_on.wait(20)
        return encode(images)

    object.__setattr__(first.tower, "encode", slow)
    one = threading.Thread(target=update, args=(photos, index_path, first))
    two = threading.Thread(target=update, args=(photos, index_path, second))
    one.start()
    assert inside.wait(20)
    two.start()
    two.join(0.3)
    assert two.is_alive()
    go_on.set()
    one.join(20)
    two.join(20)
    assert (len(first.asked), len(second.asked)) == (3, 0)


def test_folders_without_images(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="no such folder"):
        update(tmp_path / "nowhere", tmp_path / "index", Colour())
    with pytest.raises(DataError, match="holds no images; expected files ending in"):
        update(tmp_path / "empty", tmp_path / "index", Colour())
    (tmp_path / "empty" / "bad.jpg").write_text("no picture")
    assert update(tmp_path / "empty", tmp_path / "index", Colour()).images == 0
    with pytest.raises(DataError, match="none of its 1 images can be read"):
        open_index(tmp_path / "index", None)


def test_an_index_of_another_version_is_refused(photos: Path, tmp_path: Path) -> None:
    update(photos, tmp_path / "index", Colour())
    with sqlite3.connect(tmp_path / "index" / "index.sqlite") as connection:
        connection.execute(
            "UPDATE meta SET value = replace(value, '\"format_version\": 3', '\"format_version\": 1')"
        )
    with pytest.raises(DataError, match=r"written by another version.*--rebuild"):
        open_index(tmp_path / "index", None)


@pytest.mark.parametrize(
    ("fault", "words"), [("changes", "changed while it was read"), ("nan", "no finite numbers")]
)
def test_an_image_that_cannot_be_encoded_is_listed(
    photos: Path, tmp_path: Path, fault: str, words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    index, colour = tmp_path / "index", Colour()
    shutil.copy(photos / "red.png", photos / "same.png")
    if fault == "changes":
        opened = open_image

        def open_and_change(path: Path) -> Image.Image:
            image = opened(path)
            if path.name in ("red.png", "same.png"):
                os.utime(path, ns=(1, 1))
            return image

        monkeypatch.setattr("langadapt.search.update.open_image", open_and_change)
    else:
        encode = colour.tower.encode
        object.__setattr__(
            colour.tower, "encode", lambda images: encode(images).where(encode(images)[:, :1] != 1, torch.nan)
        )
    done = update(photos, index, colour)
    assert [(display_name(file.name), words in str(file.reason)) for file in done.failed] == [
        ("red.png", True),
        ("same.png", True),
    ]
    assert (done.images, done.encoded, done.same) == (2, 2, 0)
    assert names(index) == ["blue.png", "sub/green.png"]
    monkeypatch.undo()
    assert update(photos, index, Colour()).failed == []


def test_equal_files_are_encoded_once(photos: Path, tmp_path: Path) -> None:
    shutil.copy(photos / "red.png", photos / "same.png")
    colour = Colour()
    done = update(photos, tmp_path / "index", colour)
    assert (len(colour.asked), done.images, done.encoded, done.same) == (3, 4, 3, 1)
