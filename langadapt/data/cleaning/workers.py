"""Chunks judged by several processes; which process judges which changes nothing."""

import multiprocessing
from collections.abc import Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from pathlib import Path

from langadapt.data.cleaning.chunk import ChunkJudge, Judge
from langadapt.data.cleaning.chunks import ChunkTask, chunk_path, write_chunk

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
        finally:
            pool.shutdown(wait=True, cancel_futures=True)


def _start(judge: Judge) -> None:
    _STATE["judge"] = ChunkJudge(judge=judge)


def _judge(task: ChunkTask, folder: Path) -> int:
    write_chunk(folder, task, _STATE["judge"](task.english, task.target, task.source))
    return len(task.english)
