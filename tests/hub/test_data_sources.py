"""Data that fetch themselves: from a stand-in of the Hub and of the web, with the faults of both."""

import bz2
import gzip
import hashlib
import io
import json
import tarfile
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from huggingface_hub import constants
from own_endpoint import use_endpoint
from PIL import Image
from stand_in import OwnHub
from web_stand_in import Web, web

from langadapt.data.classification import load_classification
from langadapt.data.images import open_image
from langadapt.data.pairs import load_pairs
from langadapt.data.parallel import load_parallel
from langadapt.data.retrieval import load_captions, load_retrieval
from langadapt.errors import DataError, MissingDataError
from langadapt.files.fetch import local_only
from langadapt.recipes import ClassificationRecipe, ParallelRecipe, RetrievalRecipe, data_recipe

pytestmark = [pytest.mark.hub, pytest.mark.allow_hosts(["127.0.0.1"])]
COMMIT = "0123456789" * 4
URL = "https://files.org/v1"
TABLE = "english\ttarget\na dog\tajá\na cat\tológbò\n"


@pytest.fixture
def net(socket_enabled: None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Web]:
    monkeypatch.setenv("LANGADAPT_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("LANGADAPT_DATA", str(tmp_path / "data"))
    with web(monkeypatch) as made:
        yield made


@pytest.fixture
def hub(own_hub: OwnHub, net: Web, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> OwnHub:
    use_endpoint(monkeypatch, own_hub.url, cache=tmp_path / "hub")
    return own_hub


def recipe(folder: Path, source: Mapping[str, object], **more: object):
    keys = {"name": "own", "title": "Own", "licence": "CC0-1.0", "language": "yo", "source": source, **more}
    (folder / "own.yaml").write_text(json.dumps(keys), encoding="utf-8")
    schema = (
        RetrievalRecipe if "captions" in more and "columns" in more and "images" in more else ParallelRecipe
    )
    return data_recipe(schema, str(folder / "own.yaml"))


def rows(folder: Path, source: Mapping[str, object], **more: object) -> list[tuple[str, str]]:
    found = load_parallel(recipe(folder, source, **more))
    return list(zip(found.english, found.target, strict=True))


def fault(folder: Path, source: Mapping[str, object], **more: object) -> str:
    with pytest.raises(DataError) as caught:
        rows(folder, source, **more)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def table(url: str = f"{URL}/pairs.tsv", **keys: object) -> dict[str, object]:
    return {"kind": "download", "url": url, **keys}


def parquet(records: list[dict[str, object]], group: int = 3) -> bytes:
    out = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(records), out, row_group_size=group)
    return out.getvalue()


def picture(colour: str) -> bytes:
    out = io.BytesIO()
    Image.new("RGB", (8, 8), colour).save(out, "PNG")
    return out.getvalue()


PAIRS = [("a dog", "ajá"), ("a cat", "ológbò")]


def test_a_table_is_fetched_once_and_said_beforehand(
    net: Web, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    net.files["files.org/v1/pairs.tsv"] = TABLE.encode()
    assert rows(tmp_path, table()) == PAIRS
    assert f"own: fetching {URL}/pairs.tsv, 0.0 MB (licence: CC0-1.0)" in capsys.readouterr().err
    assert (tmp_path / "data" / "files.org" / "v1" / "pairs.tsv").read_text("utf-8") == TABLE
    assert rows(tmp_path, table()) == PAIRS
    assert len(net.asked) == 1


def test_half_a_download_goes_on_where_it_stopped(net: Web, tmp_path: Path) -> None:
    content = TABLE + "".join(f"dog {n}\tajá {n}\n" for n in range(5000))
    net.files["files.org/v1/pairs.tsv"] = content.encode()
    net.cut["files.org/v1/pairs.tsv"] = 4000
    with pytest.warns(UserWarning, match="the connection was cut"):
        assert len(rows(tmp_path, table())) == 5002
    (_, first), (_, second) = net.asked
    assert first == 0 < second <= 4000
    left = sorted(path.name for path in (tmp_path / "data" / "files.org" / "v1").iterdir())
    assert left == [".pairs.tsv.lock", "pairs.tsv"]


def test_a_file_that_changed_meanwhile_is_fetched_from_its_start(net: Web, tmp_path: Path) -> None:
    place = tmp_path / "data" / "files.org" / "v1"
    place.mkdir(parents=True)
    (place / ".pairs.tsv.part").write_bytes(b"an older file's beginning")
    (place / ".pairs.tsv.part.etag").write_text('"older"')
    net.files["files.org/v1/pairs.tsv"] = TABLE.encode()
    assert rows(tmp_path, table()) == PAIRS


def test_a_checksum_decides(net: Web, tmp_path: Path) -> None:
    net.files["files.org/v1/pairs.tsv"] = b"english\ttarget\nwrong\twrong\n"
    right = hashlib.sha256(TABLE.encode()).hexdigest()
    source = table(sha256=[f"{right}  pairs.tsv"])
    message = fault(tmp_path, source)
    assert f"own: {URL}/pairs.tsv: cannot be fetched: its SHA-256 is another one" in message
    assert not list((tmp_path / "data").rglob("pairs*"))
    net.files["files.org/v1/pairs.tsv"] = TABLE.encode()
    assert rows(tmp_path, source) == PAIRS


def test_faults_of_servers_are_one_line(net: Web, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert "is not there any more (404); look where it has gone" in fault(tmp_path, table())
    net.html = True
    assert "a page in HTML came instead of the file" in fault(tmp_path, table())
    assert not list((tmp_path / "data").rglob("pairs*"))
    net.html = False
    net.files["files.org/v1/pairs.tsv"] = TABLE.encode()
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    asked = len(net.asked)
    assert "own: not on this machine, and nothing is downloaded now" in fault(tmp_path, table())
    assert len(net.asked) == asked
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    assert rows(tmp_path, table()) == PAIRS
    assert "leads out" in fault(tmp_path, table(f"{URL}/../../x.tsv"))


def test_a_full_disk_is_one_line(net: Web, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("langadapt.data.sources.download", full)
    assert "the disk is full; set LANGADAPT_DATA to a larger one" in fault(tmp_path, table())


def test_archives_are_read_without_unpacking(net: Web, tmp_path: Path) -> None:
    english, target = "a dog\na cat\n\n", "ajá\nológbò\nẹyẹ\n"
    packed, tarred = io.BytesIO(), io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        archive.writestr("NLLB.en-yo.en", english)
        archive.writestr("NLLB.en-yo.yo", target)
    with tarfile.open(fileobj=tarred, mode="w:gz") as tar:
        for name, text in (("./x/a.en", english), ("x/a.yo.gz", target)):
            content = gzip.compress(text.encode()) if name.endswith("gz") else text.encode()
            member = tarfile.TarInfo(name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    net.files["files.org/v1/en-yo.txt.zip"] = packed.getvalue()
    net.files["files.org/v1/all.tar.gz"] = tarred.getvalue()
    source = table(f"{URL}/en-yo.txt.zip", english="NLLB.en-yo.en", target="NLLB.en-yo.yo")
    assert rows(tmp_path, source, blank_rows="skip") == PAIRS
    assert rows(tmp_path, {**source, "max_rows": 1}) == PAIRS[:1]
    tarred_source = table(f"{URL}/all.tar.gz", english="x/a.en", target="x/a.yo.gz")
    assert rows(tmp_path, tarred_source, blank_rows="skip") == PAIRS
    assert "holds no NLLB.en-yo.xx; the archive's layout has changed" in fault(
        tmp_path, {**source, "target": "NLLB.en-yo.xx"}
    )
    assert {path.suffix for path in (tmp_path / "data").rglob("*.*") if path.is_file()} <= {
        ".zip",
        ".gz",
        ".lock",
    }


def test_rows_of_one_language_are_chosen(net: Web, tmp_path: Path) -> None:
    """The columns of cc3m_mt_train.jsonl.bz2 as web-data/README.md of google/crossmodal-3600 names them."""
    lines = [
        {"image_url": "x", "src_lang": "en", "caption_tokenized": f"dog {n}", "trg_lang": code,
         "translation_tokenized": f"{code} {n}"}
        for n in range(30_000) for code in ("sw", "yo")
    ]  # fmt: skip
    text = "".join(json.dumps(line) + "\n" for line in lines)
    net.files["files.org/v1/mt.jsonl.bz2"] = bz2.compress(text.encode())
    columns = {"english": "caption_tokenized", "target": "translation_tokenized"}
    source = table(f"{URL}/mt.jsonl.bz2", where={"trg_lang": "yo"})
    found = rows(tmp_path, source, columns=columns)
    assert found == [(f"dog {n}", f"yo {n}") for n in range(30_000)]
    # What is chosen is kept: the second time the large file is not read.
    (tmp_path / "data" / "files.org" / "v1" / "mt.jsonl.bz2").touch()
    assert rows(tmp_path, {**source, "max_rows": 2}, columns=columns) == found[:2]
    assert len(list((tmp_path / "cache" / "extracts").iterdir())) == 2
    assert "no row has {'trg_lang': 'zu'}" in fault(
        tmp_path, {**source, "where": {"trg_lang": "zu"}}, columns=columns
    )
    assert "no column 'lang'" in fault(tmp_path, {**source, "where": {"lang": "yo"}}, columns=columns)


def test_a_damaged_bz2_file_is_one_line(net: Web, tmp_path: Path) -> None:
    whole = bz2.compress(TABLE.encode())
    net.files |= {
        "files.org/v1/a.tsv.bz2": whole[:-6],
        "files.org/v1/b.tsv.bz2": b"nothing",
        "files.org/v1/c.tsv.bz2": whole,
    }
    for name in "ab":
        assert f"{name}.tsv.bz2: compressed data are damaged" in fault(
            tmp_path, table(f"{URL}/{name}.tsv.bz2")
        )
    assert rows(tmp_path, table(f"{URL}/c.tsv.bz2")) == PAIRS


def on_hub(*files: str, **keys: object) -> dict[str, object]:
    return {"kind": "hub", "repo": "org/data", "revision": COMMIT, "files": list(files), **keys}


NESTED = [{"translation": {"en": english, "yo": target}} for english, target in PAIRS]
COLUMNS = {"english": "translation.en", "target": "translation.yo"}


def test_only_the_named_files_of_the_hub_are_fetched(hub: OwnHub, tmp_path: Path) -> None:
    files = {
        "en-yo/train-00000-of-00001.parquet": parquet(NESTED),
        "en-zu/train-00000-of-00001.parquet": b"other",
    }
    files["en-yo/test-00000-of-00001.parquet"] = b"other"
    hub.state.at_revision("datasets/org/data", COMMIT, files)
    assert rows(tmp_path, on_hub("en-yo/train-*.parquet"), columns=COLUMNS) == PAIRS
    assert rows(tmp_path, on_hub(config="en-yo", split="train"), columns=COLUMNS) == PAIRS
    assert hub.state.downloads == ["datasets/org/data/en-yo/train-00000-of-00001.parquet"]
    # From now on the Hub is not asked at all.
    asked = len(hub.state.requests)
    with local_only():
        assert rows(tmp_path, on_hub("en-yo/train-*.parquet"), columns=COLUMNS) == PAIRS
        message = fault(tmp_path, on_hub("en-zu/train-*.parquet"), columns=COLUMNS)
    assert "org/data: not on this machine, and nothing is downloaded now" in message
    assert len(hub.state.requests) == asked


def test_a_list_of_languages_in_one_cell(hub: OwnHub, tmp_path: Path) -> None:
    """The columns of visheratin/laion-coco-nllb, as public scripts read them."""
    records = [
        {
            "url": "u",
            "eng_caption": "a dog",
            "captions": [["yor_Latn", "ajá"], ["zul_Latn", "inja"]],
            "score": 1.0,
        },
        {"url": "u", "eng_caption": "a bird", "captions": [["zul_Latn", "inyoni"]], "score": 1.0},
        {"url": "u", "eng_caption": "a cat", "captions": [["yor_Latn", "ológbò"]], "score": 1.0},
    ]
    hub.state.at_revision(
        "datasets/org/data", COMMIT, {"data/train-00000-of-00001-a1.parquet": parquet(records)}
    )
    source = on_hub("data/train-*.parquet", where={"captions": "yor_Latn"})
    columns = {"english": "eng_caption", "target": "captions.yor_Latn"}
    assert rows(tmp_path, source, columns=columns) == PAIRS


@pytest.mark.parametrize(
    ("status", "words"), [(401, "accept its terms"), (403, "accept its terms"), (418, "out of reach")]
)
def test_refusals_of_the_hub(hub: OwnHub, tmp_path: Path, status: int, words: str) -> None:
    hub.state.at_revision("datasets/org/data", COMMIT, {"a.parquet": parquet(NESTED)})
    hub.state.fails["/api/datasets"] = status
    assert words in fault(tmp_path, on_hub("a.parquet"), columns=COLUMNS)


def test_what_the_hub_does_not_have(hub: OwnHub, tmp_path: Path) -> None:
    assert "org/data: not on the Hub, or private; check the name" in fault(tmp_path, on_hub("a.parquet"))
    hub.state.at_revision("datasets/org/data", COMMIT, {"a.parquet": parquet(NESTED)})
    assert f"no revision {'f' * 40}" in fault(tmp_path, on_hub("a.parquet", revision="f" * 40))
    assert f"org/data: holds no b.parquet at revision {COMMIT}; it holds a.parquet" in fault(
        tmp_path, on_hub("b.parquet")
    )
    assert "no column 'english'; there are: translation" in fault(tmp_path, on_hub("a.parquet"))


def xm3600(code: str, *, struct: bool) -> bytes:
    """The columns of mteb/xm3600 and floschne/xm3600_1k, as mteb's XM3600T2IRetrieval reads them."""
    image = (lambda colour: {"bytes": picture(colour), "path": None}) if struct else picture
    return parquet(
        [
            {"image_id": name, "image": image(name), "image_locale": "en",
             "captions": [f"{code} {name} 1", f"{code} {name} 2"][: 1 + (name == "red")],
             "captions_tokenized": [], "captions_tokenized_lowercase": []}
            for name in ("red", "blue", "green", "black")
        ]
    )  # fmt: skip


@pytest.mark.parametrize("struct", [True, False])
def test_images_are_read_inside_their_table(hub: OwnHub, tmp_path: Path, struct: bool) -> None:
    files = {
        f"data/{code}-00000-of-00001.parquet": xm3600(code, struct=struct) for code in ("yo", "en", "zu")
    }
    hub.state.at_revision("datasets/org/data", COMMIT, files)
    columns = {"image": "image", "name": "image_id", "caption": "captions"}
    more = {"captions": ["data/yo-*.parquet"], "english": ["data/en-*.parquet"], "images": "inside"}
    source = {"kind": "hub", "repo": "org/data", "revision": COMMIT}
    found = load_retrieval(recipe(tmp_path, source, **more, columns=columns))
    assert found.texts == ("yo red 1", "yo red 2", "yo blue 1", "yo green 1", "yo black 1")
    assert found.ceiling_texts == ("en red 1", "en red 2", "en blue 1", "en green 1", "en black 1")
    assert found.images is not None
    shown = [open_image(image).getpixel((0, 0)) for image in found.images]
    assert shown == [(255, 0, 0), (0, 0, 255), (0, 128, 0), (0, 0, 0)]
    assert sorted(hub.state.downloads) == [
        f"datasets/org/data/data/{code}-00000-of-00001.parquet" for code in ("en", "yo")
    ]
    columns["image"] = "image_locale"
    with pytest.raises(DataError, match="column 'image_locale' holds no image"):
        load_retrieval(recipe(tmp_path, source, **more, columns=columns))
    del more["english"]
    one = load_retrieval(
        recipe(tmp_path, source, **more, columns={"caption": "image_locale", "english": "image_id"})
    )
    assert (one.image_count, one.english) == (4, ("red", "blue", "green", "black"))


def test_pairs_of_the_hub_stay_in_their_files(hub: OwnHub, tmp_path: Path) -> None:
    hub.state.at_revision("datasets/org/data", COMMIT, {"data/train-0.parquet": xm3600("yo", struct=True)})
    keys = {"name": "own", "title": "Own", "licence": "CC0-1.0", "language": "yo"}
    keys |= {"source": on_hub("data/train-*.parquet"), "columns": {"caption": "captions"}}
    (tmp_path / "own.yaml").write_text(json.dumps(keys), encoding="utf-8")
    found = load_pairs(str(tmp_path / "own.yaml"))
    assert [image.read_bytes() for image in found.images] == list(
        map(picture, ("red", "blue", "green", "black"))
    )
    assert found.image_of_text.tolist() == [0, 0, 1, 2, 3]


def test_a_labelled_table_is_a_classification_set(hub: OwnHub, tmp_path: Path) -> None:
    """Class numbers as `datasets` writes them, with their names in the file's metadata; or names alone."""
    rows = [
        {"img": {"bytes": picture(c), "path": None}, "kind": n}
        for c, n in (("red", 1), ("blue", 0), ("green", 1))
    ]
    feature = {"names": ["cat", "dog"], "_type": "ClassLabel"}
    table = pa.Table.from_pylist(rows)
    meta = {b"huggingface": json.dumps({"info": {"features": {"kind": feature}}}).encode()}
    numbered, named = io.BytesIO(), [{**row, "kind": ("cat", "dog")[int(str(row["kind"]))]} for row in rows]
    pq.write_table(table.replace_schema_metadata(meta), numbered)
    files = {
        "data/test-0.parquet": numbered.getvalue(),
        "text/test-0.parquet": parquet(named),
        "names.txt": "cat\tológbò\ndog\tajá\n".encode(),
    }
    hub.state.at_revision("datasets/org/data", COMMIT, files)
    for folder in ("data", "text"):
        keys = {
            "name": "own",
            "title": "Own",
            "licence": "CC0-1.0",
            "images": "inside",
            "classes": "names.txt",
        }
        keys |= {"source": on_hub(f"{folder}/test-*.parquet"), "columns": {"image": "img", "label": "kind"}}
        (tmp_path / "own.yaml").write_text(json.dumps(keys), encoding="utf-8")
        found = load_classification(
            data_recipe(ClassificationRecipe, str(tmp_path / "own.yaml")), language="yo"
        )
        assert [item.shown for item in found.classes] == ["ológbò", "ajá"]
        assert found.labels.tolist() == [0, 1, 1]
        assert [open_image(image).getpixel((0, 0)) for image in found.images] == [
            (0, 0, 255),
            (255, 0, 0),
            (0, 128, 0),
        ]


RAW = "raw.githubusercontent.com"
XTD10 = f"{RAW}/adobe-research/Cross-lingual-Test-Dataset-XTD10/d77ff16148468c84287f3efcbf602a015c5e4954"
# The first two lines of the real files at that commit; zh ends its lines with CRLF.
ENGLISH = (
    "major league baseball game with player from pittsburgh pirates crossing home plate",
    "a cat with its paws on a computer mouse at a desk",
)
CHINESE = ("棒球大联盟联赛上，匹兹堡海盗队的球员穿过本垒", "一只猫将爪子放在桌子上的电脑鼠标上")
XTD10_LINES = {
    "XTD10/test_1kcaptions_zh.txt": "".join(f"{line}\r\n" for line in CHINESE),
    "XTD10/test_1kcaptions_en.txt": "".join(f"{line}\n" for line in ENGLISH),
    "XTD10/test_image_names.txt": "COCO_train2014_000000061844.jpg\nCOCO_train2014_000000061849.jpg\n",
}


def test_xtd10_with_the_lines_of_its_own_files(net: Web, tmp_path: Path) -> None:
    net.files |= {f"{XTD10}/{name}": text.encode() for name, text in XTD10_LINES.items()}
    photo = "images.cocodataset.org/train2014/COCO_train2014_00000006184"
    net.files |= {f"{photo}{n}.jpg": picture("red") for n in (4, 9)}
    found = data_recipe(RetrievalRecipe, "xtd10-zh")
    source = found.recipe.source.model_copy(update={"sha256": ()})
    update = {"source": source, "expected_images": 2, "expected_captions": 2}
    short = type(found)(recipe=found.recipe.model_copy(update=update), path=found.path, shipped=True)
    loaded = load_retrieval(short)
    assert loaded.texts == (
        "棒球大联盟联赛上，匹兹堡海盗队的球员穿过本垒",
        "一只猫将爪子放在桌子上的电脑鼠标上",
    )
    assert loaded.english is not None
    assert loaded.english[1] == "a cat with its paws on a computer mouse at a desk"
    assert [str(image).removeprefix(str(tmp_path / "data")) for image in loaded.images or ()] == [
        f"/{photo}4.jpg", f"/{photo}9.jpg"
    ]  # fmt: skip
    asked = len(net.asked)
    load_retrieval(short)
    assert len(net.asked) == asked
    (tmp_path / "data" / f"{photo}9.jpg").unlink()
    del net.files[f"{photo}9.jpg"]
    with pytest.raises(MissingDataError, match=r"xtd10-zh: http://images.*6184\d.jpg: is not there any more"):
        load_retrieval(short)
    # Without the photos, and with the checksums: these two lines are not the thousand.
    (tmp_path / "data" / f"{XTD10}/XTD10/test_1kcaptions_zh.txt").unlink()
    with pytest.raises(MissingDataError, match="SHA-256"):
        load_captions(found)
