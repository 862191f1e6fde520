"""Chunks of rows: read from the sources, filtered by worker processes, kept on disk until the build ends."""

import hashlib
import multiprocessing
import os
import signal
import threading
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray
from pydantic import TypeAdapter

from langadapt.cleaning.duplicates import PARTS, PairFeatures, pair_features
from langadapt.cleaning.profile import Sample, SampleRow
from langadapt.cleaning.row_filter import FilteredRows, RowFilter
from langadapt.cleaning.rules import CODES, EXAMPLES, Example
from langadapt.cleaning.words import TokenRows, row_offsets
from langadapt.data.parallel import parallel_rows
from langadapt.data.readers import check_count
from langadapt.errors import DataError, Progress, Report
from langadapt.files.atomic import replacing
from langadapt.files.temporary import temporary_array
from langadapt.recipes.data import ParallelRecipe
from langadapt.recipes.find import RecipeFile

_ROWS_PER_CHUNK = 10_000
_SIDES = ("english", "target")


@dataclass(frozen=True, kw_only=True)
class Source:
    """A corpus and its weight: with 0.5 every second clean row stays, with 2 each stands twice."""

    found: RecipeFile[ParallelRecipe]
    weight: float = 1.0

    def __post_init__(self) -> None:
        if not 0 < self.weight <= 100:
            name = self.found.recipe.name
            raise DataError(f"{name}: weight must be above 0 and at most 100, got {self.weight:g}")


@dataclass(frozen=True, kw_only=True)
class Survey:
    """What the first reading gave: `rows` of each source, a digest of all, a sample."""

    rows: Sequence[int]
    digest: str
    sample: Sequence[SampleRow]

    @property
    def chunks(self) -> int:
        """Chunks that the second reading will give."""
        return sum(-(-count // _ROWS_PER_CHUNK) for count in self.rows)


@dataclass(frozen=True, kw_only=True)
class ChunkTask:
    """Neighbouring rows of one source; `first` is the number of the first of them, from 1."""

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
    normalised: Mapping[str, int]
    dropped: Mapping[str, int]
    leaks: int
    examples: Mapping[str, Sequence[Example]]


_COUNTS = TypeAdapter(ChunkCounts)


def survey(sources: Sequence[Source], report: Report) -> Survey:
    """Read all rows once; raise a DataError for a value that is no text, or a wrong number of rows."""
    sample, digest, counts = Sample(), hashlib.blake2b(digest_size=16), []
    for number, source in enumerate(sources):
        count = 0
        for english, target in _texts(source):
            digest.update(f"{len(english)} {len(target)} {english}{target}".encode("utf-8", "surrogatepass"))
            sample.add(SampleRow(english=english, target=target, source=number, index=count))
            count += 1
        check_count(source.found, "rows", count)
        name = source.found.recipe.name
        digest.update(f"end of {name}".encode())
        counts.append(count)
        report(Progress(stage=f"{name}: {count:,} rows"))
    return Survey(rows=counts, digest=digest.hexdigest(), sample=sample.rows)


def chunk_tasks(sources: Sequence[Source]) -> Iterator[ChunkTask]:
    """Read all rows again, in chunks that never span two sources."""
    number = 0
    for index, source in enumerate(sources):
        rows, first = _texts(source), 1
        while chunk := list(islice(rows, _ROWS_PER_CHUNK)):
            english, target = zip(*chunk, strict=True)
            yield ChunkTask(
                number=number,
                source=index,
                name=source.found.recipe.name,
                first=first,
                english=english,
                target=target,
            )
            number, first = number + 1, first + len(chunk)


def _texts(source: Source) -> Iterator[tuple[str, str]]:
    for row in parallel_rows(source.found, blank_lines=True):
        english, target = ("" if value is None else value for value in row.values)
        if not isinstance(english, str) or not isinstance(target, str):
            problem = f"expected two texts, got {row.values!r:.80}"
            raise DataError(f"{row.where}: {problem}; correct or remove this row")
        yield english, target


def _path(folder: Path, number: int) -> Path:
    return folder / f"chunk-{number:06d}.arrow"


def write_chunk(folder: Path, task: ChunkTask, filtered: FilteredRows) -> None:
    """Write the living rows of a chunk, their features and the counts."""
    alive = np.flatnonzero(filtered.verdicts == 0)
    english, target = filtered.english.take(alive), filtered.target.take(alive)
    features = pair_features(english, target)
    table = pa.table(
        {
            "english": pa.array(english.texts, pa.string()),
            "target": pa.array(target.texts, pa.string()),
            "row": pa.array(alive + task.first, pa.int64()),
            "leak": pa.array(filtered.leaks[alive], pa.bool_()),
            "key": features.keys,
            "parts": pa.FixedSizeListArray.from_arrays(features.parts.T.reshape(-1), PARTS),
            "bags": pa.FixedSizeListArray.from_arrays(features.bags.T.reshape(-1), len(features.bags)),
            **{
                f"{side}_tokens": pa.LargeListArray.from_arrays(tokens.offsets, tokens.ids)
                for side, tokens in zip(_SIDES, (features.english, features.target), strict=True)
            },
        }
    ).replace_schema_metadata({"counts": _COUNTS.dump_json(_counts(task, filtered))})
    with (
        replacing(_path(folder, task.number)) as temporary,
        pa.ipc.new_file(str(temporary), table.schema) as writer,
    ):
        writer.write_table(table)


def _counts(task: ChunkTask, filtered: FilteredRows) -> ChunkCounts:
    def example(row: int) -> Example:
        return Example.cut(task.name, task.first + row, task.english[row], task.target[row])

    examples = {rule: [example(row) for row in rows] for rule, rows in filtered.examples.items()}
    dropped = {}
    for rule, code in CODES.items():
        rows = np.flatnonzero(filtered.verdicts == code)
        if len(rows):
            dropped[rule] = len(rows)
            examples[rule] = [example(row) for row in rows[:EXAMPLES].tolist()]
    return ChunkCounts(
        source=task.source,
        rows=len(task.english),
        alive=int((filtered.verdicts == 0).sum()),
        normalised={rule: count for rule, count in filtered.normalised.items() if count},
        dropped=dropped,
        leaks=int(filtered.leaks.sum()),
        examples=examples,
    )


def read_counts(folder: Path, number: int) -> ChunkCounts:
    """Read the counts of a chunk."""
    with pa.memory_map(str(_path(folder, number))) as file:
        return _COUNTS.validate_json(pa.ipc.open_file(file).schema.metadata[b"counts"])


def read_chunk(folder: Path, number: int) -> pa.Table:
    """Read a chunk's living rows: `english`, `target`, `row`, `leak` and their features."""
    return pa.ipc.open_file(pa.memory_map(str(_path(folder, number)))).read_all()


def all_features(folder: Path, alive: Sequence[int]) -> PairFeatures:
    """Join the features of all chunks, with so many living rows each, in memory-mapped files."""
    rows = sum(alive)
    keys = np.empty(rows, np.uint64)
    # A file of no bytes cannot be mapped.
    parts = np.memmap(folder / "parts.bin", np.uint64, "w+", shape=(PARTS, max(rows, 1)))[:, :rows]
    bags = np.memmap(folder / "bags.bin", np.uint64, "w+", shape=(4, max(rows, 1)))[:, :rows]
    first = 0
    for number, count in enumerate(alive):
        chunk, here = read_chunk(folder, number), slice(first, first + count)
        keys[here] = chunk["key"].to_numpy()
        for name, out in (("parts", parts), ("bags", bags)):
            out[:, here] = _flat(chunk[name]).reshape(count, len(out)).T
        first += count
    english, target = (_all_tokens(folder, f"{side}_tokens", len(alive)) for side in _SIDES)
    return PairFeatures(keys=keys, parts=parts, bags=bags, english=english, target=target)


def _all_tokens(folder: Path, column: str, chunks: int) -> TokenRows:
    lists = (read_chunk(folder, number)[column] for number in range(chunks))
    lengths: list[NDArray[np.int64]] = []

    def ids() -> Iterator[NDArray[np.uint32]]:
        for tokens in lists:
            lengths.append(pc.list_value_length(tokens).to_numpy())
            yield _flat(tokens)

    joined = temporary_array(ids(), np.uint32)
    return TokenRows(ids=joined, offsets=row_offsets(np.concatenate(lengths)))


def _flat(column: pa.ChunkedArray) -> NDArray[Any]:
    return np.asarray(pc.list_flatten(column).to_numpy())


def filter_chunks(
    tasks: Iterator[ChunkTask], row_filter: RowFilter, folder: Path, *, workers: int
) -> Iterator[int]:
    """Filter the chunks that the folder does not hold yet, in this process (`workers` 1) or in new ones.

    Yield the rows of each chunk as it completes. Raise a DataError where a process dies.
    """
    if workers == 1:
        for task in tasks:
            known = _path(folder, task.number).exists()
            yield len(task.english) if known else _filter(task, folder, row_filter)
        return
    # Fresh processes: a fork of one that runs threads may hang, and would copy all that this one has loaded.
    fresh = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(workers, mp_context=fresh, initializer=_start, initargs=(row_filter,)) as pool:
        running: set[Future[int]] = set()
        try:
            for task in tasks:
                if _path(folder, task.number).exists():
                    yield len(task.english)
                    continue
                running.add(pool.submit(_filter, task, folder))
                if len(running) > 2 * workers:
                    done, running = wait(running, return_when=FIRST_COMPLETED)
                    yield sum(item.result() for item in done)
            for item in running:
                yield item.result()
        except BrokenProcessPool as error:
            died = f"one of {workers} worker processes died, most often for want of memory"
            raise DataError(f"{folder}: {died}; run it again with fewer --workers: it goes on") from error
        finally:
            pool.shutdown(wait=True, cancel_futures=True)


_STATE: dict[str, RowFilter] = {}
"""A worker process' filter, sent once and not with each task."""


def _start(row_filter: RowFilter) -> None:
    # Ctrl-C reaches all of them; the first process ends the others.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    _STATE["filter"] = row_filter


def _filter(task: ChunkTask, folder: Path, row_filter: RowFilter | None = None) -> int:
    row_filter = row_filter or _STATE["filter"]
    write_chunk(folder, task, row_filter(task.english, task.target, task.source))
    return len(task.english)


def _end_with_parent() -> None:
    """End this worker when the first process is killed; it would wait for work for ever."""
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)
