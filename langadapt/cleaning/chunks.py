"""Chunks on disk: what a worker leaves behind when it has judged one, and how all of them are read
together."""

import hashlib
import json
import multiprocessing
import os
import signal
import threading
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from langadapt.cleaning.duplicates import PARTS, PairFeatures, pair_features
from langadapt.cleaning.profile import Sample, SampleRow
from langadapt.cleaning.report import DROPPING, EXAMPLES, Example
from langadapt.cleaning.rules import ChunkJudge, Judge, JudgedChunk
from langadapt.cleaning.words import Side, TokenRows
from langadapt.data.parallel import parallel_rows
from langadapt.errors import DataError, Progress, Report
from langadapt.files.atomic import write_text
from langadapt.recipes.data import ParallelRecipe
from langadapt.recipes.find import RecipeFile


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


_ROWS_PER_CHUNK = 10_000


@dataclass(frozen=True, kw_only=True)
class Source:
    """A corpus and how much it counts: with weight 0.5 every second clean row stays, with 2 each stands
    twice."""

    found: RecipeFile[ParallelRecipe]
    weight: float = 1.0

    def __post_init__(self) -> None:
        if not 0 < self.weight <= 100:
            raise DataError(
                f"{self.found.recipe.name}: weight must be above 0 and at most 100, got {self.weight:g}"
            )


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


def survey(sources: Sequence[Source], report: Report) -> Survey:
    """Reads all rows once.

    Raises:
        DataError: unreadable data, a value that is no text, another number of rows than a recipe's
        `expected_rows`.
    """
    sample, digest, counts = Sample(), hashlib.blake2b(digest_size=16), []
    for number, source in enumerate(sources):
        recipe = source.found.recipe
        count = 0
        for english, target in _texts(source):
            digest.update(f"{len(english)} {len(target)} {english}{target}".encode("utf-8", "surrogatepass"))
            sample.see(SampleRow(english=english, target=target, source=number, place=count))
            count += 1
        if recipe.expected_rows is not None and count != recipe.expected_rows:
            raise DataError(
                f"{source.found.path}: expected_rows is {recipe.expected_rows}, the data hold {count}; "
                "fetch the release that the recipe names or correct expected_rows"
            )
        digest.update(f"end of {recipe.name}".encode())
        counts.append(count)
        report(Progress(stage=f"{recipe.name}: {count:,} rows"))
    return Survey(rows=counts, digest=digest.hexdigest(), sample=sample.rows)


def chunk_tasks(sources: Sequence[Source]) -> Iterator[ChunkTask]:
    """All rows again, in chunks that never span two sources."""
    number = 0
    for place, source in enumerate(sources):
        english: list[str] = []
        target: list[str] = []
        first = 1

        def task(number: int) -> ChunkTask:
            return ChunkTask(
                number=number,
                source=place,  # noqa: B023 - used at once
                name=source.found.recipe.name,  # noqa: B023
                first=first,  # noqa: B023
                english=english,  # noqa: B023
                target=target,  # noqa: B023
            )

        for pair in _texts(source):
            english.append(pair[0])
            target.append(pair[1])
            if len(english) == _ROWS_PER_CHUNK:
                yield task(number)
                number, first = number + 1, first + len(english)
                english, target = [], []
        if english:
            yield task(number)
            number += 1


def _texts(source: Source) -> Iterator[tuple[str, str]]:
    for row in parallel_rows(source.found, blank_lines=True):
        english, target = ("" if value is None else value for value in row.values)
        if not isinstance(english, str) or not isinstance(target, str):
            raise DataError(
                f"{row.where}: expected two texts, got {row.values!r:.80}; correct or remove this row"
            )
        yield english, target


_STATE: dict[str, ChunkJudge] = {}


def judge_chunks(tasks: Iterator[ChunkTask], judge: Judge, folder: Path, *, workers: int) -> Iterator[int]:
    """Judges all chunks that the folder does not hold yet.

    Args:
        tasks: chunks in order; they are read as they are needed.
        judge: what they are judged by.
        folder: where they are written.
        workers: processes; 1 works in this one.

    Yields:
        Rows of each chunk that is complete, as it completes.

    Raises:
        DataError: a process died, most often for want of memory.
    """
    if workers == 1:
        own = ChunkJudge(judge=judge)
        for task in tasks:
            if not chunk_path(folder, task.number, "json").exists():
                write_chunk(folder, task, own(task.english, task.target, task.source))
            yield len(task.english)
        return
    # Fresh processes: a fork of one that runs threads may hang, and would copy all that this one has loaded.
    fresh = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(workers, mp_context=fresh, initializer=_start, initargs=(judge,)) as pool:
        running: set[Future[int]] = set()
        try:
            for task in tasks:
                if chunk_path(folder, task.number, "json").exists():
                    yield len(task.english)
                    continue
                running.add(pool.submit(_judge, task, folder))
                if len(running) > 2 * workers:
                    done, running = wait(running, return_when=FIRST_COMPLETED)
                    yield sum(item.result() for item in done)
            for item in running:
                yield item.result()
        except BrokenProcessPool as error:
            raise DataError(
                f"{folder}: one of {workers} worker processes died, most often for want of memory; run the "
                "same command with fewer --workers: it goes on with the chunks that are missing"
            ) from error
        finally:
            pool.shutdown(wait=True, cancel_futures=True)


def _start(judge: Judge) -> None:
    signal.signal(
        signal.SIGINT, signal.SIG_IGN
    )  # Ctrl-C reaches all of them; the first process ends the others
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    _STATE["judge"] = ChunkJudge(judge=judge)


def _judge(task: ChunkTask, folder: Path) -> int:
    write_chunk(folder, task, _STATE["judge"](task.english, task.target, task.source))
    return len(task.english)


def _end_with_parent() -> None:
    """A killed first process ends nobody: without this its workers would wait for work for ever."""
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)
