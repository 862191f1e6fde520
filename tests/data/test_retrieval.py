import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from langadapt.data.pairs import load_pairs
from langadapt.data.retrieval import RetrievalSet, load_retrieval, retrieval_from_files
from langadapt.errors import DataError
from langadapt.recipes import RetrievalRecipe
from langadapt.recipes.find import RecipeFile

TABLE = (
    "image\tcaption\tenglish\n"
    'a.jpg\tein "Hund\ta dog\n'
    "sub/b.jpg\teine Katze\ta cat\n"
    "./a.jpg\tnoch ein Hund\ta dog\n"
)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "photos" / "sub").mkdir(parents=True)
    for name in ("a.jpg", "sub/b.jpg", "unused.jpg"):
        (tmp_path / "photos" / name).touch()
    (tmp_path / "test.tsv").write_text(TABLE)
    return tmp_path


def load(folder: Path, *, shipped: bool = False, **keys: Any) -> RetrievalSet:
    base = {"name": "own", "title": "Own", "licence": "unknown", "language": "de", "captions": ["test.tsv"]}
    recipe = RetrievalRecipe.model_validate({**base, **keys}, strict=False)
    return load_retrieval(RecipeFile(recipe=recipe, path=folder / "own.yaml", shipped=shipped))


def test_table_with_english_column(folder: Path) -> None:
    found = load(
        folder, images="photos", columns={"english": "english"}, expected_images=2, expected_captions=3
    )
    assert found.images == (folder / "photos/a.jpg", folder / "photos/sub/b.jpg")
    assert found.texts == ('ein "Hund', "eine Katze", "noch ein Hund")
    assert found.image_of_text.tolist() == [0, 1, 0]
    assert found.image_of_text.dtype == np.int64
    assert found.english == found.ceiling_texts == ("a dog", "a cat", "a dog")
    assert found.ceiling_image_of_text is not None
    assert found.ceiling_image_of_text.tolist() == [0, 1, 0]
    assert (found.name, found.language, found.which_captions, found.image_count) == ("own", "de", "all", 2)


@pytest.mark.parametrize("kind", ["absolute", "dot", "up", "symlink", "folder link", "hard link"])
def test_an_image_named_twice_counts_once(folder: Path, kind: str) -> None:
    photos = folder / "photos"
    (photos / "link.jpg").symlink_to(photos / "a.jpg")
    (photos / "linked").symlink_to(photos, target_is_directory=True)
    (photos / "hard.jpg").hardlink_to(photos / "a.jpg")
    second = {
        "absolute": str(photos / "a.jpg"), "dot": "././a.jpg", "up": "sub/../a.jpg", "symlink": "link.jpg",
        "folder link": "linked/a.jpg", "hard link": "hard.jpg",
    }[kind]  # fmt: skip
    (folder / "test.tsv").write_text(f"image\tcaption\na.jpg\tx\nsub/b.jpg\ty\n{second}\tz\n")
    (folder / "en.tsv").write_text(f"image\tcaption\n{second}\tX\nsub/b.jpg\tY\nunused.jpg\tU\n")
    found = load(folder, images="photos", english=["en.tsv"])
    assert found.images == (photos / "a.jpg", photos / "sub/b.jpg")
    assert found.image_of_text.tolist() == [0, 1, 0]
    assert found.ceiling_texts == ("X", "Y")
    assert found.ceiling_image_of_text is not None
    assert found.ceiling_image_of_text.tolist() == [0, 1]
    pairs = load_pairs(str(folder / "test.tsv"), images=photos)
    assert (pairs.images, pairs.image_of_text.tolist()) == (found.images, [0, 1, 0])


def test_english_file_of_more_images_gives_the_ceiling(folder: Path) -> None:
    (folder / "en.tsv").write_text(
        "caption\timage\nyawn\tunused.jpg\na cat\tsub/b.jpg\nc\tsub/b.jpg\nd\ta.jpg\n"
    )
    found = load(folder, images="photos", english=["en.tsv"])
    assert found.english is None
    assert found.ceiling_texts == ("a cat", "c", "d")
    assert found.ceiling_image_of_text is not None
    assert found.ceiling_image_of_text.tolist() == [1, 1, 0]
    # An English column beside it stays the captions' own side and does not replace the file.
    found = load(folder, images="photos", english=["en.tsv"], columns={"english": "english"})
    assert found.ceiling_texts == ("a cat", "c", "d")
    assert found.english == ("a dog", "a cat", "a dog")
    (folder / "en.tsv").write_text("caption\timage\nd\ta.jpg\n")
    with pytest.raises(DataError, match=r"1 of 2 images have no English caption: sub/b\.jpg"):
        load(folder, images="photos", english=["en.tsv"])


def test_first_captions_only(folder: Path) -> None:
    found = load(folder, images="photos", columns={"english": "english"}, which_captions="first")
    assert found.texts == ('ein "Hund', "eine Katze")
    assert found.ceiling_texts == ("a dog", "a cat")
    assert found.image_of_text.tolist() == [0, 1]


def test_image_free(folder: Path) -> None:
    (folder / "test.tsv").write_text("caption\tenglish\nx\tsame\ny\tother\nz\tsame\n")
    found = load(folder, columns={"english": "english"})
    assert found.images is None
    assert found.english_gallery == ("same", "other")
    assert [found.english_gallery[number] for number in found.image_of_text] == ["same", "other", "same"]
    assert found.ceiling_texts is None
    first = load(folder, columns={"english": "english"}, which_captions="first")
    assert first.texts == ("x", "y")
    with pytest.raises(DataError, match="own: without images each caption needs its English side"):
        load(folder)


def test_missing_images_are_counted_and_named(folder: Path) -> None:
    rows = [f"{number}.jpg\tx\n" for number in range(7)]
    (folder / "test.tsv").write_text("image\tcaption\n" + "".join(rows) + "a.jpg\ty\n")
    with pytest.raises(DataError) as caught:
        load(folder, images="photos")
    message = str(caught.value)
    assert "7 of 8 image files are missing" in message
    assert str(folder / "photos" / "4.jpg") in message
    assert "5.jpg" not in message


@pytest.mark.parametrize(
    ("keys", "expected"),
    [
        ({"expected_images": 3}, "expected_images is 3, the data hold 2"),
        ({"expected_captions": 2}, "expected_captions is 2, the data hold 3"),
        ({"expected_captions": 3, "which_captions": "first"}, "the data hold 2 (which_captions: first)"),
        ({"image_names": "test.tsv"}, "image_names: format table has no such file"),
        ({"images": "none"}, "none: no such file or folder"),
        ({"captions": ["none.tsv"]}, "none.tsv: no such file or folder"),
        ({"columns": {"caption": "text"}}, "test.tsv: no column 'text'; there are: image, caption, english"),
    ],
)
def test_recipe_faults(folder: Path, keys: dict[str, Any], expected: str) -> None:
    with pytest.raises(DataError) as caught:
        load(folder, **{"images": "photos", **keys})
    assert expected in str(caught.value)


def test_shipped_on_request(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    keys = {"shipped": True, "access": "request", "homepage": "https://x.org", "images": "photos"}
    monkeypatch.setenv("LANGADAPT_DATA", str(folder))
    with pytest.raises(DataError) as caught:
        load(folder, **keys)
    assert "Own must be requested at https://x.org; put its folder into LANGADAPT_DATA as own/" in str(
        caught.value
    )
    folder.rename(folder.parent / "own")
    monkeypatch.setenv("LANGADAPT_DATA", str(folder.parent))
    assert load(folder, **keys).image_count == 2


def jsonl(path: Path, *rows: dict[str, Any]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def test_own_files_beside_the_captions_or_in_a_folder(folder: Path) -> None:
    one = jsonl(
        folder / "photos" / "own.v2.jsonl",
        {"image": "sub/b.jpg", "captions": ["eins", "zwei"]},
        {"image": "a.jpg", "captions": "drei"},
    )
    found = retrieval_from_files(one, None, language="de")
    assert (found.name, found.texts, found.image_of_text.tolist()) == (
        "own.v2",
        ("eins", "zwei", "drei"),
        [0, 0, 1],
    )
    assert found.images == (folder / "photos/sub/b.jpg", folder / "photos/a.jpg")
    assert found.ceiling_texts is None
    two = jsonl(folder / "own.jsonl", {"image": "a.jpg", "caption": ["x", "y"], "english": ["X", "Y"]})
    found = retrieval_from_files(two, folder / "photos", language="de")
    assert (found.texts, found.english) == (("x", "y"), ("X", "Y"))
    csv = folder / "own.csv"
    csv.write_text('image,caption\na.jpg,"eins, zwei"\na.jpg,drei\n')
    found = retrieval_from_files(csv, folder / "photos", language="de", which_captions="first")
    assert found.texts == ("eins, zwei",)
    found = retrieval_from_files(folder / "test.tsv", None, language="de", image_free=True)
    assert found.english_gallery == ("a dog", "a cat")
    with pytest.raises(DataError, match="--column english=NAME"):
        retrieval_from_files(csv, None, language="de", image_free=True)


@pytest.mark.parametrize(
    ("row", "expected"),
    [
        ({"image": "a.jpg", "captions": []}, "line 1: captions: the list is empty"),
        ({"image": "a.jpg", "captions": ["x", " "]}, "line 1: captions: text is empty"),
        ({"image": "a.jpg", "captions": ["x", 3]}, "line 1: captions: expected text, got int 3"),
        ({"image": "", "captions": ["x"]}, "line 1: image: text is empty"),
        ({"image": "a.jpg", "captions": ["x", "y"], "english": ["X"]}, "line 1: 2 captions, 1 English ones"),
        ({"kind": "a", "captions": ["x"]}, "--column image=NAME"),
        ({"image": "c.jpg", "captions": ["x"]}, "1 of 1 image files are missing"),
    ],
)
def test_own_file_faults(folder: Path, row: dict[str, Any], expected: str) -> None:
    with pytest.raises(DataError) as caught:
        retrieval_from_files(jsonl(folder / "own.jsonl", row), folder / "photos", language="de")
    assert expected in str(caught.value)


@pytest.mark.parametrize(
    ("keys", "expected"),
    [
        ({"image_of_text": [0]}, "1 image numbers beside 2 texts"),
        ({"image_of_text": [0, 1, 1]}, "3 image numbers beside 2 texts"),
        ({"image_of_text": [0, 2]}, "each of the 2 images needs a text"),
        ({"image_of_text": [0, 0]}, "each of the 2 images needs a text"),
        ({"image_of_text": [-1, 0]}, "each of the 2 images needs a text"),
        ({"english": ("a",)}, "1 English sides beside 2 texts"),
        ({"images": None}, "has neither images nor English sides"),
        ({"ceiling_texts": ("a", "b")}, "the ceiling needs both"),
        ({"ceiling_texts": ("a", "b"), "ceiling_image_of_text": [1, 1]}, "each of the 2 images needs a text"),
    ],
)
def test_a_set_checks_itself(keys: dict[str, Any], expected: str) -> None:
    base: dict[str, Any] = {
        "name": "n",
        "language": "de",
        "images": (Path("a"), Path("b")),
        "texts": ("x", "y"),
        "image_of_text": [1, 0],
        "english": None,
        "ceiling_texts": None,
        "ceiling_image_of_text": None,
        "which_captions": "all",
    }
    for numbers in ("image_of_text", "ceiling_image_of_text"):
        if {**base, **keys}[numbers] is not None:
            keys = {**keys, numbers: np.array({**base, **keys}[numbers])}
    assert RetrievalSet(**{**base, "image_of_text": np.array([1, 0])}).image_count == 2
    with pytest.raises(DataError, match=f"^n: {expected}"):
        RetrievalSet(**{**base, **keys})
