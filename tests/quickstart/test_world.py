"""The written folder, read back as a user would."""

import csv
import itertools
from pathlib import Path

import pytest
from PIL import Image

from langadapt.errors import DataError
from langadapt.quickstart.drawing import draw
from langadapt.quickstart.world import TARGETS, held_out_rows, parallel_rows, write_world
from langadapt.recipes.data import ParallelRecipe, RetrievalRecipe
from langadapt.recipes.find import data_recipe, find_language

_PARALLEL, _TESTS = 60, 12


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_world(tmp_path_factory.mktemp("world"), parallel=_PARALLEL, tests=_TESTS)


def _read(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE))


def test_tables_hold_the_rows_and_name_existing_pictures(world: Path) -> None:
    english = _read(world / "test.en.tsv")
    assert list(english[0]) == ["image", "caption"]
    for language in TARGETS:
        rows = _read(world / f"test.{language}.tsv")
        assert [row["english"] for row in rows] == [row["caption"] for row in english]
        assert [row["image"] for row in rows] == [row["image"] for row in english]
        assert len({row["image"] for row in rows}) == _TESTS == len(rows) / 2
        assert len({row["caption"] for row in rows}) > 1.9 * _TESTS, "two descriptions of each scene"
        parallel = _read(world / f"parallel.en-{language}.tsv")
        assert list(parallel[0]) == ["english", "target"]
        assert len(parallel) == _PARALLEL
    for row, known in zip(english[::2], held_out_rows(_TESTS), strict=True):
        assert row["caption"] == known.captions["en"][0]
        with Image.open(world / "photos" / row["image"]) as picture:
            assert picture.tobytes() == draw(known.scene).tobytes()


def test_parallel_text_never_names_a_held_out_combination() -> None:
    """Read from the English words alone: `red` ... `ball`, not from the scenes that made them."""
    names = ["ball", "star", "house", "car", "boat", "cup", "flower", "tree", "umbrella", "hat", "book"]
    names += ["bell", "chair", "cat", "fish", "butterfly"]
    shapes = {name: name for name in names} | {f"{name}s": name for name in names}
    shapes["butterflies"] = "butterfly"

    def combination(english: str) -> set[tuple[str, str]]:
        words = english.lower().replace(",", "").replace(".", "").split()
        return {(shapes[word], before) for before, word in itertools.pairwise(words) if word in shapes}

    trained = [combination(english) for lang in TARGETS for english, _ in parallel_rows(lang, 2_000)]
    assert sum(len(found) for found in trained) > 14_000
    for row in held_out_rows(300):
        for caption in row.captions["en"]:
            held_out = combination(caption)
            assert len(held_out) == len(row.scene.things)
            assert not any(held_out <= found for found in trained)


def test_recipes_are_valid_and_say_where_everything_is(world: Path) -> None:
    for language in TARGETS:
        found = find_language(str(world / f"{language}.yaml"))
        parallel = data_recipe(ParallelRecipe, found.recipe.distill.data[0], folder=found.folder)
        test = data_recipe(RetrievalRecipe, found.recipe.evaluate[0], folder=found.folder)
        assert parallel.recipe.expected_rows == _PARALLEL
        assert (test.recipe.expected_images, test.recipe.expected_captions) == (_TESTS, 2 * _TESTS)
        assert (found.folder / found.recipe.teacher.repo / "config.json").is_file()
        assert (found.folder / found.recipe.text_model.repo / "config.json").is_file()


def test_a_complete_folder_is_left_alone_and_an_interrupted_one_is_completed(tmp_path: Path) -> None:
    write_world(tmp_path, parallel=5, tests=2)
    picture, table = tmp_path / "photos" / "0001.png", tmp_path / "test.zh.tsv"
    before = table.read_bytes()
    table.write_text("mine")
    write_world(tmp_path, parallel=5, tests=2)
    assert table.read_text() == "mine"
    (tmp_path / "world.json").rename(tmp_path / "world.json.begun")
    picture.unlink()
    write_world(tmp_path, parallel=5, tests=2)
    assert table.read_bytes() == before
    assert picture.is_file()
    assert not [*tmp_path.rglob("*.part"), *tmp_path.rglob("*.begun")]


def test_a_folder_of_something_else_is_refused(tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    with pytest.raises(DataError, match="choose another --folder"):
        write_world(tmp_path, parallel=5, tests=2)
    assert [path.name for path in tmp_path.rglob("*")] == ["photos"]


def test_more_rows_begin_with_the_same_rows() -> None:
    for language in TARGETS:
        few, more = list(parallel_rows(language, 5)), list(parallel_rows(language, 9))
        assert more[:5] == few
