"""Parallel sentences from wherever a recipe says they are."""

import hashlib
import itertools
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import overload

import numpy as np
import pyarrow as pa
import torch
from numpy.typing import NDArray

from langadapt.data.readers import local_path, read_aligned, read_aligned_lines, read_values
from langadapt.data.rows import BlankTextError, Row, check_texts, contamination_metadata
from langadapt.errors import DataError
from langadapt.files.store import distinct, nameless_file
from langadapt.recipes.data import AlignedFiles, HubSource, ParallelRecipe, TableFiles
from langadapt.recipes.find import RecipeFile

UNCHECKED = "unchecked"


@dataclass(frozen=True, kw_only=True)
class ParallelSentences:
    """English sentences and their translations, row by row; no text is blank."""

    name: str
    language: str
    """Code of the target language."""
    english: Sequence[str]
    target: Sequence[str]
    blank_rows: int = 0
    """Rows that were left out because a side was blank."""
    contamination: str = UNCHECKED
    """`unchecked`; `dropped`: compared with test captions, none is in it; `kept(n)`: n rows hold some."""

    def __post_init__(self) -> None:
        if len(self.english) != len(self.target):
            raise DataError(
                f"{self.name}: {len(self.english)} English sentences beside {len(self.target)} translations; "
                "each row needs both"
            )

    @cached_property
    def fingerprint(self) -> str:
        """First 16 hex digits of a sha256 over all rows in order."""
        digest = hashlib.sha256()
        for pair in zip(self.english, self.target, strict=True):
            for text in pair:
                raw = text.encode()
                digest.update(len(raw).to_bytes(8, "little"))
                digest.update(raw)
        return digest.hexdigest()[:16]


def load_parallel(found: RecipeFile[ParallelRecipe]) -> ParallelSentences:
    """Reads a recipe's sentences once; they are kept on disk, in a nameless file of the cache.

    Args:
        found: the recipe and where it lies; several files are read one after the other.

    Raises:
        DataError: data not there (says how to get them), unreadable, or another number of rows than the
            recipe's `expected_rows`.
    """
    recipe = found.recipe
    columns = (recipe.columns.english, recipe.columns.target)
    skipped = 0

    def whole_rows() -> Iterator[Sequence[str]]:
        nonlocal skipped
        for row in parallel_rows(found):
            try:
                check_texts(row, columns)
            except BlankTextError:
                if recipe.blank_rows == "error":
                    raise
                skipped += 1
                continue
            yield row.values

    english, target = on_disk(whole_rows(), columns=2)
    if recipe.expected_rows is not None and len(english) + skipped != recipe.expected_rows:
        raise DataError(
            f"{found.path}: expected_rows is {recipe.expected_rows}, the data hold {len(english) + skipped}; "
            "fetch the release that the recipe names or correct expected_rows"
        )
    if not english:
        raise DataError(f"{found.path}: all {skipped} rows are blank")
    return ParallelSentences(
        name=recipe.name,
        language=recipe.language,
        english=english,
        target=target,
        blank_rows=skipped,
        contamination=_contamination(found),
    )


def _contamination(found: RecipeFile[ParallelRecipe]) -> str:
    """What `langadapt data build` wrote into the files; unchecked if one of them says nothing."""
    source = found.recipe.source
    if not isinstance(source, TableFiles):
        return UNCHECKED
    kept = 0
    for name in source.paths:
        said = contamination_metadata(local_path(found, name)) if name.endswith(".parquet") else None
        if said is None:
            return UNCHECKED
        kept += int(said["kept"])
    return f"kept({kept})" if kept else "dropped"


def parallel_rows(found: RecipeFile[ParallelRecipe], *, blank_lines: bool = False) -> Iterator[Row]:
    """Streams a recipe's rows, English first, with values as they are; they are not checked.

    Args:
        found: the recipe and where it lies.
        blank_lines: take blank lines of aligned files for rows instead of stopping at them.
    """
    source = found.recipe.source
    columns = (found.recipe.columns.english, found.recipe.columns.target)
    if isinstance(source, HubSource):
        from langadapt.data.readers import read_hub_values  # `datasets` is large, and most builds read files

        yield from read_hub_values(source, columns)
    elif isinstance(source, AlignedFiles):
        read = read_aligned_lines if blank_lines else read_aligned
        yield from read(local_path(found, source.english), local_path(found, source.target))
    else:
        for name in source.paths:
            yield from read_values(local_path(found, name), columns)


_ROWS = 16384

"""Texts that are written, and read, at a time."""


class Texts(Sequence[str]):
    """Texts of memory-mapped Arrow columns, one behind another, or those that `rows` names, in its order."""

    def __init__(self, parts: Sequence[pa.LargeStringArray], rows: NDArray[np.int64] | None = None) -> None:
        self._parts = [part for part in parts if len(part)]
        self._starts = [0, *itertools.accumulate(map(len, self._parts))]
        self._rows = rows

    def __len__(self) -> int:
        return self._starts[-1] if self._rows is None else len(self._rows)

    @overload
    def __getitem__(self, place: int) -> str: ...
    @overload
    def __getitem__(self, place: slice) -> list[str]: ...
    def __getitem__(self, place: int | slice) -> str | list[str]:
        if isinstance(place, slice):
            return [self[i] for i in range(*place.indices(len(self)))]
        row = range(len(self))[place]
        row = row if self._rows is None else int(self._rows[row])
        part = bisect_right(self._starts, row) - 1
        return str(self._parts[part][row - self._starts[part]].as_py())

    def __iter__(self) -> Iterator[str]:
        if self._rows is not None:
            yield from (self[place] for place in range(len(self._rows)))
            return
        for part in self._parts:
            for start in range(0, len(part), _ROWS):
                yield from part.slice(start, _ROWS).to_pylist()


def joined(texts: Iterable[Sequence[str]]) -> Texts:
    """Texts one behind another; chosen ones, and those that are on no disk, are held in memory."""
    parts: list[pa.LargeStringArray] = []
    for some in texts:
        if isinstance(some, Texts) and some._rows is None:
            parts += some._parts
        else:
            parts.append(pa.array(list(some), pa.large_string()))
    return Texts(parts)


def chosen(texts: Sequence[str], rows: NDArray[np.int64]) -> Sequence[str]:
    """Some of the texts, `rows` int64 `[n]`; those on disk stay there."""
    if isinstance(texts, Texts):
        return Texts(texts._parts, rows if texts._rows is None else texts._rows[rows])
    return [texts[row] for row in rows]


def on_disk(rows: Iterable[Sequence[str]], *, columns: int) -> list[Texts]:
    """Writes rows of texts to a nameless file.

    Args:
        rows: `columns` texts each.
        columns: number of columns.

    Returns:
        Each column's texts, mapped from the file.

    Raises:
        DataError: the disk is full or not writable.
    """
    schema = pa.schema([(str(number), pa.large_string()) for number in range(columns)])
    with nameless_file() as path:
        with pa.OSFile(str(path), "wb") as file, pa.ipc.new_file(file, schema) as writer:
            left = iter(rows)
            while chunk := list(itertools.islice(left, _ROWS)):
                arrays = [pa.array(column, pa.large_string()) for column in zip(*chunk, strict=True)]
                writer.write_batch(pa.record_batch(arrays, schema=schema))
        table = pa.ipc.open_file(pa.memory_map(str(path))).read_all()
    return [Texts(table.column(number).chunks) for number in range(columns)]


@dataclass(frozen=True, kw_only=True)
class Split:
    """Row numbers, int64: `train [n]` and `held_out [m]`."""

    train: NDArray[np.int64]
    held_out: NDArray[np.int64]


def split_by_english(english: Iterable[str], *, held_out: int, generator: torch.Generator) -> Split:
    """Holds out some English sentences with all their translations.

    Sentences are compared without case, outer space and inner spacing. At most a tenth of the distinct ones
    is held out.

    Args:
        english: English side of each row.
        held_out: number of distinct English sentences wanted.
        generator: decides which.

    Returns:
        Row numbers; of each held-out English sentence the first row.

    Raises:
        DataError: fewer than 20 distinct English sentences.
    """
    same = distinct(" ".join(text.casefold().split()) for text in english)
    count = len(same.first)
    if count < 20:
        raise DataError(f"{count} distinct English sentences are too few to train and hold some out")
    chosen = np.zeros(count, np.bool_)
    chosen[torch.randperm(count, generator=generator)[: min(held_out, count // 10)].numpy()] = True
    return Split(train=np.flatnonzero(~chosen[same.index]), held_out=same.first[chosen])


def split_by_image(image_of_text: NDArray[np.int64], *, fraction: float, generator: torch.Generator) -> Split:
    """Holds out some images with all their captions.

    Args:
        image_of_text: int64 `[pairs]`, number of each caption's image.
        fraction: share of the images to hold out; at least two are.
        generator: decides which.

    Returns:
        Numbers of pairs; of held-out images all captions.

    Raises:
        DataError: fewer than 10 images.
    """
    images = np.unique(image_of_text)
    if len(images) < 10:
        raise DataError(f"{len(images)} images are too few to train and hold some out; 10 are the least")
    wanted = min(max(2, round(fraction * len(images))), len(images) - 2)
    chosen = images[torch.randperm(len(images), generator=generator)[:wanted].numpy()]
    held_out = np.isin(image_of_text, chosen)
    return Split(train=np.flatnonzero(~held_out), held_out=np.flatnonzero(held_out))
