"""Chunks judged by several processes; which process judges which changes nothing."""

import multiprocessing
import os
import signal
import threading
from collections.abc import Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path

from langadapt.data.cleaning.chunk import ChunkJudge, Judge
from langadapt.data.cleaning.chunks import ChunkTask, chunk_path, write_chunk
from langadapt.errors import DataError

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
