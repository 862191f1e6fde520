"""Whole batches on a CPU's cores side by side, instead of each batch on all cores."""

import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from itertools import chain, islice
from typing import TypeVar

import torch

Item = TypeVar("Item")
Result = TypeVar("Result")
_WORKERS = 8
"""More Python threads than these wait for each other."""


def side_by_side(
    work: Callable[[Item], Result], items: Iterable[Item], device: torch.device
) -> Iterator[Result]:
    """Results of `work` in the order of the items.

    A core that has a batch for itself waits for nobody. Cores that share every operation wait for one another
    at its end, the longer the more another program disturbs one of them.

    Args:
        work: sets by itself what belongs to a thread (inference mode).
        items: taken as they are needed, a few ahead. The first one, and few ones, run on all cores.
        device: where `work` computes; elsewhere than on a CPU one item runs after the other.
    """
    threads = torch.get_num_threads()
    each = -(-threads // _WORKERS)
    workers = threads // each
    left = iter(items)
    soon = list(islice(left, 2 * workers))
    if device.type != "cpu" or workers == 1 or len(soon) < 2 * workers:
        yield from map(work, chain(soon, left))
        return
    yield work(soon[0])  # alone: it may make what the others share
    started = threading.Barrier(workers + 1)

    def start() -> None:
        torch.get_num_threads()  # a thread's first question would undo what was set before it
        torch.set_num_threads(each)
        started.wait()

    waiting: deque[Future[Result]] = deque()
    with ThreadPoolExecutor(workers) as pool:
        with ExitStack() as undo:
            undo.callback(started.abort)  # a thread that cannot start, or Ctrl-C: the others must not wait
            for _ in range(workers):
                pool.submit(start)
            started.wait()
            undo.pop_all()
        torch.set_num_threads(threads)  # threads that begin from now on have what they had before
        try:
            for item in chain(soon[1:], left):
                waiting.append(pool.submit(work, item))
                if len(waiting) > workers:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            pool.shutdown(cancel_futures=True)
