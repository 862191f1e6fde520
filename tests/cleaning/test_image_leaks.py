"""Test images among training images, under their own or another name."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageEnhance

from langadapt.cleaning.contamination import MOST_BITS, difference_hash, leaked_images, without_test_images
from langadapt.data.pairs import load_pairs
from langadapt.data.retrieval import retrieval_from_files
from langadapt.errors import DataError, Progress


def silent(progress: Progress) -> None:
    pass


def picture(seed: int, size: int = 96) -> Image.Image:
    """Soft random shapes: neighbouring pixels are alike as in a photo."""
    small = np.random.default_rng(seed).integers(0, 255, (7, 7, 3), np.uint8)
    return Image.fromarray(small).resize((size, size), Image.Resampling.BICUBIC)


def test_pictures_are_recognised_in_other_sizes_and_files(tmp_path: Path) -> None:
    test, train = {}, {}
    for seed in range(40):
        test[f"t{seed}.png"] = tmp_path / f"t{seed}.png"
        picture(seed).save(test[f"t{seed}.png"])
    changed = {
        "smaller.png": picture(3).resize((50, 50)),
        "compressed.jpg": picture(4),
        "brighter.png": ImageEnhance.Brightness(picture(5)).enhance(1.1),
    }
    for name, image in {
        **changed,
        "t6.png": picture(99),
        **{f"n{s}.png": picture(s) for s in range(100, 300)},
    }.items():
        train[name] = tmp_path / f"train-{name}"
        image.save(train[name], **({"quality": 40} if name.endswith("jpg") else {}))
    Image.new("RGB", (40, 40), "white").save(tmp_path / "white.png")
    train["white.png"] = tmp_path / "white.png"
    assert leaked_images(train, test, silent) == {
        "smaller.png": "t3.png",
        "compressed.jpg": "t4.png",
        "brighter.png": "t5.png",
    }


def test_a_broken_image_is_no_copy(tmp_path: Path) -> None:
    for name in ("a.png", "b.png"):
        (tmp_path / name).write_bytes(b"no image")
    assert not leaked_images({"a": tmp_path / "a.png"}, {"b": tmp_path / "b.png"}, silent)


def test_a_broken_test_image_is_like_no_plain_picture(tmp_path: Path) -> None:
    """Both have few rises: the hash of an unreadable image is 0."""
    (tmp_path / "broken.png").write_bytes(b"no image")
    plain = Image.new("L", (90, 80), "white")
    ImageDraw.Draw(plain).rectangle((0, 0, 9, 9), fill="black")
    plain.save(tmp_path / "plain.png")
    assert 0 < difference_hash(plain).bit_count() <= MOST_BITS
    assert not leaked_images({"x": tmp_path / "plain.png"}, {"y": tmp_path / "broken.png"}, silent)


def test_alike_hashes_are_not_enough(tmp_path: Path) -> None:
    for name, height in (("low.png", 36), ("high.png", 50)):
        scene = Image.new("RGB", (90, 80), "white")
        ImageDraw.Draw(scene).rectangle((20, 70 - height, 60, 70), fill="black")
        scene.save(tmp_path / name)
    low, high = tmp_path / "low.png", tmp_path / "high.png"
    apart = difference_hash(Image.open(low)) ^ difference_hash(Image.open(high))
    assert apart.bit_count() <= MOST_BITS
    assert not leaked_images({"x": low}, {"y": high}, silent)
    assert leaked_images({"x": low}, {"y": low}, silent)


def test_pairs_lose_the_images_that_are_test_images(tmp_path: Path) -> None:
    for seed in range(6):
        picture(seed).save(tmp_path / f"{seed}.png")
    (tmp_path / "test").mkdir()
    # The same names mean other pictures here, and picture 4 is there under another name.
    for name, seed in (("0.png", 50), ("1.png", 4)):
        picture(seed).resize((70, 70)).save(tmp_path / "test" / name)
    lines = "".join(f"{number}.png\tcaption {number} {again}\n" for number in range(6) for again in "ab")
    (tmp_path / "pairs.tsv").write_text("image\tcaption\n" + lines, encoding="utf-8")
    pairs = load_pairs(str(tmp_path / "pairs.tsv"))
    (tmp_path / "test.tsv").write_text("image\tcaption\n0.png\tx\n1.png\ty\n", encoding="utf-8")
    tests = [retrieval_from_files(tmp_path / "test.tsv", tmp_path / "test", language="xx")]
    assert without_test_images(pairs, [], keep=False, report=silent) == (pairs, "unchecked")
    assert without_test_images(pairs, tests, keep=True, report=silent) == (pairs, "kept(2)")
    found, contamination = without_test_images(pairs, tests, keep=False, report=silent)
    assert contamination == "dropped"
    assert found.texts == tuple(text for text in pairs.texts if " 4 " not in text)
    assert [Path(str(image)).name for image in found.images] == [f"{n}.png" for n in (0, 1, 2, 3, 5)]
    own = [retrieval_from_files(tmp_path / "pairs.tsv", tmp_path, language="xx")]
    with pytest.raises(DataError, match="every image"):
        without_test_images(pairs, own, keep=False, report=silent)


def test_test_images_of_one_name_in_two_folders(tmp_path: Path) -> None:
    for place, seed in (("test/a", 1), ("test/b", 2), ("train", 1)):
        (tmp_path / place).mkdir(parents=True)
        picture(seed).save(tmp_path / place / "1.png")
    (tmp_path / "test.tsv").write_text("image\tcaption\na/1.png\tx\nb/1.png\ty\n")
    (tmp_path / "train.tsv").write_text("image\tcaption\n1.png\tz\n")
    tests = [retrieval_from_files(tmp_path / "test.tsv", tmp_path / "test", language="xx")]
    pairs = load_pairs(str(tmp_path / "train.tsv"), images=tmp_path / "train")
    assert without_test_images(pairs, tests, keep=True, report=silent)[1] == "kept(1)"
