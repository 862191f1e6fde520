"""Pairs read alike from tables, tar shards and data sets; broken images are all found."""

import io
import json
import tarfile
from pathlib import Path

import datasets
import pytest
import torch
from PIL import Image

from langadapt.data.images import broken_images, open_image, random_view
from langadapt.data.pairs import Pairs, join_pairs, load_pairs
from langadapt.errors import DataError

CAPTIONS = [("a", "gato rojo", "red cat"), ("a", "un gato", "a cat"), ("b", "perro", "dog")]
COLOURS = {"a": (200, 10, 10), "b": (10, 10, 200)}


def picture(name: str) -> bytes:
    made = io.BytesIO()
    Image.new("RGB", (8, 6), COLOURS[name]).save(made, format="png")
    return made.getvalue()


def add(tar: tarfile.TarFile, name: str, content: bytes) -> None:
    member = tarfile.TarInfo(name)
    member.size = len(content)
    tar.addfile(member, io.BytesIO(content))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "photos").mkdir()
    for name in COLOURS:
        (tmp_path / "photos" / f"{name}.png").write_bytes(picture(name))
    rows = [{"image": f"{image}.png", "caption": text, "english": side} for image, text, side in CAPTIONS]
    (tmp_path / "rows.jsonl").write_text("\n".join(map(json.dumps, rows)) + "\n", encoding="utf-8")
    grouped = [
        {"image": "a.png", "caption": ["gato rojo", "un gato"], "english": ["red cat", "a cat"]},
        {"image": "b.png", "caption": ["perro"], "english": ["dog"]},
    ]
    (tmp_path / "lists.jsonl").write_text("\n".join(map(json.dumps, grouped)) + "\n", encoding="utf-8")
    lines = ["image,caption,english", *(f"{image}.png,{text},{side}" for image, text, side in CAPTIONS)]
    (tmp_path / "rows.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    with tarfile.open(tmp_path / "json.tar", "w") as tar:
        for number, (image, text, side) in enumerate(CAPTIONS):
            add(tar, f"x/{number}.json", json.dumps({"caption": text, "english": side}).encode())
            add(tar, f"x/{number}.png", picture(image))
    with tarfile.open(tmp_path / "text.tar", "w") as tar:
        for number, (image, text, side) in enumerate(CAPTIONS):
            add(tar, f"{number}.png", picture(image))
            add(tar, f"{number}.txt", f"{text}\n".encode())
            add(tar, f"{number}.en.txt", side.encode())
    column = datasets.Features(
        {"photo": datasets.Image(), "texts": {"es": datasets.Value("string"), "en": datasets.Value("string")}}
    )
    rows = [
        {"photo": {"bytes": picture(i), "path": None}, "texts": {"es": t, "en": e}} for i, t, e in CAPTIONS
    ]
    (tmp_path / "hub").mkdir()
    datasets.Dataset.from_list(rows, features=column).to_parquet(str(tmp_path / "hub" / "train.parquet"))
    common = "title: Test\nlicence: CC0-1.0\nlanguage: es\nexpected_rows: 3\n"
    (tmp_path / "tars.yaml").write_text(
        f"name: tars\n{common}source: {{kind: tar, paths: [text.tar]}}\ncolumns: {{english: english}}\n"
    )
    (tmp_path / "hub.yaml").write_text(
        f"name: hub\n{common}source: {{kind: hub, repo: {tmp_path / 'hub'}}}\n"
        "columns: {image: photo, caption: texts.es, english: texts.en}\n"
    )
    return tmp_path


def content(pairs: Pairs) -> list[tuple[bytes, str, str]]:
    assert pairs.english is not None
    rows = zip(pairs.image_of_text, pairs.texts, pairs.english, strict=True)
    return [(pairs.images[i].read_bytes(), text, side) for i, text, side in rows]


@pytest.mark.parametrize(
    "name", ["rows.jsonl", "lists.jsonl", "rows.csv", "json.tar", "tars.yaml", "hub.yaml"]
)
def test_every_form_holds_the_same_pairs(folder: Path, name: str) -> None:
    images = folder / "photos" if name.startswith(("rows", "lists")) else None
    found = load_pairs(str(folder / name), images=images)
    assert content(found) == [(picture(image), text, side) for image, text, side in CAPTIONS]
    shown = open_image(found.images[int(found.image_of_text[2])])
    assert shown.getpixel((3, 3)) == COLOURS["b"]
    assert len(set(found.image_digests)) == 2


def test_two_sets_become_one(folder: Path) -> None:
    parts = [
        load_pairs(str(folder / "rows.csv"), images=folder / "photos"),
        load_pairs(str(folder / "json.tar")),
    ]
    joined = join_pairs(parts)
    assert content(joined) == content(parts[0]) + content(parts[1])
    assert content(joined.without([0])) == content(joined)[2:]
    (folder / "linked").symlink_to(folder / "photos")
    again = load_pairs(str(folder / "rows.jsonl"), images=folder / "linked")
    assert len(join_pairs([parts[0], again]).images) == 2, "the same photos by another path"
    assert content(join_pairs([parts[0], again])) == content(parts[0]) * 2


def test_faults_are_one_line(folder: Path) -> None:
    (folder / "photos" / "b.png").unlink()
    cases = {"rows.csv": r"1 of 2 image files are missing: .*b\.png"}
    with tarfile.open(folder / "lonely.tar", "w") as tar:
        add(tar, "7.txt", b"nobody")
    cases["lonely.tar"] = "lonely.tar: sample 7: no image in it"
    with tarfile.open(folder / "silent.tar", "w") as tar:
        add(tar, "7.png", picture("a"))
    cases["silent.tar"] = "sample 7: no caption in it; expected 7.txt or 7.json"
    with tarfile.open(folder / "packed.tar", "w:gz") as tar:
        add(tar, "7.png", picture("a"))
    cases["packed.tar"] = "not a plain tar file.*unpack compressed shards"
    for name, words in cases.items():
        with pytest.raises(DataError, match=words) as error:
            load_pairs(str(folder / name), images=folder / "photos")
        assert "\n" not in str(error.value)
    with pytest.raises(DataError, match="hub is in 'es', not in 'sw'"):
        load_pairs(str(folder / "hub.yaml"), language="sw swa")


def test_all_broken_images_are_listed(folder: Path) -> None:
    good = folder / "photos" / "a.png"
    cut, other = folder / "cut.png", folder / "other.png"
    cut.write_bytes(picture("a")[:50])
    other.write_text("no image")
    found = broken_images([cut, good, other, folder / "gone.png"], fingerprint="x")
    assert [item.number for item in found] == [0, 2, 3]
    assert "cut.png: damaged image" in found[0].reason
    assert "gone.png: no such file" in found[2].reason
    assert broken_images([good], fingerprint="x") == found, "from the cache"


def test_views_are_large_parts_and_mirror_only_when_asked() -> None:
    ramp = Image.linear_gradient("L").rotate(90).convert("RGB")  # darker to the right
    rising = []
    for flip in (False, True):
        for seed in range(40):
            generator = torch.Generator().manual_seed(seed)
            view = random_view(ramp, flip=flip, generator=generator)
            assert view.width * view.height >= 0.4 * ramp.width * ramp.height
            rising.append(view.getpixel((0, 0)) < view.getpixel((view.width - 1, 0)))  # type: ignore[operator]
    assert len(set(rising[:40])) == 1
    assert 8 < sum(value != rising[0] for value in rising[40:]) < 32
