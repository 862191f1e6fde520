"""`distill --lang X`, `eval runs/X`, `publish runs/X --dry-run`, with nothing fetched by hand.

The stand-ins have the real repositories' names, revisions, files and columns, read in public loaders; models
are tiny and each data set has some rows.
"""

import bz2
import gzip
import io
import json
import sys
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from own_endpoint import use_endpoint
from PIL import Image
from stand_in import OwnHub
from tiny_language import sentences
from web_stand_in import Web, web

from langadapt.cli import main
from langadapt.recipes import DistillStage, find, find_language

pytestmark = [pytest.mark.slow, pytest.mark.hub, pytest.mark.allow_hosts(["127.0.0.1"])]
RAW = "raw.githubusercontent.com"
ROWS = sentences()
COLOURS = ("red", "green", "blue", "black", "white", "grey", "pink", "brown")


def parquet(records: list[dict[str, object]]) -> bytes:
    out = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(records), out, row_group_size=5)
    return out.getvalue()


def photo(number: int) -> bytes:
    image = Image.new("RGB", (32, 32), COLOURS[number])
    image.putpixel((number, number), (9, 9, 9))
    out = io.BytesIO()
    image.save(out, "PNG")
    return out.getvalue()


def lines(side: int, end: str = "\n") -> bytes:
    return "".join(f"{row[side]}{end}" for row in ROWS).encode()


def captions(side: int) -> list[str]:
    return [ROWS[number * 11][side] for number in range(len(COLOURS))]


def datasets() -> dict[str, tuple[str, dict[str, bytes]]]:
    """Repositories of the Hub: revision and files."""
    nested = {
        code: [{"translation": {"en": a, code: b}} for a, b in ROWS] for code in ("zh", "de", "yo", "swa")
    }
    shown = [{"bytes": photo(n), "path": f"{n}.png"} for n in range(len(COLOURS))]
    ids = range(len(COLOURS))
    xm3600 = {
        f"data/{code}-00000-of-00001.parquet": parquet(
            [
                {"image_id": f"{n:016x}", "image": shown[n], "image_locale": "en",
                 "captions": [captions(code != "en")[n]], "captions_tokenized": [""],
                 "captions_tokenized_lowercase": [""]}
                for n in ids
            ]
        )
        for code in ("de", "en", "quz", "sw", "zh")
    }  # fmt: skip
    xflickrco = {
        f"data/{code}-00000-of-00001.parquet": parquet(
            [{"id": str(n), "image": shown[n], "sentences": captions(1)[n]} for n in ids]
        )
        for code in ("de", "zh")
    }
    multi30k = [{"image": shown[n], "en": captions(0)[n], "de": captions(1)[n]} for n in ids]
    flores = [{"eng_Latn": a, "yor_Latn": b, "lug_Latn": b} for a, b in ROWS[:20]]
    # A list of [code, text] pairs: every language of a photo in one row.
    laion = [
        {"url": "", "score": 1.0, "eng_caption": a, "captions": [["kin_Latn", "x"], ["lug_Latn", b]]}
        for a, b in ROWS
    ]
    smol = "".join(json.dumps({"id": n, "src": a, "trg": b}) + "\n" for n, (a, b) in enumerate(ROWS[:30]))
    quechua = [{"English": a, "Quechua": b} for a, b in ROWS]
    return {
        "Helsinki-NLP/opus-100": (
            "805090dc28bf78897da9641cdf08b61287580df9",
            {f"en-{code}/train-00000-of-00001.parquet": parquet(nested[code]) for code in ("zh", "yo")}
            | {"de-en/train-00000-of-00001.parquet": parquet(nested["de"])},
        ),
        "masakhane/mafand": (
            "290d58d938d123d5529ddeba32f0d21896980871",
            {"en-swa/train/0000.parquet": parquet(nested["swa"])},
        ),
        "pollitoconpapass/eng-quz-translation-dataset": (
            "b7717fa86155e7fb6ff8ae5531a9602905b1f22d",
            {"data/train-00000-of-00001.parquet": parquet(quechua)},
        ),
        "mteb/xm3600": ("536cd45bbfe53de9b08c0483bb4a76a4bd3673fa", xm3600),
        "mteb/xflickrco": ("4da629e05455d757306174cdc72f2edfe00b9027", xflickrco),
        "romrawinjp/multi30k": (
            "110e827dac7d6aabe6201d13bbdbc7413630390d",
            {
                "data/test-00000-of-00001.parquet": parquet(multi30k),
                "data/train-00000-of-00010.parquet": b"large",
            },
        ),
        "visheratin/laion-coco-nllb": (
            "12e29cf311ff5f5b9e07cb399d904d16673bfa3b",
            {
                "data/train-00000-of-00002.parquet": parquet(laion[::2]),
                "data/train-00001-of-00002.parquet": parquet(laion[1::2]),
            },
        ),
        "google/smol": (
            "43939e46fd7a708726df6ed9a23a980ab9806545",
            {"smolsent/en_lg.jsonl": smol.encode(), "smolsent/en_yo.jsonl": b"not asked for"},
        ),
        "mteb/FloresBitextMining": (
            "2144d16cc15edd22d4a9237d12bff5f31f5c07fc",
            {"data/devtest-00000-of-00001.parquet": parquet(flores), "devtest.md": b"no table"},
        ),
    }


def websites() -> dict[str, bytes]:
    m30 = f"{RAW}/multi30k/dataset/a3d2e0d26b56f3846f66a952536ffed4e401d05a/data/task1/raw"
    xtd = f"{RAW}/adobe-research/Cross-lingual-Test-Dataset-XTD10/d77ff16148468c84287f3efcbf602a015c5e4954"
    photos = [f"COCO_train2014_{n:012d}.jpg" for n in range(len(COLOURS))]
    cc3m = [
        {"caption_tokenized": a, "translation_tokenized": b, "trg_lang": code}
        for a, b in ROWS for code in ("sw", "zh")
    ]  # fmt: skip
    mined = {}
    for code in ("yo", "lg"):
        packed = io.BytesIO()
        with zipfile.ZipFile(packed, "w") as archive:
            archive.writestr(f"NLLB.en-{code}.en", lines(0))
            archive.writestr(f"NLLB.en-{code}.{code}", lines(1))
        mined[f"object.pouta.csc.fi/OPUS-NLLB/v1/moses/en-{code}.txt.zip"] = packed.getvalue()
    xtd200 = f"{RAW}/visheratin/nllb-clip/5cad452a374adb2dbfbb23fb2f19d24e3959c719/data/xtd200"
    return {
        **mined,
        f"{xtd200}/test_image_names.txt": "\n".join(photos).encode(),
        f"{xtd200}/eng_Latn.txt": "\n".join(captions(0)).encode(),
        **{f"{xtd200}/{code}.txt": "\n".join(captions(1)).encode() for code in ("yor_Latn", "lug_Latn")},
        f"{m30}/train.en.gz": gzip.compress(lines(0)),
        f"{m30}/train.de.gz": gzip.compress(lines(1)),
        f"{xtd}/XTD10/test_image_names.txt": "\n".join(photos).encode(),
        f"{xtd}/XTD10/test_1kcaptions_en.txt": "\n".join(captions(0)).encode(),
        f"{xtd}/XTD10/test_1kcaptions_zh.txt": "\r\n".join(captions(1)).encode(),
        f"{xtd}/MIC/test_1kcaptions_de.txt": "\n".join(captions(1)).encode(),
        **{f"images.cocodataset.org/train2014/{name}": photo(n) for n, name in enumerate(photos)},
        "storage.googleapis.com/crossmodal-3600/cc3m_mt_train.jsonl.bz2": bz2.compress(
            "".join(json.dumps(row) + "\n" for row in cc3m).encode()
        ),
    }


def folder_files(folder: Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()
    }


@contextmanager
def stand_ins(
    own_hub: OwnHub,
    teacher_folder: Path,
    text_model_folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    folder: Path,
) -> Iterator[Web]:
    """Hub and web have what the shipped recipes name; caches lie in `folder`."""
    use_endpoint(monkeypatch, own_hub.url, cache=folder / "hub")
    monkeypatch.setenv("LANGADAPT_CACHE", str(folder / "cache"))
    monkeypatch.delenv("LANGADAPT_DATA", raising=False)
    for name, (revision, files) in datasets().items():
        own_hub.state.at_revision(f"datasets/{name}", revision, files)
    for code in ("zh", "yo"):  # XLM-R and Glot500
        recipe = find_language(code).recipe
        for model, folder in ((recipe.teacher, teacher_folder), (recipe.text_model, text_model_folder)):
            assert model.revision is not None
            own_hub.state.at_revision(model.repo, model.revision, folder_files(folder))
    read = find._recipes_in

    def without_counts(path: Path) -> dict[str, dict[str, object]]:
        """The shipped recipes but for numbers of rows and checksums, which are those of the real files."""
        found = {}
        for name, values in read(path).items():
            kept = {key: value for key, value in values.items() if not key.startswith("expected_")}
            if isinstance(source := kept.get("source"), dict):
                kept["source"] = {key: value for key, value in source.items() if key != "sha256"}
            found[name] = kept
        return found

    monkeypatch.setattr(find, "_recipes_in", without_counts)
    # The 1,500 steps of `min_steps` would take minutes a language and show nothing more.
    monkeypatch.setattr(DistillStage, "passes", lambda stage, steps: 1)
    with web(monkeypatch) as made:
        made.files |= websites()
        yield made


@pytest.fixture
def world(
    own_hub: OwnHub,
    teacher_folder: Path,
    text_model_folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> Iterator[tuple[OwnHub, Web]]:
    monkeypatch.chdir(tmp_path)
    with stand_ins(own_hub, teacher_folder, text_model_folder, monkeypatch, tmp_path) as served:
        yield own_hub, served


def typed(monkeypatch: pytest.MonkeyPatch, command: str) -> None:
    monkeypatch.setattr(sys, "argv", ["langadapt", *command.split()])
    with pytest.raises(SystemExit) as stop:
        main()
    assert stop.value.code == 0, command


SCORED = {
    "zh": {"xtd10-zh", "crossmodal-3600-zh", "xflickrco-zh"},
    "sw": {"crossmodal-3600-sw"},
    "yo": {"xtd200-yo", "flores-200-yo"},
    "lg": {"xtd200-lg", "flores-200-lg"},
    "qu": {"crossmodal-3600-quz"},
    "de": {"multi30k-test2016-de", "xtd10-de", "crossmodal-3600-de", "xflickrco-de"},
}
ASKED = {"lg": "lug"}  # derived from the table, and asked for by another code


@pytest.mark.parametrize("code", SCORED)
def test_three_commands(
    code: str, world: tuple[OwnHub, Web], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    typed(monkeypatch, f"distill --lang {ASKED.get(code, code)}")
    typed(monkeypatch, f"eval runs/{code}")
    cards = json.loads((tmp_path / "runs" / code / "scores.json").read_text("utf-8"))["cards"]
    assert {card["name"] for card in cards} == SCORED[code]
    typed(monkeypatch, f"publish runs/{code} --repo me/clip-{code} --dry-run")
    hub, served = world
    assert "datasets/romrawinjp/multi30k/data/train-00000-of-00010.parquet" not in hub.state.downloads
    # Once is enough: everything stands in the cache now.
    downloads, asked = len(hub.state.downloads), len(served.asked)
    served.files.clear()
    typed(monkeypatch, f"data fetch --lang {code}")
    typed(monkeypatch, f"eval runs/{code}")
    assert len(hub.state.downloads) == downloads
    # The Flickr8k-CN captions of zh are asked for again: this web has none.
    assert {
        name for name, _ in served.asked[asked:] if "flickr8kcn" not in name and "task2" not in name
    } == set()
