"""A user's own table is enough: columns guessed, cleaned, held out, and nothing left where it is refused."""

import csv
import json
import shutil
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from langadapt.data.own import guess_columns
from langadapt.errors import DataError
from langadapt.models import read_artifact
from langadapt.recipes import PairsRecipe, ParallelRecipe, data_recipe

FAST = ("--set", "distill.epochs=1", "--set", "distill.min_steps=1", "--set", "distill.batch_size=32")


@pytest.fixture
def own(language_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The tiny language with its sentences as somebody's CSV, and nothing else beside the recipe."""
    folder = Path(shutil.copytree(language_folder, tmp_path / "own"))
    rows = [line.split("\t") for line in (folder / "parallel.tsv").read_text(encoding="utf-8").splitlines()]
    with (folder / "My news.csv").open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows(
            [("id", "text_en", "traducción"), *((i, *row) for i, row in enumerate(rows[1:]))]
        )
    for name in ("parallel.tsv", "es-parallel.yaml"):
        (folder / name).unlink()
    monkeypatch.chdir(folder)
    return folder


def test_a_csv_trains_a_run_that_repeats_without_it(langadapt, own: Path) -> None:
    done = langadapt("distill", "--recipe", "es.yaml", "--data", "My news.csv", "--out", "run", *FAST)
    assert done.code == 0, done.err
    assert "English 'text_en', Spanish 'traducción'" in done.err
    made = own / "run" / "data" / "my-news"
    train, test = (pq.read_table(made / name).to_pylist() for name in ("pairs.parquet", "test.parquet"))
    assert len(test) == 26  # a fifth of the 130 that near duplicates leave
    assert "144 rows read" in (made / "report.md").read_text(encoding="utf-8")
    for side in ("english", "target"):
        assert not {row[side] for row in train} & {row[side] for row in test}
    recipe = read_artifact(own / "run").recipe
    assert recipe.distill.data == (str(made / "my-news.yaml"),)
    assert data_recipe(ParallelRecipe, recipe.distill.data[0]).recipe.expected_rows == len(train)
    scored = langadapt("eval", "run", "--json")
    card = json.loads(scored.out)["cards"][0]
    assert (card["name"], card["captions"], card["image_free"]) == ("my-news-test", 26, True)
    weights = (own / "run" / "adapter.safetensors").read_bytes()
    assert langadapt("distill", "--recipe", "run/recipe.yaml", "--out", "again").code == 0
    assert (own / "again" / "adapter.safetensors").read_bytes() == weights


def test_two_files_and_a_language_without_a_recipe(langadapt, own: Path, teacher_folder, text_model_folder):
    rows = list(csv.reader((own / "My news.csv").open(encoding="utf-8")))[1:]
    (own / "news.en").write_text("".join(f"{row[1]}\n" for row in rows), encoding="utf-8")
    (own / "news.xx").write_text("".join(f"{row[2]}\n" for row in rows), encoding="utf-8")
    models = ("--set", f"teacher.repo={teacher_folder}", "--set", f"text_model.repo={text_model_folder}")
    data = ("--data", "news.en", "--data", "news.xx", "--set", "adapter.heads=2")
    done = langadapt("distill", "--lang", "xx", "--name", "Exish", *data, *models, *FAST)
    assert done.code == 0, done.err
    recipe = read_artifact(own / "runs" / "xx").recipe
    assert (recipe.code, recipe.name, recipe.scripts, recipe.iso639_3) == ("xx", "Exish", ("Latn",), "und")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--data", "nope.csv"], "--data nope.csv: no such file"),
        (["--data", "My news.csv", "--column", "english=nope"], "no column 'nope'"),
        (["--data", "My news.csv", "--column", "caption=id"], "the roles english, target"),
        (["--data", "My news.csv", "--column", "english"], "ROLE=NAME"),
        (["--column", "english=id"], "give --data FILE too"),
        (["--data", "es.yaml"], "--data ENGLISH --data TARGET"),
        (["--data", "few.csv"], "40 are the least"),
        (["--data", "headless.csv"], "line 1 must name the columns"),
        (["--data", "one.csv"], "--column target=NAME"),
        (["--data", "My news.csv", "--set", "teacher.repo=./nowhere"], "no such model folder"),
    ],
)
def test_what_is_refused_leaves_nothing(langadapt, own: Path, arguments: list[str], words: str) -> None:
    (own / "few.csv").write_text("en,es\n" + "".join(f"a red cat at {n},gato {n}\n" for n in range(30)))
    (own / "headless.csv").write_text("a red cat at the sea,gato rojo en mar\na dog,perro\n")
    (own / "one.csv").write_text("en,id\na red cat,1\na blue cat,2\n")
    before = sorted(own.rglob("*"))
    done = langadapt("distill", "--recipe", "es.yaml", "--out", "run", *FAST, *arguments)
    assert done.code == 2
    line = next(line for line in done.err.splitlines() if line.startswith("langadapt: "))
    assert words in line, line
    assert sorted(own.rglob("*")) == before


def test_other_data_in_a_run_folder_are_refused(langadapt, own: Path) -> None:
    shutil.copy(own / "My news.csv", own / "other.csv")
    command = ("distill", "--recipe", "./es", "--out", "run", *FAST, "--data")
    assert langadapt(*command, "My news.csv").code == 0
    refused = langadapt(*command, "other.csv")
    assert refused.code == 2
    assert "finished run" in refused.err
    assert langadapt(*command, "other.csv", "--overwrite").code == 0
    assert [path.name for path in (own / "run" / "data").iterdir()] == ["other"]


@pytest.mark.parametrize(
    ("head", "rows", "expected"),
    [
        ("english,target", ["a,b"], ("english", "target")),
        ("src,tgt", ["a,b"], ("src", "tgt")),
        ("source_text,sw", ["a,b"], ("source_text", "sw")),
        ("Kiswahili,EN", ["a,b"], ("EN", "Kiswahili")),
        ("a,b", ["Mtu yuko nyumbani,The man is in the house", "Mbwa wangu mkubwa,A dog of mine"], ("b", "a")),
        (
            "n,domain,b,c",
            [f"{n},news from abroad,The man is in house {n},Mtu yuko nyumbani {n}" for n in range(9)],
            ("b", "c"),
        ),
    ],
)
def test_columns_are_guessed_by_name_then_by_content(tmp_path: Path, head, rows, expected) -> None:
    path = tmp_path / "t.csv"
    path.write_text("\n".join([head, *rows]) + "\n")
    found = guess_columns(path, ("english", "target"), names=("sw", "Kiswahili"))
    assert (found["english"], found["target"]) == expected


def test_nested_columns_and_images_are_guessed(tmp_path: Path) -> None:
    nested = tmp_path / "t.jsonl"
    nested.write_text('{"id": "1", "translation": {"en": "a dog", "sw": "mbwa"}}\n')
    found = guess_columns(nested, ("english", "target"), names=("sw",))
    assert found == {"english": "translation.en", "target": "translation.sw"}
    photos = tmp_path / "p.csv"
    photos.write_text("a,b\nx.jpg,mbwa mkubwa mweupe\ny.PNG,paka mdogo mweusi\n")
    assert guess_columns(photos, ("image", "caption")) == {"image": "a", "caption": "b"}


def test_a_guess_between_two_is_none(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_text("en,sw_1,sw_2\na dog of mine,mbwa wangu mmoja,mbwa wangu wawili\n")
    with pytest.raises(DataError, match="--column target=NAME"):
        guess_columns(path, ("english", "target"), names=("sw",))
    found = guess_columns(path, ("english", "target"), names=("sw",), given={"target": "sw_2"})
    assert found["target"] == "sw_2"


def test_own_pairs_get_a_recipe_in_the_run_folder(langadapt, run_folder: Path, own: Path) -> None:
    lines = (own / "test.tsv").read_text(encoding="utf-8").splitlines()[1:]
    (own / "shop.tsv").write_text("picture\tfoto_es\tx\n" + "".join(f"{line}\n" for line in lines))
    command = ["tune", "--from", run_folder, "--pairs", "shop.tsv", "--images", "photos", "--out", "tuned"]
    settings = ["--set", "tune.epochs=1", "--set", "tune.text=bitfit", "--set", "tune.batch_size=4"]
    done = langadapt(*command, *settings)
    assert done.code == 0, done.err
    (pairs,) = read_artifact(own / "tuned").recipe.tune.pairs
    recipe = data_recipe(PairsRecipe, pairs).recipe
    assert (recipe.columns.image, recipe.columns.caption) == ("picture", "foto_es")
    assert recipe.images == str(own / "photos")
    scored = langadapt("eval", run_folder, "--captions", "shop.tsv", "--images", "photos", "--html", "r.html")
    assert scored.code == 0, scored.err
    for wrong, words in (
        (["--pairs", "nope.csv"], "--pairs nope.csv: no such file"),
        (["--column", "image=x"], "--pairs FILE too"),
        (["--pairs", "shop.tsv", "--column", "caption=y"], "no column 'y'"),
    ):
        refused = langadapt("tune", "--from", run_folder, "--out", "other", *wrong)
        assert refused.code == 2
        assert words in refused.err
        assert not (own / "other").exists()
