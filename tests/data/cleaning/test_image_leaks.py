"""Test images among training images, under their own or another name."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageEnhance

from langadapt.data.cleaning.images import LeakedImage, leaked_images
from langadapt.errors import DataError


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
    assert leaked_images(train, test, lambda progress: None) == [
        LeakedImage(train="smaller.png", test="t3.png", by="picture"),
        LeakedImage(train="compressed.jpg", test="t4.png", by="picture"),
        LeakedImage(train="brighter.png", test="t5.png", by="picture"),
        LeakedImage(train="t6.png", test="t6.png", by="id"),
    ]


def test_a_broken_image_is_named(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(b"no image")
    with pytest.raises(DataError, match=r"a\.png"):
        leaked_images({"a.png": tmp_path / "a.png"}, {}, lambda progress: None)
