"""Write embeddings as files that any vector database reads, and found images as a page."""

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from langadapt.errors import DataError
from langadapt.evaluation.page import Page, Search, Thumbnail
from langadapt.files.atomic import replacing, write_text
from langadapt.search.catalogue import Rows, check_row, display_name
from langadapt.search.index import Hit, ImageIndex, SearchSession
from langadapt.search.nearest import Slots

_BATCH = 8192


def check_suffix(path: Path, option: str) -> None:
    """Refuse a file name that is neither .npy nor .parquet, before any work is done."""
    if path.suffix not in (".npy", ".parquet"):
        raise DataError(f"{option} {path}: the name must end in .npy or .parquet")


def export_index(index: ImageIndex, path: Path) -> None:
    """Write all images of an index in order of their names.

    Parquet has the columns id, path and embedding (a list of D float32). An .npy file is `[images, D]`
    float32; the paths of its rows lie beside it in `FILE.paths.json`. Paths are relative to the image folder.
    """
    for slot in index.slot_of_image.tolist():
        check_row(index.index, index.rows, slot, int(index.checksums[slot]))
    names = [display_name(name) for name in index.names]
    _write(path, names, index.rows, index.slot_of_image, column="path")
    if path.suffix == ".npy":
        write_text(path.with_name(f"{path.name}.paths.json"), json.dumps(names, ensure_ascii=False) + "\n")


def export_texts(texts: Sequence[str], rows: Rows, path: Path) -> None:
    """Write embedded texts: Parquet with the columns id, text and embedding, or `[texts, D]` as .npy."""
    _write(path, texts, rows, np.arange(len(texts)), column="text")


def _write(path: Path, texts: Sequence[str], rows: Rows, order: Slots, *, column: str) -> None:
    """Write `rows[order]` in batches: as .npy, or as Parquet with a text beside each row."""
    dim, starts = rows.shape[1], range(0, len(order), _BATCH)
    kind = pa.list_(pa.float32(), dim)
    columns = [("id", pa.int64()), (column, pa.string()), ("embedding", kind)]
    schema = pa.schema([pa.field(name, type_, nullable=False) for name, type_ in columns])
    with replacing(path) as temporary:
        if path.suffix == ".npy":
            array = np.lib.format.open_memmap(temporary, "w+", np.dtype("<f4"), (len(order), dim))
            for start in starts:
                array[start : start + _BATCH] = rows[order[start : start + _BATCH]]
            array.flush()
            return
        with pq.ParquetWriter(temporary, schema) as writer:
            for start in starts:
                part = rows[order[start : start + _BATCH]]
                ids = pa.array(np.arange(start, start + len(part)), pa.int64())
                names = pa.array(texts[start : start + _BATCH], pa.string())
                flat = pa.array(part.reshape(-1), pa.float32())
                embeddings = pa.FixedSizeListArray.from_arrays(flat, type=kind)
                writer.write_table(pa.table([ids, names, embeddings], schema=schema))


def search_page(
    session: SearchSession, queries: Sequence[str | Path], found: Sequence[Sequence[Hit]]
) -> Page:
    """Describe a page that shows for each text or image file its images, best first."""
    recipe, index = session.model.artifact.recipe, session.index
    searches = []
    for query, hits in zip(queries, found, strict=True):
        picture = query if isinstance(query, Path) else None
        search = Search(
            query=f"looks like {picture.name}" if picture else str(query),
            english=None,
            language="en" if picture else recipe.code,
            direction="ltr" if picture else recipe.direction,
            images=[Thumbnail(path=hit.path, label=f"{hit.name}  {hit.score:.3f}") for hit in hits],
            picture=picture,
        )
        searches.append(search)
    facts = {
        "language": f"{recipe.name} ({recipe.code})",
        "images": f"{len(index):,} in {index.metadata.folder}",
        "image model": index.metadata.label,
        "text": session.model.label,
    }
    return Page(title=f"Search in {recipe.name}", searches=searches, facts={"Settings": facts})
