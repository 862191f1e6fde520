"""A translated table: resumed equals uninterrupted, and nothing is taken from other work."""

from pathlib import Path

import pytest

from langadapt.data import parallel
from langadapt.data.parallel import write_translated
from langadapt.data.readers import read_table
from langadapt.errors import DataError

ENGLISH = [f"sentence {number}" for number in range(23)]


@pytest.fixture(autouse=True)
def _small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parallel, "_CHUNK_ROWS", 5)


class Machine:
    """Turns words round; breaks down after some chunks."""

    def __init__(self, chunks: int = 1000) -> None:
        self.chunks, self.seen = chunks, list[list[str]]()

    def __call__(self, texts: list[str]) -> list[str]:
        if len(self.seen) == self.chunks:
            raise KeyboardInterrupt
        self.seen.append(texts)
        return [text[::-1] for text in texts]


def quiet(done: int, total: int) -> None:
    """Nobody watches."""


def quiet_end(target: list[str]) -> None:
    """Nothing stands beside the table."""


@pytest.mark.parametrize("name", ["t.tsv", "t.parquet"])
def test_resumed_equals_uninterrupted(tmp_path: Path, name: str) -> None:
    whole, resumed = tmp_path / "a" / name, tmp_path / "b" / name
    whole.parent.mkdir()
    write_translated(whole, ENGLISH, Machine(), key="k", progress=quiet, finish=quiet_end)
    for chunks in (2, 1):
        with pytest.raises(KeyboardInterrupt):
            write_translated(resumed, ENGLISH, Machine(chunks), key="k", progress=quiet, finish=quiet_end)
        assert not resumed.exists()
    last, said = Machine(), list[tuple[int, int]]()
    write_translated(
        resumed, ENGLISH, last, key="k", progress=lambda *place: said.append(place), finish=quiet_end
    )
    assert [text for chunk in last.seen for text in chunk] == ENGLISH[15:], "what was done is not done again"
    assert said[-1] == (23, 23)
    assert resumed.read_bytes() == whole.read_bytes()
    assert [row.values for row in read_table(resumed, ("english", "target"))] == [
        (text, text[::-1]) for text in ENGLISH
    ]
    assert [path.name for path in resumed.parent.iterdir()] == [name], "no parts stay"


def test_parts_of_another_model_or_other_texts_are_not_taken(tmp_path: Path) -> None:
    out = tmp_path / "t.tsv"
    with pytest.raises(KeyboardInterrupt):
        write_translated(out, ENGLISH, Machine(3), key="one", progress=quiet, finish=quiet_end)
    other = Machine()
    write_translated(out, ENGLISH, other, key="two", progress=quiet, finish=quiet_end)
    assert sum(map(len, other.seen)) == 23


def test_a_half_written_part_is_made_again(tmp_path: Path) -> None:
    out = tmp_path / "t.tsv"
    with pytest.raises(KeyboardInterrupt):
        write_translated(out, ENGLISH, Machine(1), key="k", progress=quiet, finish=quiet_end)
    (parts,) = tmp_path.iterdir()
    (parts / ".000001.json.x.tmp").write_text('["half', encoding="utf-8")
    assert write_translated(out, ENGLISH, Machine(), key="k", progress=quiet, finish=quiet_end) == [
        t[::-1] for t in ENGLISH
    ]


def test_tabs_and_blank_translations(tmp_path: Path) -> None:
    out = tmp_path / "t.tsv"
    said = write_translated(
        out, ["a\tb", "c"], lambda texts: [texts[0], " "], key="k", progress=quiet, finish=quiet_end
    )
    assert said == ["a b", " "]
    assert out.read_text(encoding="utf-8") == "english\ttarget\na b\ta b\n"
    with pytest.raises(DataError, match="every translation is blank"):
        write_translated(
            tmp_path / "u.tsv", ["a"], lambda texts: [""], key="k", progress=quiet, finish=quiet_end
        )
    assert not (tmp_path / "u.tsv").exists()


def test_misuse_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "t.tsv").write_text("mine", encoding="utf-8")
    with pytest.raises(DataError, match="is there already"):
        write_translated(tmp_path / "t.tsv", ENGLISH, Machine(), key="k", progress=quiet, finish=quiet_end)
    assert (tmp_path / "t.tsv").read_text(encoding="utf-8") == "mine"
    with pytest.raises(DataError, match=r"ends in \.tsv or \.parquet"):
        write_translated(tmp_path / "t.txt", ENGLISH, Machine(), key="k", progress=quiet, finish=quiet_end)
