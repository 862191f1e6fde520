"""Every reader refuses damaged input in its own words; what the fuzzer found; what must round-trip."""

import csv
import io
import json
import resource
import sqlite3
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from fuzz import Reader, fuzz, fuzz_all
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image
from small_world import small_index, small_teacher

from langadapt.data.classification import read_class_names
from langadapt.data.images import open_image
from langadapt.data.pairs import load_pairs
from langadapt.data.readers import read_table
from langadapt.data.rows import read_aligned
from langadapt.errors import DataError, LangadaptError, ModelError, RecipeError
from langadapt.models.load import load_tokenizer, resolve_model
from langadapt.recipes import ModelRef, read_yaml
from langadapt.search.index import open_index


def test_damaged_input_of_every_reader() -> None:
    trials = fuzz_all(inputs=400, seed=0)
    assert len(trials) > 40
    assert [f"{trial.name}: {fault}" for trial in trials for fault in trial.failures] == []
    assert sum(trial.tried for trial in trials) >= 390


@pytest.mark.parametrize(
    ("read", "words"),
    [
        (lambda folder: {}["x"], "KeyError"),
        (lambda folder: (folder / "out").write_text("x"), "wrote into the folder"),
        (lambda folder: bytearray(10**15), "memory bound"),
        (lambda folder: spin(), "of the processor, or hung"),
    ],
    ids=["bug", "writes", "swells", "hangs"],
)
def test_the_fuzzer_sees_faults(read, words: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A reader that is good until its input changes, then is not."""
    monkeypatch.setattr("fuzz._SECONDS", 0.05)
    reader = Reader(
        name="x", files={"a": b"good"}, read=lambda f: (f / "a").read_bytes() == b"good" or read(f)
    )
    trial = fuzz(reader, inputs=3, seed=1)
    assert trial.failures
    assert words in trial.failures[0]


def spin() -> None:
    while True:
        pass


# What a text may be in a table: no half surrogate pair, something in it.
texts = st.text(st.characters(codec="utf-8"), min_size=1, max_size=30).filter(lambda text: text.strip())
rows = st.lists(st.tuples(texts, texts), min_size=1, max_size=5)
once_per_test = settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


def read(path: Path) -> list[tuple[str, str]]:
    return [row.values for row in read_table(path, ("english", "target"))]


@once_per_test
@given(rows)
def test_what_was_written_is_read(tmp_path: Path, pairs: list[tuple[str, str]]) -> None:
    lines = "".join(json.dumps({"target": b, "english": a}, ensure_ascii=False) + "\n" for a, b in pairs)
    (tmp_path / "a.jsonl").write_text(lines, encoding="utf-8", newline="\n")
    assert read(tmp_path / "a.jsonl") == pairs
    pq.write_table(
        pa.table({"english": [a for a, _ in pairs], "target": [b for _, b in pairs]}), tmp_path / "a.parquet"
    )
    assert read(tmp_path / "a.parquet") == pairs
    out = io.StringIO()
    csv.writer(out, lineterminator="\n").writerows([("english", "target"), *pairs])
    (tmp_path / "a.csv").write_text(out.getvalue(), encoding="utf-8", newline="\n")
    if not any("\r" in text or "\0" in text for pair in pairs for text in pair):
        assert read(tmp_path / "a.csv") == pairs


@once_per_test
@given(st.binary(max_size=200), st.binary(max_size=60))
def test_any_bytes_are_lines_or_refused(tmp_path: Path, left: bytes, right: bytes) -> None:
    (tmp_path / "a").write_bytes(left)
    (tmp_path / "b").write_bytes(right)
    try:
        found = list(read_aligned(tmp_path / "a", tmp_path / "b"))
    except LangadaptError:
        return
    assert len(found) == left.count(b"\n") + (not left.endswith(b"\n"))


def test_names_that_lead_out_or_are_too_long(tmp_path: Path) -> None:
    """Found by the fuzzer: a name of 300 letters was a traceback; one with `..` was read."""
    photos = tmp_path / "photos"
    photos.mkdir()
    (tmp_path / "secret.jpg").write_bytes(b"x")
    for name, words in {
        "../secret.jpg": "leads out of",
        str(tmp_path / "secret.jpg"): "leads out of",
        "a/../../secret.jpg": "leads out of",
        "x" * 300: "cannot be a file's name",
    }.items():
        (photos / "p.jsonl").write_text(
            json.dumps({"image": name, "caption": "gato"}) + "\n", encoding="utf-8"
        )
        with pytest.raises(DataError, match=words):
            load_pairs(str(photos / "p.jsonl"))
    (photos / "a.jpg").write_bytes(b"x")
    (photos / "p.jsonl").write_text('{"image": "b/../a.jpg", "caption": "gato"}\n', encoding="utf-8")
    (photos / "b").mkdir()
    assert len(load_pairs(str(photos / "p.jsonl")).images) == 1


@pytest.mark.parametrize("slot", ["99", "NULL", "'x'", "-1"])
def test_an_index_whose_catalogue_names_no_row(tmp_path: Path, slot: str) -> None:
    place = small_index(tmp_path / "index")
    with sqlite3.connect(place / "index.sqlite") as connection:
        connection.execute("PRAGMA ignore_check_constraints = 1")
        connection.execute(f"UPDATE images SET slot = {slot} WHERE name = X'302e706e67'")
    if slot == "NULL":  # an image that could not be read
        assert len(open_index(place, None)) == 3
        return
    with pytest.raises(DataError, match="damaged index"):
        open_index(place, None)


def test_an_index_whose_description_is_no_text(tmp_path: Path) -> None:
    """Found by the fuzzer: Python's own sqlite3 errors have no code, which was an AttributeError."""
    place = small_index(tmp_path / "index")
    with sqlite3.connect(place / "index.sqlite") as connection:
        connection.execute("UPDATE meta SET value = CAST(X'FFFE' AS TEXT)")
    with pytest.raises(DataError, match="damaged index"):
        open_index(place, None)


def test_a_tokenizer_that_is_no_tokenizer(tmp_path: Path) -> None:
    """Found by the fuzzer: transformers raises whatever comes, here a TypeError."""
    folder = small_teacher(tmp_path / "teacher")
    path = folder / "tokenizer_config.json"
    said = json.loads(path.read_text(encoding="utf-8"))
    for value in ({"a": 1}, [1], 7):
        path.write_text(json.dumps({**said, "added_tokens_decoder": value}), encoding="utf-8")
        with pytest.raises(ModelError, match="no usable tokenizer"):
            load_tokenizer(resolve_model(ModelRef(repo=str(folder))))
    path.write_text(json.dumps(said), encoding="utf-8")
    path = folder / "tokenizer.json"
    path.write_text(path.read_text(encoding="utf-8").replace("unk_token", "unk"), encoding="utf-8")
    with pytest.raises(ModelError, match="no usable tokenizer"):
        load_tokenizer(resolve_model(ModelRef(repo=str(folder))))


def test_yaml_tags_and_bombs_are_refused(tmp_path: Path) -> None:
    tags = ["!!python/object/apply:os.system ['touch out']", "!!python/name:os.system ''", "!own {}"]
    for tag in tags:
        (tmp_path / "a.yaml").write_text(f"code: {tag}\n", encoding="utf-8")
        with pytest.raises(RecipeError):
            read_yaml(tmp_path / "a.yaml")
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 10)}]" for i in range(1, 12)]
    (tmp_path / "a.yaml").write_text("\n".join(lines) + "\n", encoding="utf-8")
    with pytest.raises(RecipeError, match="alias"):
        read_yaml(tmp_path / "a.yaml")
    (tmp_path / "a.yaml").write_text("[" * 20_000, encoding="utf-8")
    with pytest.raises(RecipeError, match="nested too deep"):
        read_yaml(tmp_path / "a.yaml")


@pytest.mark.parametrize(("key", "value"), [("folder", 7), ("dim", 2.5), ("end", -1)])
def test_an_index_whose_description_makes_no_sense(tmp_path: Path, key: str, value: object) -> None:
    """Found by the fuzzer: a folder that is no path was a traceback when it was searched."""
    place = small_index(tmp_path / "index")
    with sqlite3.connect(place / "index.sqlite") as connection:
        said = json.loads(connection.execute("SELECT value FROM meta").fetchone()[0])
        connection.execute("UPDATE meta SET value = ?", (json.dumps({**said, key: value}),))
    with pytest.raises(DataError, match=r"damaged index.*its description"):
        open_index(place, None)


def test_class_names_under_keys_of_several_kinds(tmp_path: Path) -> None:
    """Found by the fuzzer: keys that cannot be sorted were a traceback."""
    (tmp_path / "c.yaml").write_text("cat: {names: gato, 7: x, null: y}\n", encoding="utf-8")
    with pytest.raises(DataError, match="expected names and perhaps english, got names, 7, None"):
        read_class_names(tmp_path / "c.yaml")


def test_a_tiff_whose_rows_begin_at_a_fraction(tmp_path: Path) -> None:
    """Found by the fuzzer: Pillow raises a TypeError."""
    Image.new("RGB", (8, 8), "red").save(tmp_path / "a.tiff")
    whole, fraction = b"\x11\x01\x04\x00", b"\x11\x01\x05\x00"  # tag 273, strip offsets, and its type
    content = (tmp_path / "a.tiff").read_bytes()
    assert content.count(whole) == 1
    (tmp_path / "a.tiff").write_bytes(content.replace(whole, fraction))
    with pytest.raises(DataError, match="damaged image"):
        open_image(tmp_path / "a.tiff")


def test_no_room_for_a_new_index(tmp_path: Path) -> None:
    """Found where files may not grow: SQLite's disk I/O error was a traceback."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, hard))
    try:
        with pytest.raises(DataError, match="cannot use the index: disk I/O error; make room"):
            small_index(tmp_path / "index")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert not (tmp_path / "index" / "index.sqlite").exists()
