import gzip
from pathlib import Path

import pytest

from langadapt.data.parallel import ParallelSentences, load_parallel
from langadapt.data.rows import read_aligned
from langadapt.errors import DataError
from langadapt.recipes import ParallelRecipe
from langadapt.recipes.find import RecipeFile


def recipe(folder: Path, *, shipped: bool = False, **keys: object) -> RecipeFile[ParallelRecipe]:
    made = ParallelRecipe.model_validate(
        {"name": "tiny", "title": "Tiny", "licence": "CC0-1.0", "language": "de", **keys}, strict=False
    )
    return RecipeFile(recipe=made, path=folder / "tiny.yaml", shipped=shipped)


def files(*paths: str) -> dict[str, object]:
    return {"kind": "files", "paths": paths}


def test_aligned_files_pair_lines_and_keep_odd_spaces(tmp_path: Path) -> None:
    english, german = tmp_path / "a.en.gz", tmp_path / "a.de"
    english.write_bytes(gzip.compress("one\u2028more\ntwo\x0b\x1c\x85\nthree\n".encode()))
    german.write_bytes('\ufeffeins\r\nzwei "\r\ndrei'.encode())
    assert [row.values for row in read_aligned(english, german)] == [
        ("one\u2028more", "eins"),
        ("two\x0b\x1c\x85", 'zwei "'),
        ("three", "drei"),
    ]


@pytest.mark.parametrize(
    ("english", "german", "expected"),
    [
        ("a\nb\nc\n", "x\ny\n", "a.en has 3 lines, {}a.de has 2"),
        ("a\nb\n", "x\ny\nz\nw\n", "a.en has 2 lines, {}a.de has 4"),
        ("a\nb\nc\n", "x\n\ny\n", "a.de: line 2 (beside a.en): text is empty"),
        ("a\n \nc\n", "x\ny\nz\n", "a.en: line 2 (beside a.de): text is empty"),
        ("", "", "hold no lines"),
    ],
)
def test_aligned_faults(tmp_path: Path, english: str, german: str, expected: str) -> None:
    (tmp_path / "a.en").write_text(english)
    (tmp_path / "a.de").write_text(german)
    with pytest.raises(DataError) as caught:
        list(read_aligned(tmp_path / "a.en", tmp_path / "a.de"))
    assert expected.format(f"{tmp_path}/") in str(caught.value)


def test_files_of_a_users_recipe_lie_beside_it_and_concatenate(tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "1.tsv").write_text("en\tde\na\tb\n")
    (tmp_path / "2.jsonl").write_text('{"de": "d", "en": "c"}\n')
    found = recipe(
        tmp_path,
        source=files("sub/1.tsv", "2.jsonl"),
        columns={"english": "en", "target": "de"},
        expected_rows=2,
    )
    made = load_parallel(found)
    assert (made.name, made.language) == ("tiny", "de")
    assert (list(made.english), list(made.target)) == (["a", "c"], ["b", "d"])


def test_expected_rows(tmp_path: Path) -> None:
    (tmp_path / "1.tsv").write_text("english\ttarget\na\tb\n")
    with pytest.raises(DataError, match=r"tiny\.yaml: expected_rows is 2, the data hold 1;"):
        load_parallel(recipe(tmp_path, source=files("1.tsv"), expected_rows=2))


def test_shipped_recipes_read_below_langadapt_data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    aligned = {"kind": "aligned", "english": "a.en", "target": "../shared/a.de"}
    found = recipe(tmp_path / "package", shipped=True, source=aligned)
    monkeypatch.delenv("LANGADAPT_DATA", raising=False)
    with pytest.raises(
        DataError, match=r"tiny: LANGADAPT_DATA is not set; `export LANGADAPT_DATA=.* as tiny/"
    ):
        load_parallel(found)
    monkeypatch.setenv("LANGADAPT_DATA", str(tmp_path))
    (tmp_path / "tiny").mkdir()
    (tmp_path / "tiny" / "a.en").write_text("a\n")
    with pytest.raises(DataError, match=r"shared/a\.de: no such file .* into LANGADAPT_DATA as shared/"):
        load_parallel(found)
    (tmp_path / "shared").mkdir()
    (tmp_path / "shared" / "a.de").write_text("b\n")
    assert list(load_parallel(found).target) == ["b"]


@pytest.mark.parametrize(
    ("access", "expected"),
    [
        ("request", "Tiny must be requested at https://x.org; put its folder into LANGADAPT_DATA as tiny/"),
        ("gated", "accept the terms of Tiny at https://x.org"),
        ("open", "fetch Tiny from https://x.org"),
    ],
)
def test_missing_files_say_how_to_get_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, access: str, expected: str
) -> None:
    found = recipe(tmp_path, shipped=True, source=files("a.tsv"), access=access, homepage="https://x.org")
    for data in (None, str(tmp_path)):
        if data is None:
            monkeypatch.delenv("LANGADAPT_DATA", raising=False)
        else:
            monkeypatch.setenv("LANGADAPT_DATA", data)
        with pytest.raises(DataError) as caught:
            load_parallel(found)
        assert expected in str(caught.value)


def sentences(english: list[str], target: list[str]) -> ParallelSentences:
    return ParallelSentences(name="n", language="de", english=english, target=target)


def test_fingerprint_sees_order_and_borders() -> None:
    first = sentences(["a", "b"], ["c", "d"]).fingerprint
    assert len(first) == 16
    assert int(first, 16) >= 0
    assert sentences(["a", "b"], ["c", "d"]).fingerprint == first
    others = [
        sentences(["b", "a"], ["d", "c"]),
        sentences(["c", "d"], ["a", "b"]),
        sentences(["ac", "b"], ["", "d"]),
        sentences(["a", "b", "e"], ["c", "d", "f"]),
    ]
    assert len({first, *(other.fingerprint for other in others)}) == 5


def test_unequal_lengths() -> None:
    with pytest.raises(DataError, match="2 English sentences beside 1 translations"):
        sentences(["a", "b"], ["c"])
