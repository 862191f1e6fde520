"""Open an index and search it by text or by image."""

import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray
from PIL.Image import Image

from langadapt.data.images import open_image
from langadapt.errors import DataError, Report
from langadapt.evaluation.page import Page, Search, Thumbnail
from langadapt.files.atomic import replacing, write_text
from langadapt.models import LanguageModel
from langadapt.search.catalogue import (
    CATALOGUE,
    Metadata,
    Rows,
    check_row,
    damaged,
    display_name,
    open_catalogue,
)
from langadapt.search.nearest import (
    APPROXIMATE_FACTS,
    Approximate,
    ApproximateFacts,
    Nearest,
    Slots,
    build_approximate,
    open_approximate,
    search_candidates,
    search_exact,
)
from langadapt.search.update import ImageTower, check_tower, image_tower, update_index


@dataclass(frozen=True, kw_only=True)
class Hit:
    """An image that was found. `number` is its position in the index's list of images, sorted by name."""

    number: int
    name: str
    path: Path
    score: float


@dataclass(frozen=True, kw_only=True, eq=False)
class ImageIndex:
    """One state of an index; updates by other processes do not change it."""

    index: Path
    """Folder of the index."""
    metadata: Metadata
    rows: Rows
    """`[N, D]` float32, memory-mapped."""
    checksums: NDArray[np.int64]
    """`[N]`, -1 where a row has no image any more."""
    names: list[bytes]
    """Sorted names of the images below the folder."""
    slot_of_image: Slots
    """`[images]`; two images of equal content share a row."""
    images_by_slot: Slots
    """`[images]`, numbers of the images in order of their rows."""
    starts: Slots
    """`[N + 1]`, where the images of each row begin in `images_by_slot`."""
    rank: Slots
    """`[N]` first image of a row, -1 where it has none: the order among equal scores."""
    failed: int
    approximate: Approximate | None
    has_stale_approximate: bool
    """There is a FAISS index, and it cannot be used."""

    def __len__(self) -> int:
        return len(self.names)

    def path(self, number: int) -> Path:
        """Return where an image was when it was indexed."""
        return Path(self.metadata.folder, os.fsdecode(self.names[number]))

    def hit(self, number: int, *, score: float) -> Hit:
        """Describe an image that was found."""
        return Hit(number=number, name=display_name(self.names[number]), path=self.path(number), score=score)

    def row(self, number: int) -> Rows:
        """Return the embedding of an image, `[1, D]`."""
        slot = int(self.slot_of_image[number])
        self.check(slot)
        return np.array(self.rows[slot][None])

    def check(self, slot: int) -> None:
        """Compare a row with its checksum; raise a DataError where it is not what was written."""
        check_row(self.index, self.rows, slot, int(self.checksums[slot]))

    def search(self, queries: Rows, *, count: int, approximate: bool = True) -> list[list[Hit]]:
        """Find the best images for normalised `queries [Q, D]`, float32: best first, equal scores by name.

        Of each query at most `count`; `approximate` uses a FAISS index where there is one, up to date.
        """
        if approximate and self.approximate is not None:
            faiss_index = self.approximate.faiss_index
            nearest = [
                search_candidates(faiss_index, query, self.rows, self.rank, count=count) for query in queries
            ]
        else:
            nearest = search_exact(queries, self.rows, self.rank, count=count)
        return [self._hits(found, count) for found in nearest]

    def build_approximate(self, texts: Rows) -> ApproximateFacts:
        """Build the FAISS index, measured on images and on `[Q, D]` embedded texts."""
        return build_approximate(self.index, self.metadata, self.rows, self.rank, texts=texts)

    def _hits(self, nearest: Nearest, count: int) -> list[Hit]:
        found: list[tuple[float, int]] = []
        for slot, score in zip(nearest.slots.tolist(), nearest.scores.tolist(), strict=True):
            self.check(slot)
            images = self.images_by_slot[self.starts[slot] : self.starts[slot + 1]]
            found += [(-score, number) for number in images.tolist()]
        return [self.hit(number, score=-score) for score, number in sorted(found)[:count]]


def open_index(index: Path, tower: ImageTower | None) -> ImageIndex:
    """Open an index for searching; without the image tower of the queries' model it is not compared."""
    with open_catalogue(index) as catalogue:
        metadata = catalogue.metadata
        if tower is not None:
            check_tower(metadata, index, tower)
        rows = catalogue.rows()
        checksums = np.full(metadata.end, -1, np.int64)
        try:
            for slot, checksum in catalogue.connection.execute("SELECT slot, crc FROM rows"):
                checksums[_check_slot(slot, metadata)] = checksum
            found = list(catalogue.images())
            names = [name for name, _ in found]
            slots = [_check_slot(slot, metadata) for _, slot in found]
        except (TypeError, ValueError, OverflowError) as error:
            raise damaged(index, f"its catalogue: {error}") from error
        failed = len(catalogue.failures())
    if not names:
        problem = f"none of its {failed} images can be read"
        raise DataError(f"{metadata.folder}: {problem}; `langadapt index` lists why")
    slot_of_image = np.array(slots, np.int64)
    images_by_slot = np.argsort(slot_of_image, kind="stable")
    starts = np.searchsorted(slot_of_image[images_by_slot], np.arange(metadata.end + 1))
    rank = np.full(metadata.end, -1, np.int64)
    rank[slot_of_image[::-1]] = np.arange(len(slots) - 1, -1, -1)
    approximate = open_approximate(index, metadata)
    return ImageIndex(
        index=index,
        metadata=metadata,
        rows=rows,
        checksums=checksums,
        names=names,
        slot_of_image=slot_of_image,
        images_by_slot=images_by_slot,
        starts=starts,
        rank=rank,
        failed=failed,
        approximate=approximate,
        has_stale_approximate=approximate is None and (index / APPROXIMATE_FACTS).is_file(),
    )


def _check_slot(value: object, metadata: Metadata) -> int:
    if not isinstance(value, int) or not 0 <= value < metadata.end:
        raise ValueError(f"row {value!r:.40} of {metadata.end}")
    return value


@dataclass(frozen=True, kw_only=True, eq=False)
class SearchSession:
    """A model and an index that fit each other."""

    model: LanguageModel
    index: ImageIndex
    encoded: int = 0
    """Images that were encoded when it was opened: new and changed ones."""

    def by_text(self, texts: Sequence[str], *, count: int, approximate: bool = True) -> list[list[Hit]]:
        """Find the best images for texts of the language."""
        rows = self.model.encode_text(list(texts)).numpy()
        return self.index.search(rows, count=count, approximate=approximate)

    def by_image(self, image: Path | Image, *, count: int, approximate: bool = True) -> list[Hit]:
        """Find the images that look most like an image or an image file."""
        rows = self.model.encode_images([open_image(image)]).numpy()
        return self.index.search(rows, count=count, approximate=approximate)[0]

    def similar(self, number: int, *, count: int) -> list[Hit]:
        """Find the images that look most like one of the index, that one first."""
        return self.index.search(self.index.row(number), count=count)[0]

    def build_approximate(self) -> ApproximateFacts:
        """Build the FAISS index, measured on images and on the examples of the recipe."""
        examples = list(self.model.artifact.recipe.examples)
        texts = self.model.encode_text(examples).numpy() if examples else self.index.rows[:0]
        return self.index.build_approximate(texts)


def open_session(
    folder: Path, model: LanguageModel, *, report: Report, index: Path | None = None
) -> SearchSession:
    """Bring the index of a folder of images up to date and open it, or open an index as it is.

    `index` is where the index of a folder of images lies, in the cache if None; `model` embeds the queries.
    """
    tower = image_tower(model)
    if (folder / CATALOGUE).is_file():
        if index is not None:
            raise DataError(f"{folder} is an index itself; leave --index out")
        return SearchSession(model=model, index=open_index(folder, tower))
    update = update_index(folder, tower, report=report, index=index)
    return SearchSession(model=model, index=open_index(update.index, tower), encoded=update.encoded)


_BATCH = 8192


def export_index(index: ImageIndex, path: Path) -> None:
    """Write all images of an index in order of their names.

    Parquet has the columns id, path and embedding (a list of D float32). An .npy file is `[images, D]`
    float32; the paths of its rows lie beside it in `FILE.paths.json`. Paths are relative to the image folder.
    """
    for slot in index.slot_of_image.tolist():
        index.check(slot)
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
