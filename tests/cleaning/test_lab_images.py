"""Real photos: copies of test photos are recognised, other photos are not taken for them."""

import os
import tarfile
from pathlib import Path

import pytest
from PIL import Image, ImageEnhance

from langadapt.cleaning.contamination import leaked_images

pytestmark = pytest.mark.lab


def photos(name: str, folder: Path) -> dict[str, Path]:
    with tarfile.open(Path(os.environ["LANGADAPT_LAB"]) / "photos" / f"{name}.tar") as tar:
        tar.extractall(folder / name, filter="data")
    return {path.name: path for path in sorted((folder / name).rglob("*.jpg"))}


def test_copies_are_recognised_and_other_photos_are_not(tmp_path: Path) -> None:
    test, other = photos("val", tmp_path), photos("train_1k", tmp_path)
    copies = {}
    for name, path in list(test.items())[:200]:
        photo = Image.open(path)
        changed = {
            "smaller": (photo.resize((134, 134)), 90),
            "compressed": (photo, 40),
            "brighter": (ImageEnhance.Brightness(photo).enhance(1.15), 90),
            "grey": (photo.convert("L"), 90),
        }
        for kind, (image, quality) in changed.items():
            copies[f"{kind}-{name}"] = tmp_path / f"{kind}-{name}"
            image.save(copies[f"{kind}-{name}"], quality=quality)
    found = leaked_images({**other, **copies}, test, lambda progress: None)
    assert not set(found) & set(other)
    right = [name for name, copied in found.items() if name.partition("-")[2] == copied]
    assert len(right) == len(found) >= 0.98 * len(copies)
