"""Chunks on disk: what a worker leaves behind when it has judged one, and how all of them are read
together."""

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from langadapt.data.cleaning.chunk import JudgedChunk
from langadapt.data.cleaning.duplicates import PARTS, PairFeatures, pair_features
from langadapt.data.cleaning.fold import TokenRows
from langadapt.data.cleaning.report import EXAMPLES, Example
from langadapt.data.cleaning.rules import DROPPING
from langadapt.data.cleaning.texts import Side
from langadapt.data.write_text import write_text


@dataclass(frozen=True, kw_only=True)
class ChunkTask:
    """Neighbouring rows of one source: `first` is the place of the first of them, from 1."""

    number: int
    source: int
    name: str
    first: int
    english: Sequence[str]
    target: Sequence[str]


@dataclass(frozen=True, kw_only=True)
class ChunkCounts:
    """What became of a chunk's rows."""

    source: int
    rows: int
    alive: int
    mended: Mapping[str, int]
    dropped: Mapping[str, int]
    leaks: int
    examples: Mapping[str, Sequence[Example]]


def chunk_path(folder: Path, number: int, kind: str) -> Path:
    """File of a chunk; the one of kind `json` is written last, and says that the chunk is complete."""
    return folder / f"chunk-{number:06d}.{kind}"


def write_chunk(folder: Path, task: ChunkTask, judged: JudgedChunk) -> None:
    """Writes the living rows, their features and the counts."""
    alive = np.flatnonzero(judged.fate == 0)
    english, target = (_taken(side, alive) for side in (judged.english, judged.target))
    table = pa.table(
        {
            "english": pa.array(english.texts, pa.string()),
            "target": pa.array(target.texts, pa.string()),
            "row": pa.array(alive + task.first, pa.int64()),
            "leak": pa.array(judged.leaks[alive], pa.bool_()),
        }
    )
    path = chunk_path(folder, task.number, "parquet")
    pq.write_table(table, path.with_suffix(".tmp"))
    os.replace(path.with_suffix(".tmp"), path)
    features = pair_features(english, target)
    path = chunk_path(folder, task.number, "npz")
    with path.with_suffix(".tmp").open("wb") as file:
        np.savez(
            file,
            keys=features.keys,
            parts=features.parts,
            bags=features.bags,
            english=features.english.ids,
            english_lengths=features.english.lengths,
            target=features.target.ids,
            target_lengths=features.target.lengths,
        )
    os.replace(path.with_suffix(".tmp"), path)
    write_text(
        chunk_path(folder, task.number, "json"), json.dumps(asdict(_counts(task, judged)), ensure_ascii=False)
    )


def read_counts(folder: Path, number: int) -> ChunkCounts:
    """The counts of a complete chunk."""
    said = json.loads(chunk_path(folder, number, "json").read_text(encoding="utf-8"))
    examples = {rule: [Example(**item) for item in items] for rule, items in said.pop("examples").items()}
    return ChunkCounts(**said, examples=examples)


def chunk_rows(folder: Path, number: int, names: Sequence[str] | None = None) -> dict[str, Any]:
    """Columns of a chunk's living rows as lists; all of them unless named."""
    columns: dict[str, Any] = pq.read_table(chunk_path(folder, number, "parquet"), columns=names).to_pydict()
    return columns


def all_features(folder: Path, alive: Sequence[int]) -> PairFeatures:
    """Features of all chunks, one after the other, in mapped files: memory holds what is looked at.

    Args:
        folder: of the chunks.
        alive: living rows of each chunk, in order.
    """
    rows = sum(alive)
    keys = np.empty(rows, np.uint64)
    parts = _mapped(folder / "parts.bin", np.uint64, (PARTS, rows))
    bags = _mapped(folder / "bags.bin", np.uint64, (4, rows))
    lengths = {side: np.empty(rows, np.int64) for side in ("english", "target")}
    first = 0
    with (folder / "english.bin").open("wb") as english, (folder / "target.bin").open("wb") as target:
        files = {"english": english, "target": target}
        for number, count in enumerate(alive):
            with np.load(chunk_path(folder, number, "npz"), allow_pickle=False) as chunk:
                place = slice(first, first + count)
                keys[place], parts[:, place], bags[:, place] = chunk["keys"], chunk["parts"], chunk["bags"]
                for side, file in files.items():
                    lengths[side][place] = chunk[f"{side}_lengths"]
                    chunk[side].tofile(file)
            first += count
    tokens = {}
    for side, own in lengths.items():
        offsets = np.zeros(rows + 1, np.int64)
        np.cumsum(own, out=offsets[1:])
        size = int(offsets[-1])
        ids = (
            np.memmap(folder / f"{side}.bin", np.uint32, "r", shape=(size,))
            if size
            else np.zeros(0, np.uint32)
        )
        tokens[side] = TokenRows(ids=ids, offsets=offsets)
    return PairFeatures(keys=keys, parts=parts, bags=bags, english=tokens["english"], target=tokens["target"])


def _mapped(path: Path, kind: type[np.uint64], shape: tuple[int, int]) -> NDArray[np.uint64]:
    return np.memmap(path, kind, "w+", shape=shape) if shape[1] else np.zeros(shape, kind)


def _taken(side: Side, rows: NDArray[np.int64]) -> Side:
    chosen = rows.tolist()
    return Side(
        texts=[side.texts[i] for i in chosen],
        words=[side.words[i] for i in chosen],
        tokens=side.tokens.take(rows),
    )


def _counts(task: ChunkTask, judged: JudgedChunk) -> ChunkCounts:
    def example(row: int) -> Example:
        return Example(
            source=task.name,
            row=task.first + row,
            english=task.english[row][:1000],
            target=task.target[row][:1000],
        )

    examples = {rule: [example(row) for row in rows] for rule, rows in judged.mended_examples.items()}
    dropped = {}
    for code, rule in enumerate(DROPPING, start=1):
        rows = np.flatnonzero(judged.fate == code)
        if len(rows):
            dropped[rule] = len(rows)
            examples[rule] = [example(row) for row in rows[:EXAMPLES].tolist()]
    return ChunkCounts(
        source=task.source,
        rows=len(task.english),
        alive=int((judged.fate == 0).sum()),
        mended={rule: count for rule, count in judged.mended.items() if count},
        dropped=dropped,
        leaks=int(judged.leaks.sum()),
        examples=examples,
    )
