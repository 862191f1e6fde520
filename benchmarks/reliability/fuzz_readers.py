"""Every reader of langadapt with a good input of each form."""

import gzip
import io
import json
import os
import random
import shutil
import struct
import tarfile
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from fuzz import Reader
from numpy.typing import NDArray
from PIL import Image
from small_world import small_artifact, small_index, small_prompts, small_teacher, small_text_model

from langadapt.data.classification import read_class_names, read_label_list
from langadapt.data.images import ParquetImage, _group_cells, _group_starts, open_image
from langadapt.data.pairs import load_pairs
from langadapt.data.parallel import load_parallel
from langadapt.data.readers import read_table, read_values
from langadapt.data.retrieval import load_retrieval
from langadapt.data.rows import contamination_metadata, read_aligned
from langadapt.errors import DataError
from langadapt.files.atomic import sealed
from langadapt.files.store import shared_rows
from langadapt.models import load_teacher
from langadapt.models.artifact import read_artifact
from langadapt.models.load import load_config, load_image_processor, load_tokenizer, resolve_model
from langadapt.models.prompts_artifact import read_facts
from langadapt.models.student import load_text_model
from langadapt.recipes import (
    ModelRef,
    ParallelRecipe,
    RetrievalRecipe,
    TextModelRef,
    data_recipe,
    find_language,
)
from langadapt.search.index import open_index

_ROWS = [("a red cat at sea", "gato rojo en mar"), ("two dogs", 'dos perros, "hm"'), ("été 東京", "أهلا 🐈")]
_GIANT_BYTES = 1 << 26
_CARD = "title: T\nlicence: CC0-1.0\nlanguage: es\n"


def readers(models: Path) -> list[Reader]:
    """All readers; `models` is a folder in which model folders and an artifact are made."""
    return [*_tables(), *_recipes(), *_captions(), *_images(), *_pairs(), *_models(models)]


def zstd(raw: bytes) -> bytes:
    """Pack bytes as one zstd frame."""
    packed: bytes = pa.compress(raw, "zstd", asbytes=True)
    return packed


def _delimited(separator: str, *header: str) -> bytes:
    lines = [header, *_ROWS]
    quoted = (
        ['"' + cell.replace('"', '""') + '"' if separator == "," else cell for cell in line] for line in lines
    )
    return "".join(separator.join(line) + "\n" for line in quoted).encode()


def _jsonl() -> bytes:
    return "".join(
        json.dumps({"english": a, "target": b}, ensure_ascii=False) + "\n" for a, b in _ROWS
    ).encode()


def _parquet_images() -> bytes:
    """Lists, images in structs, page indexes, several row groups, other encodings than texts have."""
    out = io.BytesIO()
    image = {"bytes": _encoded("RGB", "PNG"), "path": "a.png"}
    rows = [{"image": image, "captions": [a, b], "n": i} for i, (a, b) in enumerate(_ROWS)]
    encoding = {"n": "DELTA_BINARY_PACKED", "image.path": "DELTA_BYTE_ARRAY"}
    options = {"use_dictionary": False, "column_encoding": encoding, "data_page_version": "2.0"}
    table = pa.Table.from_pylist(rows)
    pq.write_table(table, out, row_group_size=2, write_page_index=True, compression="zstd", **options)
    return out.getvalue()


def _parquet() -> bytes:
    out = io.BytesIO()
    table = pa.table({"english": [a for a, _ in _ROWS], "target": [b for _, b in _ROWS], "n": [1, 2, 3]})
    said = {b"langadapt.contamination": json.dumps({"sets": {"x": 1}, "found": 1, "kept": 0}).encode()}
    pq.write_table(table.replace_schema_metadata(said), out)
    return out.getvalue()


def _tables() -> Iterator[Reader]:
    columns = ("english", "target")
    plain = {"tsv": _delimited("\t", *columns), "csv": _delimited(",", *columns), "jsonl": _jsonl()}
    for kind, content in plain.items():
        packings = {"": content, ".gz": gzip.compress(content), ".zst": zstd(content)}
        for ending, packed in packings.items():
            name = f"rows.{kind}{ending}"
            yield Reader(
                name=f"{kind}{ending}",
                files={name: packed},
                read=lambda folder, name=name: list(read_table(folder / name, columns)),
                share=1.0 if ending else 2.0,
            )

    def parquet(folder: Path) -> None:
        list(read_table(folder / "rows.parquet", columns))
        contamination_metadata(folder / "rows.parquet")

    yield Reader(name="parquet", files={"rows.parquet": _parquet()}, read=parquet, share=2.0)

    def images(folder: Path) -> None:
        _group_starts.cache_clear()  # of another input under the same name
        _group_cells.cache_clear()
        path = folder / "rows.parquet"
        for number, _ in enumerate(read_values(path, ("captions", "image.path", "n"))):
            open_image(ParquetImage(path, "image", number))

    yield Reader(name="parquet of images", files={"rows.parquet": _parquet_images()}, read=images, share=2.0)
    sides = {
        f"a.{side}": "".join(row[i] + "\n" for row in _ROWS).encode() for i, side in enumerate(("en", "es"))
    }
    yield Reader(
        name="moses",
        files=sides,
        read=lambda folder: list(read_aligned(folder / "a.en", folder / "a.es")),
    )
    packed = {"a.en.gz": gzip.compress(sides["a.en"]), "a.es.zst": zstd(sides["a.es"])}
    yield Reader(
        name="moses gz zst",
        files=packed,
        read=lambda folder: list(read_aligned(folder / "a.en.gz", folder / "a.es.zst")),
    )


def _recipes() -> Iterator[Reader]:
    language = (
        "code: es\nname: Spanish\nnative_name: español\niso639_3: spa\nscripts: [Latn]\n"
        "teacher: {repo: me/teacher}\ntext_model: {repo: me/text, trains: {lora: {rank: 4}}}\n"
        "adapter: {bottleneck_dim: 32, layers: 1, heads: 2, dropout: 0.1}\n"
        "distill: {data: [./p.yaml], epochs: 4, min_steps: 1, batch_size: 16, learning_rate: 3e-3}\n"
        "tune: {pairs: [a.tsv], text: [bitfit, projection], image: locked}\n"
        'prompts: ["una foto de {label}"]\nevaluate: [./t.yaml]\nexamples: [gato rojo en mar]\n'
    ).encode()
    yield Reader(
        name="language recipe",
        files={"es.yaml": language},
        read=lambda folder: find_language(str(folder / "es.yaml")),
        share=1.5,
    )
    parallel = f"name: p\n{_CARD}source: {{kind: files, paths: [rows.tsv]}}\nexpected_rows: 3\n".encode()
    yield Reader(
        name="parallel recipe",
        files={"p.yaml": parallel, "rows.tsv": _delimited("\t", "english", "target")},
        read=lambda folder: load_parallel(data_recipe(ParallelRecipe, str(folder / "p.yaml"))),
        share=1.5,
    )
    names = b"cat\tgato|gata\tcat\ndog\tperro\tdog\n"
    yield Reader(
        name="class names", files={"c.txt": names}, read=lambda folder: read_class_names(folder / "c.txt")
    )
    yaml = b"cat: {names: [gato], english: [cat]}\ndog: {names: perro, english: dog}\n"
    yield Reader(
        name="class names yaml", files={"c.yaml": yaml}, read=lambda f: read_class_names(f / "c.yaml")
    )
    labels = json.dumps({"ES": [[0, 1], ["gato", "perro"]], "EN": [[0, 1], ["cat", "dog"]]}).encode()
    yield Reader(
        name="label list",
        files={"l.json": labels},
        read=lambda folder: read_label_list(folder / "l.json", "es", ["a", "b"]),
    )


def _captions() -> Iterator[Reader]:
    crossmodal = "".join(
        json.dumps({"image/key": str(i), "image/locale": "es", "es": {"caption": [b, a]}}) + "\n"
        for i, (a, b) in enumerate(_ROWS)
    ).encode()
    lines = "".join(b + "\n" for _, b in _ROWS).encode()
    listed = "image_names: n.txt\n"
    english = "".join(a + "\n" for a, _ in _ROWS).encode()
    keyed = "".join(f"{i}.jpg#zhc#0 {b}\n" for i, (_, b) in enumerate(_ROWS)).encode()
    names = b"0.jpg\n1.jpg#4\n2\n"
    forms = {
        "table": ("t.tsv", _delimited("\t", "image", "caption").replace(b"a red cat at sea", b"0.jpg")
                  .replace(b"two dogs", b"1.jpg").replace("été 東京".encode(), b"2.jpg"), "", {}),
        "lines": ("t.txt", lines, listed + "english: [e.txt]\n", {"n.txt": names, "e.txt": english}),
        "xtd10": ("t.txt", lines, listed + "english: [e.txt]\n", {"n.txt": names, "e.txt": english}),
        "multi30k": ("t.txt.gz", gzip.compress(lines), "image_names: n.txt\n", {"n.txt": names}),
        "coco-cn": ("t.txt", keyed, "image_names: n.txt\n", {"n.txt": names}),
        "flickr-cn": ("t.txt", keyed, "image_names: n.txt\n", {"n.txt": names}),
        "crossmodal-3600": ("t.jsonl", crossmodal, "", {}),
    }  # fmt: skip
    for form, (name, content, more, files) in forms.items():
        recipe = f"name: t\n{_CARD}captions: [{name}]\nimages: photos\nformat: {form}\n{more}".encode()
        photos = {f"photos/{i}.jpg": b"x" for i in range(3)}
        yield Reader(
            name=f"captions {form}",
            files={name: content, **files, "t.yaml": recipe, **photos},
            read=lambda folder: load_retrieval(data_recipe(RetrievalRecipe, str(folder / "t.yaml"))),
            share=0.7,
        )


def _encoded(mode: str, kind: str, **options: object) -> bytes:
    out = io.BytesIO()
    rng = random.Random(1)
    size = (12, 9)
    channels = {"RGB": 3, "CMYK": 4, "L": 1, "P": 1, "RGBA": 4, "I;16": 2, "1": 0}[mode]
    count = size[0] * size[1] * channels if channels else 2 * size[1]
    image = Image.frombytes(mode, size, rng.randbytes(count))
    image.save(out, kind, **options)
    return out.getvalue()


def _images() -> Iterator[Reader]:
    exif = Image.Exif()
    exif[0x0112] = 6
    other = Image.new("RGB", (12, 9), (9, 200, 9))
    bomb = bytearray(_encoded("L", "PNG"))
    bomb[16:24] = struct.pack(">II", 60_000, 60_000)
    seeds = {
        "jpeg": _encoded("RGB", "JPEG"),
        "jpeg exif-rotated": _encoded("RGB", "JPEG", exif=exif),
        "jpeg cmyk": _encoded("CMYK", "JPEG"),
        "jpeg progressive": _encoded("RGB", "JPEG", progressive=True),
        "png": _encoded("RGBA", "PNG"),
        "png 16 bits": _encoded("I;16", "PNG"),
        "png palette": _encoded("P", "PNG"),
        "png animated": _encoded("RGB", "PNG", save_all=True, append_images=[other]),
        "gif animated": _encoded("P", "GIF", save_all=True, append_images=[other]),
        "webp": _encoded("RGB", "WEBP"),
        "webp animated": _encoded("RGB", "WEBP", save_all=True, append_images=[other]),
        "bmp": _encoded("RGB", "BMP"),
        "tiff": _encoded("RGB", "TIFF"),
        "tiff deflate 16 bits": _encoded("I;16", "TIFF", compression="tiff_deflate"),
        "tiff cmyk lzw": _encoded("CMYK", "TIFF", compression="tiff_lzw"),
    }
    for name, content in seeds.items():
        yield Reader(
            name=f"image {name}", files={"image": content}, read=lambda folder: open_image(folder / "image")
        )
    yield Reader(name="image png bomb", files={"image": seeds["png"], "bomb": bytes(bomb)}, read=_bomb)


def _bomb(folder: Path) -> None:
    """A picture of 3.6 thousand million pixels, by its header; where that is damaged it may be anything."""
    try:
        open_image(folder / "bomb")
    except DataError:
        open_image(folder / "image")


def _pairs() -> Iterator[Reader]:
    out = io.BytesIO()
    picture = _encoded("RGB", "JPEG")
    with tarfile.open(fileobj=out, mode="w") as tar:
        for i, (a, b) in enumerate(_ROWS):
            said = json.dumps({"caption": b, "english": a}).encode()
            for ending, content in (("jpg", picture), ("json", said)):
                member = tarfile.TarInfo(f"{i:04d}.{ending}")
                member.size = len(content)
                tar.addfile(member, io.BytesIO(content))
    yield Reader(
        name="pairs tar",
        files={"s.tar": out.getvalue()},
        read=lambda folder: [image.read_bytes() for image in load_pairs(str(folder / "s.tar")).images],
        share=1.5,
    )
    table = "image\tcaption\n" + "".join(f"{i}.jpg\t{b}\n" for i, (_, b) in enumerate(_ROWS))
    yield Reader(
        name="pairs table",
        files={"p.tsv": table.encode(), **{f"{i}.jpg": picture for i in range(3)}},
        read=lambda folder: load_pairs(str(folder / "p.tsv")).fingerprint,
    )


def _models(models: Path) -> Iterator[Reader]:
    artifact = small_artifact(models / "artifact")
    yield Reader(name="artifact", files=_files(artifact), read=read_artifact, share=1.0)
    yield Reader(
        name="artifact, sums made again",
        files=_files(artifact),
        read=_resealed,
        share=1.0,
    )
    yield Reader(name="prompts", files=_files(small_prompts(models / "prompts")), read=_resealed_prompts)
    index = small_index(models / "index")

    def search(folder: Path) -> None:
        found = open_index(folder, None)
        for number in range(len(found)):
            found.search(found.row(number), count=3)

    yield Reader(name="index", files=_files(index), read=search, share=0.7)

    def teacher(folder: Path) -> None:
        load_teacher(resolve_model(ModelRef(repo=str(folder))))

    def parts(folder: Path) -> None:
        source = resolve_model(ModelRef(repo=str(folder)))
        for load in (load_config, load_tokenizer, load_image_processor):
            load(source)

    def text_model(folder: Path) -> None:
        ref = TextModelRef(repo=str(folder))
        load_text_model(resolve_model(ref), ref, max_tokens=16)

    yield _stores(models)
    yield Reader(
        name="teacher folder", files=_files(small_teacher(models / "teacher")), read=teacher, share=0.05
    )
    yield Reader(name="model parts", files=_files(models / "teacher"), read=parts, share=0.15)
    yield Reader(
        name="text model folder", files=_files(small_text_model(models / "text")), read=text_model, share=0.05
    )


def _resealed_prompts(folder: Path) -> None:
    """Read prompts whose facts were changed by somebody who also writes a new sum."""
    path = folder / "prompts.json"
    if not _are_plain(folder):
        read_facts(folder)
        return
    before, times = path.read_bytes(), path.stat()
    with suppress(ValueError, AttributeError, RecursionError):
        path.write_text(json.dumps(sealed(json.loads(before))), encoding="utf-8")
    try:
        read_facts(folder)
    finally:
        path.write_bytes(before)
        os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))


def _resealed(folder: Path) -> None:
    """As if the one who damaged the files had also made the sums again."""
    path = folder / "artifact.json"
    if not _are_plain(folder):
        read_artifact(folder)
        return
    before, times = path.read_bytes(), path.stat()
    try:
        facts = json.loads(before)
        facts["files"] = {name: sha256((folder / name).read_bytes()).hexdigest() for name in facts["files"]}
        path.write_text(json.dumps(sealed(facts)), encoding="utf-8")
    except (ValueError, KeyError, TypeError, AttributeError, OSError, RecursionError):
        pass  # what is left of the facts cannot be sealed: they are read as they are
    try:
        read_artifact(folder)
    finally:
        path.write_bytes(before)
        os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))


def _are_plain(folder: Path) -> bool:
    """Whether this program may read all of a folder's files itself."""
    return all(path.is_file() and path.stat().st_size < _GIANT_BYTES for path in folder.iterdir())


def _stores(models: Path) -> Reader:
    """Rows of six texts in parts of two; whatever is damaged or swapped, each text gets its own row."""
    texts = ["a", "b", "c", "d", "e", "f"]

    def compute(missing: NDArray[np.int64], left: int) -> tuple[NDArray[np.int64], Any]:
        rows = torch.tensor([[float(ord(texts[row]))] * 3 for row in missing])
        return missing, lambda done: iter([rows[done:]] if done < len(rows) else [])

    store = models / "store"
    for count in (2, 4, 6):
        shared_rows(store, texts[:count], dim=3, compute=compute)

    def read(folder: Path) -> None:
        if not all(map(_are_plain, (path for path in folder.iterdir() if path.is_dir()))):
            return  # a cache has no pipes
        with tempfile.TemporaryDirectory() as place:
            copy = Path(shutil.copytree(folder, Path(place) / "store"))
            found = shared_rows(copy, texts, dim=3, compute=compute).take(np.arange(6))
        assert found[:, 0].tolist() == [float(ord(text)) for text in texts], found

    return Reader(name="stores", files=_files(store), read=read, share=0.5)


def _files(folder: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }
