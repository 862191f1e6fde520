"""Folders of classes, and what the classes are called."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from langadapt.data.classification import (
    ClassNames,
    classification_from_folder,
    load_classification,
    read_class_names,
    read_label_list,
)
from langadapt.errors import DataError, MissingDataError
from langadapt.recipes import ClassificationRecipe, data_recipe


def pictures(folder: Path, counts: dict[str, int]) -> Path:
    for name, count in counts.items():
        (folder / name).mkdir(parents=True)
        for number in range(count):
            Image.new("RGB", (8, 8), (number * 9, 40, len(name) * 9)).save(folder / name / f"{number}.png")
    return folder


def test_a_text_file_names_folders_synonyms_and_english(tmp_path: Path) -> None:
    path = tmp_path / "classes.txt"
    path.write_text("cat\t猫 | 小猫\tcat|kitten\n\nbig_dog\t大狗\tbig dog\n", encoding="utf-8")
    assert read_class_names(path) == (
        ClassNames(folder="cat", names=("猫", "小猫"), english=("cat", "kitten")),
        ClassNames(folder="big_dog", names=("大狗",), english=("big dog",)),
    )
    path.write_text("cat\nbig_dog\n", encoding="utf-8")
    assert [item.names for item in read_class_names(path)] == [("cat",), ("big dog",)]


def test_yaml_says_the_same(tmp_path: Path) -> None:
    path = tmp_path / "classes.yaml"
    path.write_text(
        "cat: {names: [猫, 小猫], english: cat}\ndog: {names: 狗, english: [dog]}\n", encoding="utf-8"
    )
    assert read_class_names(path) == (
        ClassNames(folder="cat", names=("猫", "小猫"), english=("cat",)),
        ClassNames(folder="dog", names=("狗",), english=("dog",)),
    )


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "names no class"),
        ("cat\t猫\ncat\t狗\n", "'cat' stands there twice"),
        ("cat\t猫|\n", "'cat' has an empty name"),
        ("cat\t猫\tcat\ndog\t狗\n", "'dog' has no English name"),
        ("cat\ta\tb\tc\n", "line 1 has 4 cells"),
    ],
)
def test_a_bad_list_is_refused(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "classes.txt"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(DataError, match=message):
        read_class_names(path)


def test_images_get_the_class_of_their_folder(tmp_path: Path) -> None:
    folder = pictures(tmp_path / "pets", {"dog": 2, "cat": 3, ".hidden": 1})
    (tmp_path / "classes.txt").write_text("dog\t狗\ncat\t猫\n", encoding="utf-8")
    found = classification_from_folder(folder, tmp_path / "classes.txt", language="zh")
    assert (found.name, found.language) == ("pets", "zh")
    assert [item.shown for item in found.classes] == ["狗", "猫"]
    assert [path.parent.name for path in found.images] == ["dog"] * 2 + ["cat"] * 3
    assert found.labels.tolist() == [0, 0, 1, 1, 1]
    plain = classification_from_folder(folder, None, language="en")
    assert [item.shown for item in plain.classes] == ["cat", "dog"]


def test_parts_of_a_set_keep_image_and_class_together(tmp_path: Path) -> None:
    folder = pictures(tmp_path / "pets", {"ant": 1, "bee": 2, "cat": 3})
    found = classification_from_folder(folder, None, language="en")
    part = found.only([2, 0])
    assert [item.folder for item in part.classes] == ["cat", "ant"]
    pairs = zip(part.images, part.labels.tolist(), strict=True)
    assert [(path.parent.name, label) for path, label in pairs] == [
        ("ant", 1), ("cat", 0), ("cat", 0), ("cat", 0)
    ]  # fmt: skip
    some = found.rows(np.array([5, 0]))
    assert [path.parent.name for path in some.images] == ["cat", "ant"]
    assert some.labels.tolist() == [2, 0]


def test_a_link_beside_its_photo_is_no_second_photo(tmp_path: Path) -> None:
    folder = pictures(tmp_path / "set", {"cat": 3, "dog": 2})
    (folder / "cat" / "9.png").symlink_to(folder / "cat" / "1.png")
    found = classification_from_folder(folder, None, language="zh")
    assert [path.name for path in found.images] == ["0.png", "1.png", "2.png", "0.png", "1.png"]
    assert found.labels.tolist() == [0, 0, 0, 1, 1]


def test_train_and_test_folders_are_kept_apart(tmp_path: Path) -> None:
    pictures(tmp_path / "pets" / "train", {"cat": 3, "dog": 1})
    pictures(tmp_path / "pets" / "val", {"cat": 1, "dog": 2})
    counts = {
        split: np.bincount(
            classification_from_folder(tmp_path / "pets", None, language="en", split=split).labels
        ).tolist()
        for split in ("train", "test")
    }
    assert counts == {"train": [3, 1], "test": [1, 2]}


def test_folders_and_names_must_fit(tmp_path: Path) -> None:
    folder = pictures(tmp_path / "pets", {"cat": 1, "dog": 1})
    names = tmp_path / "classes.txt"
    names.write_text("cat\nbird\n", encoding="utf-8")
    with pytest.raises(DataError, match="no folder for class 'bird'"):
        classification_from_folder(folder, names, language="zh")
    names.write_text("cat\ncow\n", encoding="utf-8")
    (folder / "cow").mkdir()
    with pytest.raises(DataError, match="folder 'dog' is no class of"):
        classification_from_folder(folder, names, language="zh")
    names.write_text("cat\ncow\ndog\n", encoding="utf-8")
    with pytest.raises(DataError, match="cow: holds no images"):
        classification_from_folder(folder, names, language="zh")
    with pytest.raises(DataError, match="no such folder"):
        classification_from_folder(tmp_path / "nothing", None, language="zh")


def test_a_label_list_counts_the_sorted_folders(tmp_path: Path) -> None:
    folder = pictures(tmp_path / "val", {"n03": 2, "n01": 1, "n02": 1, "n04": 0})
    path = tmp_path / "labels.json"
    path.write_text(json.dumps({"ZH": [[2, 0], ["猫", "狗"]], "FR": [[3], ["oie"]]}), encoding="utf-8")
    found = classification_from_folder(folder, path, language="zh")
    assert [(item.folder, item.names) for item in found.classes] == [("n03", ("猫",)), ("n01", ("狗",))]
    assert found.labels.tolist() == [0, 0, 1]
    with pytest.raises(DataError, match="has no language 'SW'; it has FR, ZH"):
        classification_from_folder(folder, path, language="sw")
    with pytest.raises(
        DataError, match="from 0 to 3, so 4 class folders are needed to count them, 3 are there"
    ):
        read_label_list(path, "zh", ["n01", "n02", "n03"])
    path.write_text(
        json.dumps({"ZH": [[0, 1], ["猫", "狗"]], "EN": [[1, 0], ["dog", "cat"]]}), encoding="utf-8"
    )
    assert [item.english for item in read_label_list(path, "zh", ["a", "b"])] == [("cat",), ("dog",)]
    path.write_text(json.dumps({"ZH": [[0, 1], ["猫"]]}), encoding="utf-8")
    with pytest.raises(DataError, match="as long a list of labels"):
        read_label_list(path, "zh", ["a", "b"])


def test_a_recipe_names_folder_and_classes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pictures(tmp_path / "pets", {"cat": 1, "dog": 2})
    (tmp_path / "names.txt").write_text("cat\t猫\ndog\t狗\n", encoding="utf-8")
    (tmp_path / "own.yaml").write_text(
        "name: own\ntitle: Own\nlicence: CC0-1.0\nlanguage: zh\nimages: pets\nclasses: names.txt\n",
        encoding="utf-8",
    )
    found = data_recipe(ClassificationRecipe, str(tmp_path / "own.yaml"))
    assert load_classification(found, language="zh").name == "own"
    with pytest.raises(DataError, match="is in 'zh', the model's language is 'sw'"):
        load_classification(found, language="sw")
    with pytest.raises(MissingDataError, match=r"put babel_imagenet.json .* of https://github"):
        load_classification(data_recipe(ClassificationRecipe, "babel-imagenet"), language="zh")
