"""`data translate` and `eval --translate-with`, as a user types them."""

import json
from pathlib import Path

import pytest
from tiny_language import sentences

from langadapt.data.parallel import load_parallel
from langadapt.models import resolve_model
from langadapt.models.translator import load_translator
from langadapt.recipes import ModelRef, ParallelRecipe, data_recipe

ENGLISH = [english for english, _ in sentences()[::30]]


@pytest.fixture
def captions(tmp_path: Path) -> Path:
    path = tmp_path / "captions.tsv"
    path.write_text(
        "image\tcaption\n" + "".join(f"x\t{t}\n" for t in [*ENGLISH, ENGLISH[0]]), encoding="utf-8"
    )
    return path


def test_translate_writes_a_table_and_its_recipe(
    langadapt, captions: Path, marian_folder: Path, language_folder: Path, tmp_path: Path
) -> None:
    out = tmp_path / "made" / "en-es.tsv"
    human = tmp_path / "human"
    human.mkdir()
    lines = "".join(f"{a}\t{b}\n" for a, b in sentences()[:6])
    (human / "parallel.tsv").write_text("english\ttarget\n" + lines, encoding="utf-8")
    recipe = (language_folder / "es-parallel.yaml").read_text(encoding="utf-8")
    (human / "es-parallel.yaml").write_text(recipe.replace("144", "6"), encoding="utf-8")
    given = ("data", "translate", captions, "--column", "caption", "--lang", "es", "--model", marian_folder)
    licences = ("--licence", "CC-BY-4.0", "--model-licence", "Apache-2.0")
    said = langadapt(*given, "--out", out, *licences, "--json", "--measure", human / "es-parallel.yaml")
    assert said.code == 0, said.err
    source = resolve_model(ModelRef(repo=str(marian_folder)))
    expected = zip(ENGLISH, load_translator(source).translate(ENGLISH), strict=True)
    found = data_recipe(ParallelRecipe, str(out.with_suffix(".yaml")))
    rows = load_parallel(found)
    assert list(zip(rows.english, rows.target, strict=True)) == [(a, b) for a, b in expected if b]
    assert found.recipe.licence == "CC-BY-4.0 AND Apache-2.0"
    assert source.revision in found.recipe.title
    scores = json.loads(out.with_suffix(".scores.json").read_text(encoding="utf-8"))
    printed = json.loads(said.out)
    assert printed["scores"] == scores
    assert printed["rows"] + printed["blank"] == len(ENGLISH)
    assert scores["rows"] == 6
    assert 0 <= scores["chrf"] < 60
    again = langadapt(*given, "--out", out)
    assert again.code == 2
    assert "is there already" in again.err


@pytest.mark.parametrize(
    ("wrong", "line"),
    [
        (("--lang", "Spanish"), "expected a code of two or three small letters"),
        (("--out", "Made.tsv"), "only small letters"),
        (("--out", "made.txt"), "ends in .tsv or .parquet"),
        (("--column", "english"), "english"),
        (("--target-code", "spa"), "translates one pair of languages"),
        (("--model", "nobody/nothing@main"), "full commit hash"),
        (("--measure", "no-such-corpus"), "no-such-corpus"),
    ],
    ids=lambda value: value[0] if isinstance(value, tuple) else "",
)
def test_misuse_is_one_line_and_writes_nothing(
    langadapt,
    captions: Path,
    marian_folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    wrong: tuple[str, str],
    line: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    right = {"--column": "caption", "--lang": "es", "--model": marian_folder, "--out": "made.tsv"}
    options = right | dict([wrong])
    said = langadapt("data", "translate", captions, *(part for pair in options.items() for part in pair))
    assert said.code == 2, said.err
    assert line in said.err
    assert "Traceback" not in said.err
    assert [path.name for path in tmp_path.iterdir()] == ["captions.tsv"]


def test_eval_shows_the_translated_row(
    langadapt, run_folder: Path, marian_folder: Path, tmp_path: Path
) -> None:
    page, scores = tmp_path / "page.html", tmp_path / "scores.json"
    outputs = ("--json-file", scores, "--html", page)
    said = langadapt("eval", run_folder, "--translate-with", marian_folder, *outputs)
    assert said.code == 0, said.err
    (card,) = json.loads(scores.read_text(encoding="utf-8"))["cards"]
    assert set(card["translated"]) == set(card["floor"])
    assert card["translation"]["rows"] == 12
    for text in (said.out, page.read_text(encoding="utf-8")):
        assert "teacher, translated" in text
        assert "chrF++" in text


def test_a_source_code_without_a_model_is_one_line(langadapt, run_folder: Path) -> None:
    said = langadapt("eval", run_folder, "--source-code", "swh_Latn")
    assert said.code == 2
    assert "--source-code belongs to --translate-with" in said.err
