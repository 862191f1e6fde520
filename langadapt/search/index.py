"""An index as it is searched: rows in a memory map, names beside them."""

import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from langadapt.errors import DataError
from langadapt.search.approximate import Approximate, has_approximate, open_approximate
from langadapt.search.catalogue import Meta, Rows, check_row, damaged, mapped_rows, opened, read_meta
from langadapt.search.exact import Best, best_rows, exact, merged
from langadapt.search.scan import shown_name
from langadapt.search.tower import ImageTower


@dataclass(frozen=True, kw_only=True)
class Hit:
    """An image that was found. `number` is its place in the index's list of images, sorted by name."""

    number: int
    name: str
    path: Path
    score: float


@dataclass(frozen=True, kw_only=True, eq=False)
class ImageIndex:
    """One state of an index; updates by others do not touch it."""

    place: Path
    meta: Meta
    rows: Rows
    """`[N, D]` float32, memory-mapped."""
    checksums: NDArray[np.int64]
    """`[N]`, -1 where a row has no image any more."""
    names: bytes
    """All names in order, one after the other."""
    ends: NDArray[np.int64]
    """`[images]`, where each name ends."""
    slot_of_image: NDArray[np.int64]
    """`[images]`; two images of equal content share a row."""
    first_image: NDArray[np.int64]
    """`[N]` first image of a row, -1 where it has none: what goes first among equal scores."""
    images_by_slot: NDArray[np.int64]
    """`[images]`, numbers of images in order of their rows."""
    failed: int
    approximate: Approximate | None
    stale_approximate: bool
    """There is a FAISS index, and it cannot be used."""

    def __len__(self) -> int:
        return len(self.ends)

    def name(self, number: int) -> bytes:
        """Name of an image below the folder."""
        return self.names[self.ends[number - 1] if number else 0 : self.ends[number]]

    def path(self, number: int) -> Path:
        """Where an image was when it was indexed."""
        return self.meta.folder_path / os.fsdecode(self.name(number))

    def row(self, number: int) -> Rows:
        """`[1, D]`, the embedding of an image."""
        return np.array(self.rows[self.slot_of_image[number]][None])

    def search(self, queries: Rows, *, count: int, approximate: bool = True) -> list[list[Hit]]:
        """The best images for some queries, best first, equal scores by name.

        Args:
            queries: `[Q, D]` float32 unit rows.
            count: images per query; there are fewer where the index has fewer.
            approximate: through the FAISS index where there is one that is up to date.

        Raises:
            DataError: the index is damaged.
        """
        if approximate and self.approximate is not None:
            best = [self._rescored(query, count) for query in queries]
        else:
            best = best_rows(queries, self.rows, self.first_image, count=count)
        return [self._hits(found, count) for found in best]

    def _images_of(self, slot: int) -> list[int]:
        slots = self.slot_of_image
        start, end = (
            int(np.searchsorted(slots, slot, side=side, sorter=self.images_by_slot))
            for side in ("left", "right")
        )
        images: list[int] = self.images_by_slot[start:end].tolist()
        return images

    def _rescored(self, query: Rows, count: int) -> Best:
        assert self.approximate is not None
        slots = self.approximate.candidates(query, count=count)
        nothing = Best(slots=np.zeros(0, np.int64), scores=np.zeros(0, np.float32))
        slots = slots[self.first_image[slots] >= 0]
        if not len(slots):
            return nothing
        return merged(nothing, exact(query, self.rows[slots], slots), self.first_image, count=count)

    def _hits(self, best: Best, count: int) -> list[Hit]:
        found: list[tuple[float, int]] = []
        for slot, score in zip(best.slots.tolist(), best.scores.tolist(), strict=True):
            check_row(self.place, self.rows, slot, int(self.checksums[slot]))
            found += [(-score, number) for number in self._images_of(slot)]
        return [
            Hit(number=number, name=shown_name(self.name(number)), path=self.path(number), score=-score)
            for score, number in sorted(found)[:count]
        ]


def open_index(place: Path, tower: ImageTower | None) -> ImageIndex:
    """Opens an index for searching.

    Args:
        place: its folder.
        tower: of the model that will ask; None reads whatever it is.

    Raises:
        DataError: no index there, a damaged one, one of another image tower, or without any image.
    """
    with opened(place) as connection:
        meta = read_meta(connection, place)
        if tower is not None and meta.fingerprint != tower.fingerprint:
            raise DataError(
                f"{place}: made with another image model ({meta.label}, this one is {tower.label}) or "
                "another version of its libraries; use the model it was made with, or make another index"
            )
        rows = mapped_rows(place, meta)
        checksums = np.full(meta.end, -1, np.int64)
        names, ends, slots = bytearray(), [], []
        try:
            for slot, checksum in connection.execute("SELECT slot, crc FROM rows"):
                checksums[_slot(slot, meta)] = checksum
            for name, slot in connection.execute(
                "SELECT name, slot FROM images WHERE slot IS NOT NULL ORDER BY name"
            ):
                names += name
                ends.append(len(names))
                slots.append(_slot(slot, meta))
        except (TypeError, ValueError, OverflowError) as error:
            raise damaged(place, f"its catalogue: {error}") from error
        (failed,) = connection.execute("SELECT count(*) FROM images WHERE slot IS NULL").fetchone()
    if not ends:
        raise DataError(
            f"{meta.folder_path}: none of its {failed} images can be read; `langadapt index` lists why"
        )
    approximate = open_approximate(place, meta)
    slot_of_image = np.array(slots, np.int64)
    first_image = np.full(meta.end, -1, np.int64)
    first_image[slot_of_image[::-1]] = np.arange(len(slots) - 1, -1, -1)
    return ImageIndex(
        place=place,
        meta=meta,
        rows=rows,
        checksums=checksums,
        names=bytes(names),
        ends=np.array(ends, np.int64),
        slot_of_image=slot_of_image,
        first_image=first_image,
        images_by_slot=np.argsort(slot_of_image, kind="stable"),
        failed=failed,
        approximate=approximate,
        stale_approximate=approximate is None and has_approximate(place),
    )


def _slot(value: object, meta: Meta) -> int:
    if not isinstance(value, int) or not 0 <= value < meta.end:
        raise ValueError(f"row {value!r:.40} of {meta.end}")
    return value
