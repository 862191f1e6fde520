"""Tiny files with invented captions in the layout in which each test set is distributed."""

import gzip
import io
import json
from pathlib import Path
from typing import Any, get_args

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image
from pydantic import ValidationError

from langadapt.data.classification import load_classification
from langadapt.data.retrieval import RetrievalSet, load_retrieval
from langadapt.data.retrieval_formats import READERS
from langadapt.errors import DataError
from langadapt.recipes import ClassificationRecipe, RetrievalRecipe
from langadapt.recipes.find import RecipeFile

COCO = ("COCO_val2014_000000000007", "COCO_train2014_000000000042", "COCO_val2014_000000000099")


def load(folder: Path, **keys: Any) -> RetrievalSet:
    base = {"name": "tiny", "title": "Tiny", "licence": "unknown", "language": "zh"}
    recipe = RetrievalRecipe.model_validate({**base, **keys}, strict=False)
    return load_retrieval(RecipeFile(recipe=recipe, path=folder / "tiny.yaml", shipped=False))


def put(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    raw = text.encode()
    path.write_bytes(gzip.compress(raw) if path.suffix == ".gz" else raw)


def photos(folder: Path, *names: str) -> None:
    for name in names:
        put(folder / name, "x")


def owners(found: RetrievalSet) -> list[tuple[str, str]]:
    """Each text with the name of its image."""
    assert found.images is not None
    return [
        (found.images[image].name, text)
        for image, text in zip(found.image_of_text.tolist(), found.texts, strict=True)
    ]


def ceiling(found: RetrievalSet) -> list[tuple[str, str]]:
    assert found.images is not None
    assert found.ceiling_texts is not None
    assert found.ceiling_image_of_text is not None
    return [
        (found.images[image].name, text)
        for image, text in zip(found.ceiling_image_of_text.tolist(), found.ceiling_texts, strict=True)
    ]


def fault(folder: Path, **keys: Any) -> str:
    with pytest.raises(DataError) as caught:
        load(folder, **keys)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_every_format_of_the_schema_has_a_reader() -> None:
    assert set(READERS) == set(get_args(RetrievalRecipe.model_fields["format"].annotation))


def coco_cn(folder: Path) -> dict[str, Any]:
    put(
        folder / "imageid.human-written-caption.txt",
        f"{COCO[1]}#0\t训练集的猫\nCOCO_train2014_000000000500#0\t不在测试集\n"
        f"{COCO[0]}#0\t红色 的船\n{COCO[0]}#1\t一条船\n{COCO[2]}#0\t雪山\n",
    )
    put(folder / "coco-cn_test.txt", f"{COCO[0]}\n{COCO[1]}\n{COCO[2]}\n")
    return {
        "format": "coco-cn",
        "captions": ["imageid.human-written-caption.txt"],
        "image_names": "coco-cn_test.txt",
        "images": "images",
    }


@pytest.mark.parametrize("sorted_folders", [True, False])
def test_coco_cn(tmp_path: Path, sorted_folders: bool) -> None:
    keys = coco_cn(tmp_path)
    for name in COCO:
        inside = name.split("_")[1] + "/" if sorted_folders else ""
        photos(tmp_path / "images", f"{inside}{name}.jpg")
    found = load(tmp_path, **keys, expected_images=3, expected_captions=4)
    a, b, c = (f"{name}.jpg" for name in COCO)
    assert owners(found) == [(a, "红色 的船"), (a, "一条船"), (b, "训练集的猫"), (c, "雪山")]
    assert found.english is None
    assert found.ceiling_texts is None
    first = load(tmp_path, **keys, which_captions="first", expected_captions=3)
    assert owners(first) == [(a, "红色 的船"), (b, "训练集的猫"), (c, "雪山")]


def test_coco_cn_faults(tmp_path: Path) -> None:
    keys = coco_cn(tmp_path)
    photos(tmp_path / "images", f"train2014/{COCO[1]}.jpg")
    message = fault(tmp_path, **keys)
    assert "2 of 3 image files are missing" in message
    assert f"{COCO[0]}.jpg, " in message
    assert f"{COCO[2]}.jpg;" in message
    put(tmp_path / "coco-cn_test.txt", f"{COCO[0]}\nCOCO_val2014_000000000123\n")
    assert "1 images have no caption in" in fault(tmp_path, **keys)
    assert "COCO_val2014_000000000123.jpg" in fault(tmp_path, **keys)
    put(tmp_path / "coco-cn_test.txt", f"{COCO[0]}\n\n{COCO[1]}\n")
    assert "coco-cn_test.txt: line 2 is blank" in fault(tmp_path, **keys)
    put(tmp_path / "imageid.human-written-caption.txt", f"{COCO[0]}#0\t好\nwithout-caption\n")
    put(tmp_path / "coco-cn_test.txt", f"{COCO[0]}\n")
    assert "caption.txt: line 2: expected `image-id#number`" in fault(tmp_path, **keys)


def test_flickr8k_cn_with_english(tmp_path: Path) -> None:
    put(
        tmp_path / "flickr8kzhc.caption.txt",
        "11_a.jpg#zhc#0 两只 狗\n22_b.jpg#zhc#0 训练图\n33_c.jpg#zhc#0 大海\n11_a.jpg#zhc#1 草地上的狗\n",
    )
    put(
        tmp_path / "flickr8kenc.caption.txt",
        "11_a.jpg#enc#0 Two dogs .\n22_b.jpg#enc#0 A training photo .\n33_c.jpg#enc#0 The sea .\n",
    )
    put(tmp_path / "flickr8ktest.txt", "33_c\n11_a\n")
    photos(tmp_path / "Images", "11_a.jpg", "33_c.jpg")
    found = load(
        tmp_path,
        format="flickr-cn",
        captions=["flickr8kzhc.caption.txt"],
        english=["flickr8kenc.caption.txt"],
        image_names="flickr8ktest.txt",
        images="Images",
    )
    assert owners(found) == [("33_c.jpg", "大海"), ("11_a.jpg", "两只 狗"), ("11_a.jpg", "草地上的狗")]
    assert ceiling(found) == [("33_c.jpg", "The sea ."), ("11_a.jpg", "Two dogs .")]
    assert found.english is None


@pytest.mark.parametrize("line", ["{}\t{}\n", "{}#0\t{}\n", "{}.jpg#0\t{}\n", "{}#zhm#0\t{}\n"])
def test_flickr30k_cn_lines(tmp_path: Path, line: str) -> None:
    put(tmp_path / "test.txt", line.format("1007", "一位 女士") + line.format("1008", "孩子"))
    photos(tmp_path / "images", "1007.jpg", "1008.jpg")
    found = load(tmp_path, format="flickr-cn", captions=["test.txt"], images="images")
    assert owners(found) == [("1007.jpg", "一位 女士"), ("1008.jpg", "孩子")]


def test_part_of_speech_tags_are_no_part_of_a_caption(tmp_path: Path) -> None:
    lines = "7.jpg#zhb#0 两个:m 年轻:a 的:ude 人:n 穿:v T:n 恤:n 。:wj\n7.jpg#zhb#1 NBA:n fan:n ：::w 狗:n\n"
    put(tmp_path / "test.txt", lines + "8.jpg#zhb#0 时间 :12:b 一只 狗\n")
    photos(tmp_path / "images", "7.jpg", "8.jpg")
    found = load(tmp_path, format="flickr-cn", captions=["test.txt"], images="images")
    assert list(found.texts) == ["两个年轻的人穿T恤。", "NBA fan：:狗", "时间 :12:b 一只 狗"]


def xtd10(folder: Path) -> dict[str, Any]:
    put(folder / "XTD10/test_image_names.txt", "".join(f"{name}.jpg\n" for name in COCO))
    put(folder / "XTD10/test_1kcaptions_zh.txt", "一条船\n一只猫\n雪山")  # no line feed at the end
    put(folder / "MIC/test_1kcaptions_en.txt", "a boat\na cat\nsnowy mountains\n")
    return {
        "format": "xtd10",
        "captions": ["XTD10/test_1kcaptions_zh.txt"],
        "english": ["MIC/test_1kcaptions_en.txt"],
        "image_names": "XTD10/test_image_names.txt",
    }


def test_xtd10(tmp_path: Path) -> None:
    keys = xtd10(tmp_path)
    photos(tmp_path / "coco", *(f"{name.split('_')[1]}/{name}.jpg" for name in COCO))
    found = load(tmp_path, **keys, images="coco", expected_images=3, expected_captions=3)
    names = [f"{name}.jpg" for name in COCO]
    assert owners(found) == list(zip(names, ["一条船", "一只猫", "雪山"], strict=True))
    assert ceiling(found) == list(zip(names, ["a boat", "a cat", "snowy mountains"], strict=True))
    assert found.english == ("a boat", "a cat", "snowy mountains")


def test_xtd10_without_images(tmp_path: Path) -> None:
    keys = xtd10(tmp_path)
    put(tmp_path / "MIC/test_1kcaptions_en.txt", "a boat\na cat\na boat\n")
    for names in (keys.pop("image_names"), None):
        found = load(tmp_path, **keys, image_names=names, expected_captions=3, expected_images=99)
        assert found.images is None
        assert found.ceiling_texts is None
        assert found.english_gallery == ("a boat", "a cat")
        assert found.image_of_text.tolist() == [0, 1, 0]
        assert found.image_count == 2
    put(tmp_path / "MIC/test_1kcaptions_en.txt", "a boat\na cat\n")
    assert "has 3 lines, MIC/test_1kcaptions_en.txt has 2" in fault(tmp_path, **keys)
    keys.pop("english")
    assert "without images each caption needs its English side" in fault(tmp_path, **keys)


def test_xtd10_shifted_or_short(tmp_path: Path) -> None:
    keys = {**xtd10(tmp_path), "images": "coco"}
    put(tmp_path / "XTD10/test_1kcaptions_zh.txt", "一条船\n一只猫\n")
    message = fault(tmp_path, **keys)
    assert "test_1kcaptions_zh.txt has 2 lines" in message
    assert "test_image_names.txt has 3" in message
    put(tmp_path / "XTD10/test_1kcaptions_zh.txt", "一条船\n一只猫\n雪山\n多\n")
    assert "test_1kcaptions_zh.txt has 4 lines" in fault(tmp_path, **keys)
    put(tmp_path / "XTD10/test_1kcaptions_zh.txt", "一条船\n\n雪山\n")
    assert "test_1kcaptions_zh.txt: line 2: text is empty" in fault(tmp_path, **keys)
    put(tmp_path / "XTD10/test_1kcaptions_zh.txt", "一条船\n一只猫\n雪山\n")
    keys.pop("image_names")
    assert "image_names is missing" in fault(tmp_path, **keys)


def test_multi30k_task_1_and_2(tmp_path: Path) -> None:
    # The list of test_2017_mscoco carries the caption's id behind `#`.
    put(tmp_path / "splits/test.txt", "101.jpg\n102.jpg#601091\n")
    put(tmp_path / "raw/test.en.gz", "A dog.\nA cat.\n")
    put(tmp_path / "raw/test.de.gz", "Ein Hund.\nEine Katze.\n")
    photos(tmp_path / "flickr", "101.jpg", "102.jpg")
    keys = {"format": "multi30k", "language": "de", "image_names": "splits/test.txt", "images": "flickr"}
    task1 = load(tmp_path, **keys, captions=["raw/test.de.gz"], english=["raw/test.en.gz"])
    assert owners(task1) == [("101.jpg", "Ein Hund."), ("102.jpg", "Eine Katze.")]
    assert task1.english == ("A dog.", "A cat.")
    for number in (1, 2):
        put(tmp_path / f"raw/test.{number}.de", f"Hund {number}\nKatze {number}\n")
        put(tmp_path / f"raw/test.{number}.en", f"dog {number}\ncat {number}\n")
    both = {
        "captions": ["raw/test.1.de", "raw/test.2.de"],
        "english": ["raw/test.1.en", "raw/test.2.en"],
    }
    task2 = load(tmp_path, **keys, **both, expected_captions=4)
    expected = [("101.jpg", "Hund 1"), ("101.jpg", "Hund 2"), ("102.jpg", "Katze 1"), ("102.jpg", "Katze 2")]
    assert owners(task2) == expected
    assert task2.english is None  # written independently of the English captions
    assert ceiling(task2)[2] == ("102.jpg", "cat 1")
    first = load(tmp_path, **keys, **both, which_captions="first")
    assert owners(first) == [("101.jpg", "Hund 1"), ("102.jpg", "Katze 1")]
    assert ceiling(first) == [("101.jpg", "dog 1"), ("102.jpg", "cat 1")]


def crossmodal(folder: Path, second: object) -> dict[str, Any]:
    rows = [
        {
            "image/key": "00aa",
            "image/locale": "sw",
            "en": {"caption": ["A hut."], "caption/tokenized": ["A hut ."]},
            "sw": {"caption": ["Kibanda.", "Nyumba ndogo."], "caption/tokenized": ["Kibanda .", "x"]},
        },
        {"image/key": "00bb", "image/locale": "en", "en": {"caption": ["Tea.", "A cup."]}, "sw": second},
    ]
    put(folder / "captions.jsonl", "".join(json.dumps(row) + "\n" for row in rows))
    photos(folder / "images", "00aa.jpg", "00bb.jpg")
    return {
        "format": "crossmodal-3600",
        "captions": ["captions.jsonl"],
        "english": ["captions.jsonl"],
        "images": "images",
    }


def test_crossmodal_3600(tmp_path: Path) -> None:
    keys = crossmodal(tmp_path, {"caption": ["Chai."]})
    found = load(tmp_path, **keys, language="sw")
    assert owners(found) == [("00aa.jpg", "Kibanda."), ("00aa.jpg", "Nyumba ndogo."), ("00bb.jpg", "Chai.")]
    assert ceiling(found) == [("00aa.jpg", "A hut."), ("00bb.jpg", "Tea."), ("00bb.jpg", "A cup.")]
    assert "no captions in 'yo'; there are: en, sw" in fault(tmp_path, **keys, language="yo")
    assert "format crossmodal-3600 has no such file" in fault(tmp_path, **keys, image_names="captions.jsonl")
    crossmodal(tmp_path, {"caption": []})
    assert "captions.jsonl: line 2: sw: no captions" in fault(tmp_path, **keys, language="sw")
    crossmodal(tmp_path, ["Chai."])
    assert "line 2: sw: expected an object" in fault(tmp_path, **keys, language="sw")


def shown(number: int) -> dict[str, object]:
    out = io.BytesIO()
    Image.new("RGB", (4, 4), (number, 0, 0)).save(out, "PNG")
    return {"bytes": out.getvalue(), "path": None}


def rows_of_languages() -> list[dict[str, object]]:
    """Four images, each in two languages, one row a caption."""
    return [
        {"image": shown(n), "key": f"k{n}", "caption": f"{code} {n}", "lang": code, "label": f"c{n % 2}"}
        for n in range(4)
        for code in ("en", "sw")
    ]


def test_rows_of_a_table_are_chosen_by_language_and_number(tmp_path: Path) -> None:
    for number, part in enumerate((rows_of_languages()[:4], rows_of_languages()[4:])):
        pq.write_table(pa.Table.from_pylist(part), tmp_path / f"part-{number}.parquet")
    source: dict[str, Any] = {"kind": "hub", "repo": str(tmp_path), "where": {"lang": "sw"}, "max_rows": 3}
    source["files"] = ["part-*.parquet"]
    keys: dict[str, Any] = {"captions": ["part-*.parquet"], "images": "inside", "source": source}
    for name in ("key", None):
        found = load(tmp_path, columns={"name": name}, **keys)
        assert found.texts == ("sw 0", "sw 1", "sw 2"), "over both files"
        assert found.images is not None
        pictures = [Image.open(io.BytesIO(image.read_bytes())) for image in found.images]
        assert [picture.getpixel((0, 0))[0] for picture in pictures] == [0, 1, 2]  # type: ignore[index]
    with_ceiling = load(tmp_path, columns={"name": "key"}, english=["part-*.parquet"], **keys)
    assert with_ceiling.ceiling_texts == ("en 0", "sw 0", "en 1", "sw 1", "en 2", "sw 2"), "not filtered"
    assert "no row has {'lang': 'de'}" in fault(
        tmp_path, **{**keys, "source": {**source, "where": {"lang": "de"}}}
    )
    recipe = ClassificationRecipe.model_validate(
        {"name": "c", "title": "C", "licence": "unknown", "images": "inside", "source": source}, strict=False
    )
    place = RecipeFile(recipe=recipe, path=tmp_path / "c.yaml", shipped=False)
    classes = load_classification(place, language="sw")
    assert ([item.folder for item in classes.classes], classes.labels.tolist()) == (["c0", "c1"], [0, 0, 1])


def test_rows_are_not_chosen_of_what_is_no_table(tmp_path: Path) -> None:
    source = {"kind": "hub", "repo": str(tmp_path), "max_rows": 3}
    with pytest.raises(ValidationError, match="where and max_rows choose rows of tables; format lines has"):
        load(tmp_path, format="lines", captions=["a.txt"], source=source)
