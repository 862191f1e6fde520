from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from langadapt.data import pixels
from langadapt.data.images import list_images, open_image
from langadapt.errors import DataError

RED, BLUE = (250, 10, 10), (10, 10, 250)


def halves(width: int = 40, height: int = 20) -> Image.Image:
    """Left half red, right half blue."""
    image = Image.new("RGB", (width, height), RED)
    image.paste(BLUE, (width // 2, 0, width, height))
    return image


def fault(path: Path) -> str:
    with pytest.raises(DataError) as caught:
        open_image(path)
    assert str(caught.value).startswith(f"{path}: ")
    return str(caught.value)


def test_exif_orientation_turns_the_image(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was turned: what is left in the file belongs on top
    halves().save(tmp_path / "a.jpg", exif=exif, quality=95)
    image = open_image(tmp_path / "a.jpg")
    assert (image.mode, image.size) == ("RGB", (20, 40))
    top, bottom = image.getpixel((10, 5)), image.getpixel((10, 35))
    assert isinstance(top, tuple)
    assert isinstance(bottom, tuple)
    assert top[0] > 200 > 50 > top[2]
    assert bottom[2] > 200 > 50 > bottom[0]


@pytest.mark.parametrize("mode", ["L", "LA", "RGBA", "P", "CMYK", "1"])
def test_every_mode_becomes_rgb(tmp_path: Path, mode: str) -> None:
    path = tmp_path / ("a.tif" if mode == "CMYK" else "a.png")
    halves().convert(mode).save(path)
    image = open_image(path)
    assert (image.mode, image.size) == ("RGB", (40, 20))
    assert image.getpixel((5, 5)) == halves().convert(mode).convert("RGB").getpixel((5, 5))


TURNED = np.array([[0, 257 * 128, 65535], [65535, 257 * 64, 257 * 64]], np.uint16)


@pytest.mark.parametrize("kind", ["path", "str", "bytes", "opened", "loaded"])
def test_every_way_to_give_an_image_reads_it_alike(tmp_path: Path, kind: str) -> None:
    """16 bits of grey, stored lying on its side: the first column from below is the first row on top."""
    exif = Image.Exif()
    exif[0x0112] = 6
    path = tmp_path / "a.png"
    Image.fromarray(TURNED).save(path, exif=exif)
    opened = Image.open(path)
    given = {"path": path, "str": str(path), "bytes": path.read_bytes(), "opened": opened, "loaded": opened}
    if kind == "loaded":
        opened.load()
    found = np.asarray(open_image(given[kind]))
    assert found[..., 0].tolist() == [[255, 0], [64, 128], [64, 255]]
    assert (found == found[..., :1]).all()


def test_a_damaged_image_that_pillow_opened_is_named(tmp_path: Path) -> None:
    path = tmp_path / "a.jpg"
    halves(200, 200).save(path)
    path.write_bytes(path.read_bytes()[:1500])
    with pytest.raises(DataError, match=r"a.jpg: damaged image"):
        open_image(Image.open(path))
    with pytest.raises(DataError, match="image: is empty"):
        open_image(b"")


def test_animation_gives_its_first_frame(tmp_path: Path) -> None:
    frames = [Image.new("RGB", (8, 8), colour) for colour in (RED, BLUE)]
    frames[0].save(tmp_path / "a.gif", save_all=True, append_images=frames[1:])
    pixel = open_image(tmp_path / "a.gif").getpixel((2, 2))
    assert isinstance(pixel, tuple)
    assert pixel[0] > 200


def test_faults_name_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.jpg"
    assert "no such file" in fault(path)
    assert "is a folder" in fault(tmp_path)
    path.write_bytes(b"")
    assert "is empty" in fault(path)
    path.write_bytes(b"<html>not found</html>")
    assert "is not an image of a known kind" in fault(path)
    path.write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\nshowpage\n%%EOF\n")
    assert "is not an image of a known kind" in fault(path)
    for name in ("b.jpg", "b.png", "b.webp"):
        halves(200, 200).save(tmp_path / name)
        whole = (tmp_path / name).read_bytes()
        (tmp_path / name).write_bytes(whole[: len(whole) // 2])
        assert "damaged image" in fault(tmp_path / name)
    halves().save(path)
    monkeypatch.setattr(pixels, "_MOST_PIXELS", 799)
    assert "40 x 20 pixels are too many" in fault(path)


def test_bomb_beyond_pillows_own_limit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    halves().save(tmp_path / "a.png")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 300)
    assert "more than twice 89 million pixels" in fault(tmp_path / "a.png")


def test_list_images(tmp_path: Path) -> None:
    for name in ("b.PNG", "a/c.jpeg", "a/.hidden.jpg", ".git/x.png", "a/notes.txt", "Z.jpg"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    assert list_images(tmp_path) == [tmp_path / "Z.jpg", tmp_path / "a" / "c.jpeg", tmp_path / "b.PNG"]
    with pytest.raises(DataError, match="no such folder"):
        list_images(tmp_path / "none")
    with pytest.raises(DataError, match="is not a folder"):
        list_images(tmp_path / "b.PNG")
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match=r"holds no images; expected files ending in .*\.jpg"):
        list_images(tmp_path / "empty")


@pytest.mark.parametrize("ending", ["png", "tif"])
def test_sixteen_bits_keep_their_shades(tmp_path: Path, ending: str) -> None:
    """Black, the middle and white; cut at 255, the middle would be white."""
    shades = np.array([[0, 257 * 128, 65535]], np.uint16)
    Image.fromarray(shades).save(tmp_path / f"a.{ending}")
    assert np.asarray(open_image(tmp_path / f"a.{ending}")).tolist() == [[[0] * 3, [128] * 3, [255] * 3]]


def test_numbers_whose_white_nobody_states(tmp_path: Path) -> None:
    for number, values in enumerate([np.array([[0.0, 1.0]], np.float32), np.array([[0, 70_000]], np.int32)]):
        Image.fromarray(values).save(tmp_path / f"{number}.tif")
        assert "save it in 8 bits" in fault(tmp_path / f"{number}.tif")


@pytest.mark.parametrize(
    ("size", "words"),
    [
        ((20_000, 1), "20000 x 1 pixels are too oblong"),
        ((1, 20_000), "too oblong"),
        ((2, 402), "too oblong"),
        ((66_000, 400), "too many"),
    ],
)
def test_thin_and_long_images_are_refused(tmp_path: Path, size: tuple[int, int], words: str) -> None:
    Image.new("1", size).save(tmp_path / "a.png")
    assert words in fault(tmp_path / "a.png")
    with pytest.raises(DataError, match=words):
        open_image((tmp_path / "a.png").read_bytes())


def test_an_image_may_be_two_hundred_times_as_long_as_wide(tmp_path: Path) -> None:
    Image.new("L", (400, 2)).save(tmp_path / "a.png")
    assert open_image(tmp_path / "a.png").size == (400, 2)


@pytest.mark.parametrize(
    ("ending", "kind"),
    [
        ("jfif", "JPEG"),
        ("jpe", "JPEG"),
        ("avif", "AVIF"),
        ("jp2", "JPEG2000"),
        ("ppm", "PPM"),
        ("mpo", "MPO"),
    ],
)
def test_what_pillow_reads_is_found_and_read(tmp_path: Path, ending: str, kind: str) -> None:
    halves().save(tmp_path / f"a.{ending}", kind)
    (tmp_path / "link").symlink_to(tmp_path, target_is_directory=True)
    (tmp_path / "a.heic").touch()
    skipped: list[Path] = []
    (found,) = list_images(tmp_path, on_skip=skipped.append)
    image = open_image(found)
    assert (image.mode, image.size) == ("RGB", (40, 20))
    assert sorted(path.name for path in skipped) == ["a.heic", "link"]
