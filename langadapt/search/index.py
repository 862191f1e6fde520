"""An index as it is searched: rows in a memory map, names beside them."""

import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from langadapt.errors import DataError
from langadapt.metrics.ranks import exact_unit_rows
from langadapt.search.approximate import Approximate, has_approximate, open_approximate
from langadapt.search.build import ImageTower
from langadapt.search.catalogue import (
    Meta,
    Rows,
    check_row,
    damaged,
    mapped_rows,
    opened,
    read_meta,
    shown_name,
)


@dataclass(frozen=True, kw_only=True)
class Hit:
    """An image that was found. `number` is its place in the index's list of images, sorted by name."""

    number: int
    name: str
    path: Path
    score: float


@dataclass(frozen=True, kw_only=True)
class Best:
    """The best rows of one query, best first: `slots [k]` int64, `scores [k]` float32 cosines."""

    slots: NDArray[np.int64]
    scores: NDArray[np.float32]


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


_CHUNK_ROWS = 16384

_ROUNDING = 2.0**-23


def best_rows(queries: Rows, rows: Rows, rank: NDArray[np.int64], *, count: int) -> list[Best]:
    """Exact search.

    The float32 products only choose candidates, with room for all of their rounding; these are scored again
    exactly, so that equal rows tie and the order depends neither on chunks nor on the machine.

    Args:
        queries: `[Q, D]` float32 unit rows.
        rows: `[N, D]` float32 unit rows, memory-mapped.
        rank: `[N]` what goes first among equal scores; -1 leaves a row out.
        count: how many per query.

    Returns:
        For each query up to `count` rows.

    Raises:
        DataError: a row is not finite.
    """
    best = [Best(slots=np.zeros(0, np.int64), scores=np.zeros(0, np.float32)) for _ in queries]
    slack = np.float32(2 * rows.shape[1] * _ROUNDING)
    for start in range(0, len(rows), _CHUNK_ROWS):
        chunk = np.asarray(rows[start : start + _CHUNK_ROWS])
        live = rank[start : start + _CHUNK_ROWS] >= 0
        scores = queries @ chunk.T
        if not np.isfinite(scores).all():
            raise DataError(
                "a row of the index is not finite; make it anew: `langadapt index` with --rebuild"
            )
        for number, query in enumerate(queries):
            row = np.where(live, scores[number], -np.inf)
            floor = _floor(row, best[number], count) - slack
            near = np.flatnonzero((row >= floor) & live)
            if len(near):
                best[number] = merged(
                    best[number], exact(query, chunk[near], near + start), rank, count=count
                )
    return best


def exact(query: Rows, rows: Rows, slots: NDArray[np.int64]) -> Best:
    """Cosines of a query and `[n, D]` rows, summed without rounding; in the rows' order."""
    left = exact_unit_rows(torch.tensor(query[None]), "query").double()
    right = exact_unit_rows(torch.tensor(rows), "image").double()
    return Best(slots=slots.astype(np.int64), scores=(right @ left[0]).float().numpy())


def merged(one: Best, other: Best, rank: NDArray[np.int64], *, count: int) -> Best:
    """The best of both, higher scores first, equal ones by rank."""
    slots = np.concatenate([one.slots, other.slots])
    scores = np.concatenate([one.scores, other.scores])
    order = np.lexsort((rank[slots], -scores))[:count]
    return Best(slots=slots[order], scores=scores[order])


def _floor(scores: Rows, best: Best, count: int) -> np.float32:
    """What a row must reach at least to be among the best, as far as float32 tells."""
    floor = best.scores[-1] if len(best.scores) == count else np.float32(-np.inf)
    if len(scores) > count:
        floor = max(floor, np.partition(scores, len(scores) - count)[len(scores) - count])
    return np.float32(floor)
