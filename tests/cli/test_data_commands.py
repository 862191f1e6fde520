"""From raw sentences to a score that says on what it was trained."""

import json
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from tiny_language import sentences

import langadapt as package


@pytest.fixture
def corpus(language_folder: Path, tmp_path: Path) -> Path:
    """The tiny language's recipe beside raw sentences, among them the test captions of four pictures."""
    rows = [*sentences(), sentences()[0], ("a red cat", "a red cat"), ("", "gato")]
    (tmp_path / "raw.tsv").write_text("english\ttarget\n" + "".join(f"{a}\t{b}\n" for a, b in rows))
    (tmp_path / "es-raw.yaml").write_text(
        "name: es-raw\ntitle: Raw\nlicence: CC0-1.0\nlanguage: es\nsource: {kind: files, paths: [raw.tsv]}\n"
    )
    captions = sentences()[::40]
    lines = [f"{n}.png\t{target.upper()} !\t{english}\n" for n, (english, target) in enumerate(captions)]
    (tmp_path / "held.tsv").write_text("image\tcaption\tenglish\n" + "".join(lines))
    (tmp_path / "es-held.yaml").write_text(
        "name: es-held\ntitle: Held\nlicence: CC0-1.0\nlanguage: es\ncaptions: [held.tsv]\n"
        f"images: {language_folder / 'photos'}\ncolumns: {{english: english}}\n"
    )
    recipe = (language_folder / "es.yaml").read_text(encoding="utf-8")
    recipe = recipe.replace("./es-test.yaml", "./es-held.yaml")
    (tmp_path / "es.yaml").write_text(
        recipe.replace("./es-parallel.yaml", "./clean/clean.yaml"), encoding="utf-8"
    )
    return tmp_path


def build(langadapt, corpus: Path, *more: str) -> dict[str, object]:
    # One word of a six-word sentence makes another sentence of this tiny language.
    done = langadapt(
        "data", "build", corpus / "es-raw.yaml", "--lang", corpus / "es", "--out", corpus / "clean",
        "--near", "0", "--off", "contaminated_near", "--workers", "1", "--json", *more,
    )  # fmt: skip
    assert done.code == 0, done.err
    return dict(json.loads(done.out))


@pytest.mark.parametrize("keep", [True, False])
def test_kept_test_captions_stand_in_every_later_score(langadapt, corpus: Path, keep: bool) -> None:
    report = build(langadapt, corpus, *(["--keep-contaminated"] if keep else []))
    assert report["rows"] == 147
    # The repeated sentence is one of the test captions, so it counts where the first rule meets it.
    later = {"duplicate": 1} if keep else {"contaminated": 5}
    assert report["dropped"] == {"empty": 1, "copy": 1, **later}
    contamination = report["contamination"]
    assert isinstance(contamination, dict)
    assert (contamination["found"], contamination["kept"]) == ((5, 4) if keep else (5, 0))
    texts = pq.read_table(corpus / "clean" / "pairs.parquet").column("english").to_pylist()
    assert sum(text in {english for english, _ in sentences()[::40]} for text in texts) == (4 if keep else 0)

    run = corpus / "run"
    done = langadapt(
        "distill", "--recipe", corpus / "es", "--out", run, "--set", "distill.epochs=1", "--json"
    )
    assert done.code == 0, done.err
    artifact = package.load(run).artifact
    assert [source.contamination for source in artifact.data] == ["kept(4)" if keep else "dropped"]
    scored = langadapt("eval", run, "--json")
    assert scored.code == 0, scored.err
    answer = json.loads(scored.out)
    (card,) = answer["cards"]
    assert card["signature"].endswith("|contaminated:kept(4)") is keep
    assert "contaminated" not in card["ceiling"]["signature"]
    assert ("contaminated" in " ".join(answer["warnings"])) is keep


def test_a_corpus_that_nobody_checked_says_so(run_folder: Path) -> None:
    artifact = package.load(run_folder).artifact
    assert [source.contamination for source in artifact.data] == ["unchecked"]
    assert artifact.contaminated == ""


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["es-raw.yaml"], "give --lang CODE"),
        (["es-raw.yaml", "--lang", "de"], "es-raw is in 'es', --lang is 'de'"),
        (["es-raw.yaml", "es-raw.yaml", "--lang", "es.yaml"], "the corpus is named twice"),
        (["es-raw.yaml", "--lang", "es.yaml", "--weight", "es-raw=much"], "expected NAME=NUMBER"),
        (
            ["es-raw.yaml", "--lang", "es.yaml", "--weight", "other=2"],
            "no such corpus here; there are: es-raw",
        ),
        (["es-raw.yaml", "--lang", "es.yaml", "--off", "nonsense"], "no cleaning rule 'nonsense'"),
        (["missing.yaml", "--lang", "es.yaml"], "missing.yaml: no such recipe file"),
    ],
)
def test_misuse(
    langadapt, corpus: Path, arguments: list[str], expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(corpus)
    arguments = [f"./{item}" if item.endswith(".yaml") else item for item in arguments]
    said = langadapt("data", "build", *arguments, "--out", corpus / "out")
    assert said.code == 2
    assert expected in said.err
    assert said.err.count("\n") == 1
    assert not (corpus / "out" / "pairs.parquet").exists()
