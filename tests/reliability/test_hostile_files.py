"""Files that never end, or are much larger inside: refused at once, in one line, in bounded memory."""

import bz2
import gzip
import io
import os
import random
import resource
import signal
import tarfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from small_world import small_artifact, small_index, small_teacher

from langadapt.cleaning.rules import Example
from langadapt.data.classification import classification_from_folder, read_class_names, read_label_list
from langadapt.data.images import ParquetImage, broken_images, open_image
from langadapt.data.pairs import load_pairs, read_shard
from langadapt.data.readers import read_table
from langadapt.data.sources import ArchiveMember
from langadapt.errors import DataError, LangadaptError, ModelError
from langadapt.evaluation.plots import training_curve
from langadapt.export.sentence_transformers import source_text
from langadapt.files.atomic import whole_folder
from langadapt.files.json import read_json
from langadapt.files.store import cache_folder
from langadapt.models.artifact import read_artifact
from langadapt.models.load import resolve_model
from langadapt.recipes import ModelRef, read_yaml
from langadapt.search.update import ImageTower, update_index


@contextmanager
def bounds(*, seconds: int = 10, memory_bytes: int = 500_000_000) -> Iterator[None]:
    """A reader that waits, or swells, is stopped by the system."""

    def stop(number: int, frame: object) -> None:
        raise AssertionError(f"took more than {seconds} s")

    pages = int(Path("/proc/self/statm").read_text().split()[0])
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    before = signal.signal(signal.SIGALRM, stop)
    resource.setrlimit(resource.RLIMIT_AS, (pages * os.sysconf("SC_PAGE_SIZE") + memory_bytes, hard))
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))


def table(path: Path) -> None:
    list(read_table(path, ("english", "target")))


READERS: dict[str, Callable[[Path], object]] = {
    "a.yaml": read_yaml,
    "a.json": read_json,
    "a.tsv": table,
    "a.jsonl.gz": table,
    "a.csv.zst": table,
    "a.parquet": table,
    "a.tar": lambda path: list(read_shard(path)),
    "a.jpg": open_image,
    "classes.txt": read_class_names,
    "labels.json": lambda path: read_label_list(path, "es", ["a"]),
    "b.zip": lambda path: ArchiveMember(path, "x").open().__enter__(),
    "b.tar.gz": lambda path: ArchiveMember(path, "x").open().__enter__(),
}


@pytest.mark.parametrize("name", READERS)
def test_a_pipe_or_device_is_refused_at_once(tmp_path: Path, name: str) -> None:
    os.mkfifo(tmp_path / name)
    with bounds(), pytest.raises((LangadaptError, OSError), match="a pipe or a device") as caught:
        READERS[name](tmp_path / name)
    assert "\n" not in str(caught.value)
    assert name in str(caught.value)
    (tmp_path / name).unlink()
    (tmp_path / name).symlink_to("/dev/zero")
    with bounds(), pytest.raises((LangadaptError, OSError), match="a pipe or a device"):
        READERS[name](tmp_path / name)


@pytest.mark.parametrize("name", READERS)
def test_a_sparse_file_of_six_gigabytes(tmp_path: Path, name: str) -> None:
    with (tmp_path / name).open("wb") as file:
        file.truncate(6_000_000_000)
    with bounds(), pytest.raises((LangadaptError, OSError)):
        READERS[name](tmp_path / name)


def test_a_pipe_in_a_class_folder(tmp_path: Path) -> None:
    for name in ("cat", "dog"):
        (tmp_path / name).mkdir()
    os.mkfifo(tmp_path / "cat" / "1.png")
    os.mkfifo(tmp_path / "dog" / "1.png")
    with bounds():
        data = classification_from_folder(tmp_path, None, language="es")
        with pytest.raises(DataError, match="a pipe or a device"):
            open_image(data.images[0])


PACKERS = {
    "": bytes,
    ".gz": gzip.compress,
    ".bz2": bz2.compress,
    ".zst": lambda raw: pa.compress(raw, "zstd", asbytes=True),
}


@pytest.mark.parametrize("packing", PACKERS)
@pytest.mark.parametrize("kind", ["tsv", "csv", "jsonl"])
def test_one_line_without_end(tmp_path: Path, kind: str, packing: str) -> None:
    """Four gigabytes in a file of kilobytes; here as much as tells the bound from its absence."""
    start = (
        b'{"english": "'
        if kind == "jsonl"
        else b"english,target\n".replace(b",", b"\t" if kind == "tsv" else b",")
    )
    path = tmp_path / f"a.{kind}{packing}"
    path.write_bytes(PACKERS[packing](start + b"x" * (17 << 20)))
    if packing == ".zst":  # Arrow's one-shot compressor writes one frame; 128 more follow
        path.write_bytes(path.read_bytes() + PACKERS[packing](b"x" * (17 << 20)) * 256)
    with bounds(), pytest.raises(DataError, match=r"line [12] has more than 16,777,216 bytes"):
        table(path)


def test_a_huge_text_in_parquet(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("langadapt.data.parquet._MOST_UNPACKED_BYTES", 1 << 24)
    path = tmp_path / "a.parquet"
    long = "x" * (1 << 23)
    texts = pa.table({"english": ["a"] * 3, "target": [long, long + "y", long + "z"]})
    pq.write_table(texts, path, compression="zstd")
    assert path.stat().st_size < 10_000
    with bounds(), pytest.raises(DataError, match=r"column target unpacks from .* to 25,.* bytes"):
        table(path)
    # One text many times, stored once: a thousand of them at once would be a gigabyte.
    once = pa.DictionaryArray.from_arrays(pa.array([0] * 1024, pa.int32()), pa.array(["x" * (1 << 20)]))
    texts = pa.table({"english": ["a"] * 1024, "target": once})
    pq.write_table(texts, path, compression="zstd", store_schema=False)
    with bounds():
        assert len(next(iter(read_table(path, ("english", "target")))).values[1]) == 1 << 20


def header(name: str, size: int, kind: bytes = tarfile.REGTYPE) -> bytes:
    info = tarfile.TarInfo(name)
    info.size, info.type = size, kind
    return info.tobuf(tarfile.GNU_FORMAT)


def pax(size: str) -> bytes:
    info = tarfile.TarInfo("1.jpg")
    info.pax_headers = {"size": size}
    return info.tobuf(tarfile.PAX_FORMAT)


@pytest.mark.parametrize(
    "raw",
    [
        header("1.jpg", -512),
        header("1.jpg", -512, tarfile.GNUTYPE_LONGNAME),
        header("1.jpg", -1, tarfile.XHDTYPE),
        header("1.jpg", 1 << 33, tarfile.XHDTYPE),
        header("1.jpg", 1 << 40, tarfile.GNUTYPE_LONGNAME),
        pax("-512"),
        pax("9" * 30),
        pax("1e30"),
    ],
    ids=range(8),
)
def test_sizes_in_tar_headers(tmp_path: Path, raw: bytes) -> None:
    """The standard library follows them: for ever, or for as many bytes as the file has."""
    path = tmp_path / "a.tar"
    path.write_bytes(raw + bytes(1024))
    with path.open("r+b") as file:
        file.truncate(3_000_000_000)
    with bounds(), pytest.raises(DataError, match=r"a\.tar: "):
        load_pairs(str(path))
    with bounds(), pytest.raises(DataError, match=r"a\.tar: "), ArchiveMember(path, "2").open():
        pass


def test_a_damaged_header_in_the_midst_of_a_tar(tmp_path: Path) -> None:
    """The standard library takes it for the end: half of the samples were lost without a word."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as tar:
        for number in range(4):
            for kind in ("jpg", "txt"):
                info = tarfile.TarInfo(f"{number}.{kind}")
                info.size = 4
                tar.addfile(info, io.BytesIO(b"text"))
    raw = bytearray(out.getvalue())
    (tmp_path / "a.tar").write_bytes(raw)
    assert len(load_pairs(str(tmp_path / "a.tar")).texts) == 4
    raw[4 * 1024 + 148 : 4 * 1024 + 156] = b"7777777\0"
    (tmp_path / "a.tar").write_bytes(raw)
    with pytest.raises(DataError, match="bad checksum"):
        load_pairs(str(tmp_path / "a.tar"))


def test_yaml_that_takes_the_processor(tmp_path: Path) -> None:
    chain = "x: &a0 {k: 1}\n" + "".join(f"a{i}: &a{i} {{<<: [*a{i - 1}, *a{i - 1}]}}\n" for i in range(1, 31))
    (tmp_path / "a.yaml").write_text(chain)
    with bounds(), pytest.raises(LangadaptError, match="line 11 not valid YAML: merge keys"):
        read_yaml(tmp_path / "a.yaml")
    (tmp_path / "a.yaml").write_text("a: {<<: &b {k: 1, l: 2}, k: 3}\n")
    assert read_yaml(tmp_path / "a.yaml") == {"a": {"k": 3, "l": 2}}
    (tmp_path / "a.yaml").write_text("a: [" + "a," * 1_000_000 + "]")
    with bounds(seconds=1), pytest.raises(LangadaptError, match="has 2,000,005 bytes, 1,200,000 are allowed"):
        read_yaml(tmp_path / "a.yaml")


def test_the_images_file_of_onnx_exports_reads_by_itself(tmp_path: Path) -> None:
    space: dict[str, object] = {}
    exec(source_text("files/json.py") + source_text("data/pixels.py"), space)  # noqa: S102 - as its users do
    os.mkfifo(tmp_path / "a.jpg")
    with bounds(), pytest.raises(OSError, match="a pipe or a device"):
        space["read_image"](tmp_path / "a.jpg")  # type: ignore[operator]


def test_a_pipe_or_a_giant_in_a_model_folder(tmp_path: Path) -> None:
    folder = small_teacher(tmp_path / "teacher")
    resolve_model(ModelRef(repo=str(folder)))
    (folder / "config.json").rename(tmp_path / "config.json")
    os.mkfifo(folder / "config.json")
    with bounds(), pytest.raises(ModelError, match=r"config\.json: is a pipe or a device"):
        resolve_model(ModelRef(repo=str(folder)))
    (folder / "config.json").unlink()
    with (folder / "config.json").open("wb") as file:
        file.truncate(6_000_000_000)
    with bounds(), pytest.raises(ModelError, match=r"config\.json: has 6,000,000,000 bytes"):
        resolve_model(ModelRef(repo=str(folder)))


@pytest.mark.parametrize("name", ["artifact.json", "recipe.yaml"])
def test_a_giant_in_an_artifact(tmp_path: Path, name: str) -> None:
    """Found by the fuzzer: an OSError, or hashed for many seconds."""
    folder = small_artifact(tmp_path / "artifact")
    with (folder / name).open("wb") as file:
        file.truncate(6_000_000_000)
    with bounds(), pytest.raises(ModelError, match="has 6,000,000,000 bytes"):
        read_artifact(folder)


@pytest.mark.parametrize("giant", ["samples.safetensors", "adapter.safetensors"])
def test_weights_whose_header_states_another_size(tmp_path: Path, giant: str) -> None:
    """They were hashed to their end: seconds per gigabyte of nothing."""
    folder = small_artifact(tmp_path / "artifact")
    with (folder / giant).open("r+b") as file:
        file.truncate(40_000_000_000)
    with bounds(seconds=3, memory_bytes=1 << 40), pytest.raises(ModelError, match="damaged or cut off"):
        read_artifact(folder)
    teacher = small_teacher(tmp_path / "teacher")
    with (teacher / "model.safetensors").open("r+b") as file:
        file.truncate(40_000_000_000)
    with bounds(seconds=3, memory_bytes=1 << 40), pytest.raises(ModelError, match="damaged or cut off"):
        resolve_model(ModelRef(repo=str(teacher)))


def test_links_that_lead_in_circles(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`Path.resolve` raises a RuntimeError for them, and `Path.expanduser` one for nobody's home."""
    folder = small_artifact(tmp_path / "artifact")
    (folder / "samples.safetensors").unlink()
    (folder / "samples.safetensors").symlink_to("samples.safetensors")
    with pytest.raises(ModelError, match=r"no samples\.safetensors in it"):
        read_artifact(folder)
    loop = tmp_path / "loop"
    loop.symlink_to(loop)
    for name in (str(loop), f"{loop}/run", "~nobody-of-this-name/run"):
        with pytest.raises(ModelError, match="no such"):
            read_artifact(name)
        with pytest.raises(ModelError, match="no such"):
            resolve_model(ModelRef(repo=name))
        with pytest.raises(LangadaptError), whole_folder(Path(f"{name}/x") if name.startswith("~") else loop):
            raise DataError("a loop was written")


def parquet(path: Path, columns: dict[str, object], **options: object) -> Path:
    pq.write_table(pa.table(columns), path, store_schema=False, **options)
    return path


def test_every_byte_of_a_parquet_footer(tmp_path: Path) -> None:
    """pyarrow aborts the process where a column's size statistics are damaged; Python cannot catch it."""
    rows = {"english": ["a b", "c"], "target": ["d", "e"], "list": [["x", "y"], []]}
    raw = parquet(tmp_path / "a.parquet", rows, compression="none").read_bytes()
    size = int.from_bytes(raw[-8:-4], "little")
    ends = {True: 0, False: 0}
    for place in range(len(raw) - 8 - size, len(raw) - 8):
        bad = bytearray(raw)
        bad[place] ^= 2  # among others a column that may be empty becomes one that may not
        (tmp_path / "a.parquet").write_bytes(bad)
        try:
            table(tmp_path / "a.parquet")
            ends[True] += 1
        except DataError:
            ends[False] += 1
    assert min(ends.values()) > 20, ends


def repeated(value: str | bytes, rows: int) -> pa.Array:
    return pa.DictionaryArray.from_arrays(pa.array([0] * rows, pa.int32()), pa.array([value]))


def test_parquet_that_swells(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("langadapt.data.parquet._MOST_UNPACKED_BYTES", 1 << 22)
    monkeypatch.setattr("langadapt.data.images._MOST_GROUP_BYTES", 1 << 22)
    noise = random.Random(0).randbytes(1 << 17)
    text, path = noise.hex(), tmp_path / "a.parquet"
    # Stored once, or as the same as the text before; nothing is packed.
    delta = {"use_dictionary": False, "column_encoding": {"target": "DELTA_BYTE_ARRAY"}}
    for column, options in ((repeated(text, 512), {}), (pa.array([text] * 512), delta)):
        parquet(path, {"english": ["a"] * len(column), "target": column}, **options)
        with bounds(memory_bytes=60_000_000):
            assert [row.values[1] == text for row in read_table(path, ("english", "target"))][-1]
    parquet(path, {"image": repeated(noise, 1024), "caption": ["a"] * 1024})
    with bounds(memory_bytes=60_000_000), pytest.raises(DataError, match="images of row group 1 have over"):
        ParquetImage(path, "image", 0).read_bytes()
    parquet(path, {"image": [bytes(1 << 23)], "caption": ["a"]}, compression="zstd")
    with bounds(), pytest.raises(DataError, match=r"image unpacks from .* to 8,.* bytes"):
        ParquetImage(path, "image", 0).read_bytes()
    many = pa.ListArray.from_arrays(pa.array([0, 1 << 25], pa.int32()), pa.nulls(1 << 25, pa.int8()))
    parquet(path, {"english": ["a"], "target": many})
    with bounds(memory_bytes=100_000_000), pytest.raises(DataError, match="33,554,432 values in 1 rows"):
        table(path)


def test_parquet_whose_footer_states_smaller_sizes_than_its_pages(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("langadapt.data.parquet._MOST_UNPACKED_BYTES", 1 << 24)
    long = ["x" * (1 << 23) + end for end in "yz"]
    options = {"compression": "zstd", "use_dictionary": False, "write_statistics": False}
    path = parquet(tmp_path / "a.parquet", {"english": ["a", "b"], "target": long}, **options)
    raw = path.read_bytes()
    whole = pq.read_metadata(path).row_group(0).column(1).total_uncompressed_size
    stated = varint(2 * whole)
    at = raw.rindex(stated)  # the row group's own
    at = raw.rindex(stated, 0, at) if raw.count(stated) > 1 else at
    path.write_bytes(raw[:at] + varint(2 * 100, len(stated)) + raw[at + len(stated) :])
    assert pq.read_metadata(path).row_group(0).column(1).total_uncompressed_size == 100
    with bounds(), pytest.raises(DataError, match=r"target unpacks from .* to 16,.* bytes"):
        table(path)


def varint(value: int, length: int = 1) -> bytes:
    """A Thrift integer, of at least so many bytes."""
    found = []
    while value >> 7 or len(found) + 1 < length:
        found.append(0x80 | value & 0x7F)
        value >>= 7
    return bytes([*found, value])


def test_a_giant_among_the_photos_of_an_index(tmp_path: Path) -> None:
    """It was hashed to its end: seconds per gigabyte of nothing."""
    small_index(tmp_path / "first")
    with (tmp_path / "photos" / "0.png").open("r+b") as file:
        file.truncate(40_000_000_000)
    tower = ImageTower(fingerprint="x", label="x@1", dim=3, encode=lambda images: torch.ones(len(images), 3))
    with bounds(seconds=5):
        update = update_index(tmp_path / "photos", tower, index=tmp_path / "index", report=lambda _: None)
    assert update.images == 3
    assert [file.reason for file in update.failed] == [
        "cannot be read: has 40,000,000,000 bytes, 536,870,912 are allowed"
    ]


@pytest.mark.parametrize("line", ['{"kind": "step", "step": 1}', '{"kind": "step", "step": "x", "loss": 1}'])
def test_entries_of_a_log_that_are_none(tmp_path: Path, line: str) -> None:
    (tmp_path / "log.jsonl").write_text(line + "\n")
    with pytest.raises(LangadaptError, match=r"log\.jsonl: an entry is damaged"):
        training_curve(tmp_path)


def test_facts_beside_a_log_that_are_none(tmp_path: Path) -> None:
    (tmp_path / "log.jsonl").write_text("")
    (tmp_path / "artifact.json").write_text('{"training": 5}')
    with pytest.raises(LangadaptError, match="damaged artifact"):
        training_curve(tmp_path)


@pytest.mark.parametrize("content", ["[", "5", '[{"number": 1}]'])
def test_a_damaged_list_of_broken_images_is_made_again(tmp_path: Path, content: str) -> None:
    known = cache_folder() / "checked-images" / f"{tmp_path.name}.json"
    known.parent.mkdir(parents=True, exist_ok=True)
    known.write_text(content)
    (tmp_path / "a.png").write_bytes(b"x")
    found = broken_images([tmp_path / "a.png"], fingerprint=tmp_path.name)
    assert [image.number for image in found] == [0]


def test_half_a_surrogate_pair_among_the_examples_of_cleaning() -> None:
    example = Example.cut("a", 0, "red \ud800 cat", "gato")
    assert (example.english, example.target) == ("red ? cat", "gato")
