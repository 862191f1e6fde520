"""The attribute classes: pictures show their class, and test combinations are no training combinations."""

import random
from itertools import islice
from pathlib import Path

import pytest

from langadapt.data.classification import classification_from_folder
from tools.embedded_world.attributes import attribute_scenes, attribute_sets, splits_of, write_attribute_set


@pytest.mark.parametrize("name", attribute_sets())
def test_no_combination_is_in_both_splits(name: str) -> None:
    seen: dict[str, set[object]] = {part: set() for part in ("train", "test", "dev-train", "dev-test")}
    for item in attribute_sets()[name]:
        for split in seen:
            for scene in islice(attribute_scenes(item, split, random.Random(f"{item.folder}{split}")), 40):
                key = (scene.things, scene.relation, scene.background)
                seen[split].add(key)
                assert split in splits_of(scene)
    assert len(seen["train"]) > 100
    assert not seen["train"] & seen["test"]
    assert not seen["dev-train"] & seen["dev-test"]
    assert not (seen["dev-train"] | seen["dev-test"]) & seen["test"]


def test_scenes_show_their_class() -> None:
    sets = attribute_sets()
    named = {name: {item.folder: item for item in items} for name, items in sets.items()}
    rng = random.Random(0)

    def scene(name: str, folder: str):
        return next(attribute_scenes(named[name][folder], "train", rng))

    assert scene("shapes", "boat").first.shape == "boat"
    assert scene("colours", "red").first.colour == "red"
    assert scene("places", "snow").background == "snow"
    counted = scene("counts", "fish-3").first
    assert (counted.shape, counted.count) == ("fish", 3)
    assert scene("sizes", "cup-small").first.size == "small"
    related = scene("relations", "ball-above-cat")
    assert (related.first.shape, related.relation, related.second.shape) == ("ball", "above", "cat")
    assert named["relations"]["ball-above-cat"].chinese == "猫的上方有球"
    assert named["relations"]["ball-above-cat"].english == "a ball above a cat"
    for items in sets.values():
        assert len({item.chinese for item in items}) == len(items)
        assert len({item.english for item in items}) == len(items)


def test_a_written_set_is_an_ordinary_folder(tmp_path: Path) -> None:
    folder = write_attribute_set(tmp_path, "places", train=2, test=1)
    train = classification_from_folder(folder, folder / "classes.zh.txt", language="zh", split="train")
    test = classification_from_folder(folder, folder / "classes.zh.txt", language="zh", split="test")
    assert (len(train.images), len(test.images), len(test.classes)) == (16, 8, 8)
    assert train.classes[0].names == ("草地",)
    before = train.images[0].read_bytes()
    assert not {path.read_bytes() for path in train.images} & {path.read_bytes() for path in test.images}
    write_attribute_set(tmp_path, "places", train=2, test=1)
    assert train.images[0].read_bytes() == before
