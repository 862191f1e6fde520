"""Whole batches on a CPU's cores side by side, instead of each batch on all cores."""

import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

import torch

Item = TypeVar("Item")
Result = TypeVar("Result")
_WORKERS = 8
"""More than so many Python threads wait for each other."""


def side_by_side(
    work: Callable[[Item], Result], items: Iterable[Item], device: torch.device
) -> Iterator[Result]:
    """Results of `work` in the order of the items.

    A core that works alone on a batch waits for nobody; cores that share each operation wait for one
    another at the end of each, most of all where something else runs on one of them.

    Args:
        work: without gradients; what it needs of a thread's state (inference mode) it sets itself.
        items: taken as they are needed, a few ahead.
        device: where `work` computes; on anything but a CPU it is called for one item after the other.
    """
    threads = torch.get_num_threads()
    each = -(-threads // _WORKERS)
    workers = threads // each
    if device.type != "cpu" or workers == 1:
        yield from map(work, items)
        return
    started = threading.Barrier(workers + 1)

    def start() -> None:
        torch.set_num_threads(each)
        started.wait()

    waiting: deque[Future[Result]] = deque()
    with ThreadPoolExecutor(workers) as pool:
        for _ in range(workers):
            pool.submit(start)
        started.wait()
        torch.set_num_threads(threads)  # what threads that begin from now on have
        try:
            for item in items:
                waiting.append(pool.submit(work, item))
                if len(waiting) > workers:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            pool.shutdown(cancel_futures=True)
