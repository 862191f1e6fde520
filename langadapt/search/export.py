"""Embeddings as files that any vector database reads."""

import json
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from langadapt.errors import DataError
from langadapt.files.atomic import write_text
from langadapt.search.catalogue import Rows, shown_name
from langadapt.search.index import ImageIndex

SUFFIXES = (".npy", ".parquet")
_BATCH = 8192


def check_suffix(path: Path, option: str) -> None:
    """Refuses a file that is neither kind, before any work is done."""
    if path.suffix not in SUFFIXES:
        raise DataError(f"{option} {path}: the name must end in .npy or .parquet")


def export_index(index: ImageIndex, path: Path) -> None:
    """Writes all images of an index in order of their names.

    Parquet has the columns id, path and embedding (a list of D float32). An .npy file is `[images, D]`
    float32; the paths of its rows lie beside it in `FILE.paths.json`. Paths start at the images' folder.
    """
    names = (shown_name(index.name(number)) for number in range(len(index)))
    batches = (
        np.asarray(index.rows[index.slot_of_image[start : start + _BATCH]])
        for start in range(0, len(index), _BATCH)
    )
    if path.suffix == ".npy":
        _write_npy(path, batches, rows=len(index), dim=index.meta.dim)
        write_text(
            path.with_name(f"{path.name}.paths.json"), json.dumps(list(names), ensure_ascii=False) + "\n"
        )
        return
    _write_parquet(path, batches, column="path", texts=list(names), dim=index.meta.dim)


def export_texts(texts: Sequence[str], rows: Rows, path: Path) -> None:
    """Writes embedded texts: Parquet with the columns id, text and embedding, or `[texts, D]` as .npy."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".npy":
        _write_npy(path, iter([rows]), rows=len(rows), dim=rows.shape[1])
    else:
        batches = (rows[start : start + _BATCH] for start in range(0, len(rows), _BATCH))
        _write_parquet(path, batches, column="text", texts=texts, dim=rows.shape[1])


def _write_npy(path: Path, batches: Iterator[Rows], *, rows: int, dim: int) -> None:
    with _whole(path) as temporary, temporary.open("wb") as file:
        header = {"descr": "<f4", "fortran_order": False, "shape": (rows, dim)}
        np.lib.format.write_array_header_1_0(file, header)
        for batch in batches:
            file.write(np.ascontiguousarray(batch, dtype="<f4").tobytes())


def _write_parquet(
    path: Path, batches: Iterator[Rows], *, column: str, texts: Sequence[str], dim: int
) -> None:
    kind = pa.list_(pa.float32(), dim)
    fields = [("id", pa.int64()), (column, pa.string()), ("embedding", kind)]
    schema = pa.schema([pa.field(name, what, nullable=False) for name, what in fields])
    with _whole(path) as temporary, pq.ParquetWriter(temporary, schema) as writer:
        done = 0
        for batch in batches:
            ids = np.arange(done, done + len(batch), dtype=np.int64)
            flat = pa.array(np.ascontiguousarray(batch).reshape(-1), pa.float32())
            values = pa.FixedSizeListArray.from_arrays(flat, type=kind)
            some = pa.array(texts[done : done + len(batch)], pa.string())
            writer.write_table(pa.table([pa.array(ids), some, values], schema=schema))
            done += len(batch)


@contextmanager
def _whole(path: Path) -> Iterator[Path]:
    """A temporary name beside the file, which replaces it when all is written."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        yield temporary
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
