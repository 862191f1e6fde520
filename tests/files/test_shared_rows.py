"""Rows of texts: computed once each, found by whoever needs them, and never taken from a damaged file."""

import warnings
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch

from langadapt.errors import LangadaptWarning
from langadapt.files.store import SharedRows, shared_rows


def row(text: str) -> torch.Tensor:
    return torch.tensor([len(text), ord(text[0]), ord(text[-1])], dtype=torch.float32)


class Teacher:
    """Computes longer texts last, two at a time, and notes what it computed."""

    def __init__(self, *, fails_after: int = 999) -> None:
        self.computed: list[str] = []
        self.fails_after = fails_after

    def rows(self, folder: Path, texts: list[str]) -> SharedRows:
        def compute(
            missing: np.ndarray, left: int
        ) -> tuple[np.ndarray, Callable[[int], Iterator[torch.Tensor]]]:
            assert len(missing) <= left
            order = np.array(sorted(missing, key=lambda place: len(texts[place])))

            def fill(done: int) -> Iterator[torch.Tensor]:
                for start in range(done, len(order), 2):
                    some = [texts[place] for place in order[start : start + 2]]
                    self.computed += some
                    yield torch.stack([row(text) for text in some])
                    if len(self.computed) >= self.fails_after:
                        raise KeyboardInterrupt

            return order, fill

        return shared_rows(folder / "teacher", texts, dim=3, compute=compute)


def right(found: SharedRows, texts: list[str]) -> bool:
    wanted = torch.stack([row(text) for text in texts])
    backwards = np.arange(len(texts))[::-1].copy()
    weights = np.linspace(0, 1, len(texts))
    torch.testing.assert_close(found.weighted_sum(weights), torch.from_numpy(weights).float() @ wanted)
    return torch.equal(found.take(backwards), wanted[torch.from_numpy(backwards)])


def test_each_text_is_computed_once_whoever_asks(tmp_path: Path) -> None:
    first, second = Teacher(), Teacher()
    assert right(first.rows(tmp_path, ["dog", "a cat", "sea"]), ["dog", "a cat", "sea"])
    more = ["a red car", "sea", "house", "a cat"]
    found = second.rows(tmp_path, more)
    assert sorted(second.computed) == ["a red car", "house"]
    assert right(found, more)
    third = Teacher()
    everything = ["sea", "a red car", "dog", "house", "a cat"]
    assert right(third.rows(tmp_path, everything), everything)
    assert third.computed == []


def test_an_interrupted_part_goes_on(tmp_path: Path) -> None:
    texts = ["abcde", "a", "abc", "ab", "abcd"]
    broken = Teacher(fails_after=4)
    with pytest.raises(KeyboardInterrupt):
        broken.rows(tmp_path, texts)
    again = Teacher()
    assert right(again.rows(tmp_path, texts), texts)
    assert again.computed[-1] == "abcde"
    assert len(again.computed) < 5


@pytest.mark.parametrize("name", ["rows.bin", "digests.safetensors"])
def test_a_damaged_part_is_computed_again(tmp_path: Path, name: str) -> None:
    Teacher().rows(tmp_path, ["dog", "cat"])
    (path,) = tmp_path.rglob(name)
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    again = Teacher()
    with pytest.warns(LangadaptWarning, match="damaged"):
        found = again.rows(tmp_path, ["cat", "house", "dog"])
    assert right(found, ["cat", "house", "dog"])
    assert sorted(again.computed) == ["cat", "dog", "house"]
    again.computed.clear()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert right(again.rows(tmp_path, ["cat", "house", "dog"]), ["cat", "house", "dog"])
    assert again.computed == []


@pytest.mark.parametrize(
    "names", [["digests.safetensors"], ["rows.bin", "rows.crc"]], ids=["digests", "rows"]
)
def test_exchanged_files_of_two_parts_are_noticed(tmp_path: Path, names: list[str]) -> None:
    Teacher().rows(tmp_path, ["dog", "cat"])
    Teacher().rows(tmp_path, ["sea", "sky"])
    for name in names:
        one, two = sorted(tmp_path.rglob(name))
        one.rename(tmp_path / "kept")
        two.rename(one)
        (tmp_path / "kept").rename(two)
    texts = ["sky", "cat", "sea", "dog"]
    with pytest.warns(LangadaptWarning, match="damaged"):
        assert right(Teacher().rows(tmp_path, texts), texts)
    again = Teacher()
    assert right(again.rows(tmp_path, texts), texts)
    assert again.computed == []


def test_an_interrupted_run_keeps_its_parts_whatever_came_between(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("langadapt.files.store._TEXTS_PER_PART", 4)
    texts = [letter * 3 for letter in "abcdefghij"]
    with pytest.raises(KeyboardInterrupt):
        Teacher(fails_after=6).rows(tmp_path, texts)
    Teacher().rows(tmp_path, ["jjj", "other"])
    again = Teacher()
    assert right(again.rows(tmp_path, texts), texts)
    assert again.computed == ["ggg", "hhh", "iii"], "six were kept, one is another run's"


def test_processes_that_want_the_same_texts_share_one_computation(tmp_path: Path) -> None:
    texts = [f"{number} text" for number in range(40)]
    counts = []
    with ThreadPoolExecutor(4) as pool:  # each opens the lock file anew, as a process does

        def ask(_: int) -> bool:
            teacher = Teacher()
            found = teacher.rows(tmp_path, texts)
            counts.append(len(teacher.computed))
            return right(found, texts)

        assert all(pool.map(ask, range(4)))
    assert sorted(counts) == [0, 0, 0, 40]
