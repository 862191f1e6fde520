"""Texts and token ids on disk read as lists and arrays do, and leave nothing behind."""

import os
import resource
import time
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from langadapt.data.parallel import distinct
from langadapt.data.tokens import Tokens, tokenize
from langadapt.errors import DataError
from langadapt.files import temporary
from langadapt.files.temporary import Texts, join_texts, take_texts, temporary_array, temporary_texts

ROWS = [(f"english {number}", f"língua {number % 7}\n\t") for number in range(40)]


@pytest.fixture
def columns(monkeypatch: pytest.MonkeyPatch) -> list[Texts]:
    monkeypatch.setattr("langadapt.files.temporary._TEXTS_AT_ONCE", 9)  # several record batches
    return temporary_texts(iter(ROWS), columns=2)


def test_they_read_as_lists_do(columns: list[Texts]) -> None:
    for texts, wanted in zip(columns, zip(*ROWS, strict=True), strict=True):
        assert list(texts) == list(wanted)
        assert [texts[0], texts[-1], texts[8], texts[9]] == [wanted[0], wanted[-1], wanted[8], wanted[9]]
        assert texts[7:30:3] == list(wanted[7:30:3])
        with pytest.raises(IndexError):
            texts[40]


def test_joined_and_taken(columns: list[Texts]) -> None:
    whole = [a for a, _ in ROWS] + ["more", *(b for _, b in ROWS)]
    texts = join_texts([columns[0], ["more"], columns[1]])
    assert list(texts) == whole
    some = take_texts(texts, np.array([80, 3, 40, 3]))
    assert list(some) == [whole[80], whole[3], "more", whole[3]]
    assert list(take_texts(some, np.array([2, 0]))) == ["more", whole[80]]
    assert list(join_texts([some, columns[0]])) == [*some, *(a for a, _ in ROWS)]
    assert take_texts(["a", "b"], np.array([1])) == ["b"]


def test_nothing_stays_in_the_cache(columns: list[Texts], tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setenv("LANGADAPT_CACHE", str(tmp_path))
    kept = temporary_texts(ROWS, columns=2)

    def broken(error: Exception):
        yield ROWS[0]
        raise error

    for error in (DataError("line 2 is blank"), ConnectionResetError("the source hung up")):
        with pytest.raises(type(error), match=str(error)):
            temporary_texts(broken(error), columns=2)
    assert os.listdir(tmp_path) == []
    assert kept[0][1] == "english 1"
    blocked = tmp_path / "file"
    blocked.write_text("")
    monkeypatch.setenv("LANGADAPT_CACHE", str(blocked))
    with pytest.raises(DataError, match=r"cannot write .*LANGADAPT_CACHE"):
        temporary_texts(ROWS, columns=2)


def test_many_token_ids_go_to_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    texts = [letter * (1 + 5 * number % 7) for number, letter in enumerate("abcdefghijklmnop" * 3)]

    monkeypatch.setattr("langadapt.data.tokens._TEXTS_AT_ONCE", 5)

    def made() -> tuple[Tokens, np.ndarray]:
        tokens = tokenize(texts, lambda some: [[ord(c) for c in text] for text in some], pad_id=0)
        return tokens.by_length()

    tokens, place = made()
    monkeypatch.setattr(temporary, "_MEMORY_BYTES", 60)
    mapped, same = made()
    assert isinstance(mapped.ids, np.memmap)
    assert not isinstance(tokens.ids, np.memmap)
    assert mapped.ids.tolist() == tokens.ids.tolist()
    assert mapped.lengths.tolist() == sorted(map(len, texts))
    assert place.tolist() == same.tolist()
    for text, row in zip(texts, place, strict=True):
        ids = mapped.ids[mapped.offsets[row] : mapped.offsets[row + 1]]
        assert "".join(map(chr, ids)) == text


@given(st.lists(st.sampled_from(["", "a", "b", "ab", "ba", "é", "e\u0301"])))
def test_distinct_texts_in_order_of_appearance(texts: list[str]) -> None:
    found = distinct(texts)
    places: dict[str, int] = {}
    assert found.index.tolist() == [places.setdefault(text, len(places)) for text in texts]
    assert found.first.tolist() == [texts.index(text) for text in places]


def test_what_a_killed_process_left_goes_after_a_day(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LANGADAPT_CACHE", str(tmp_path))
    for name, age in (("temporary-old", 90_000), ("temporary-new", 60), ("other", 90_000)):
        (tmp_path / name).write_bytes(b"x")
        os.utime(tmp_path / name, (time.time() - age,) * 2)
    temporary_texts(ROWS, columns=2)
    assert sorted(os.listdir(tmp_path)) == ["other", "temporary-new"]


def test_a_full_disk_is_noticed_by_its_last_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(temporary, "_MEMORY_BYTES", 0)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100, hard))
    try:
        with pytest.raises(DataError, match=r"File too large.*LANGADAPT_CACHE"):
            temporary_array([np.arange(20, dtype=np.int32)] * 2, np.int32)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
