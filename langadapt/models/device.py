"""What the machine offers."""

import ctypes
import functools
import os
import platform
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from itertools import chain, islice
from typing import TypeVar

import torch

from langadapt.errors import ModelError

# Of mallopt(3).
_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3


@functools.cache
def keep_freed_memory() -> None:
    """Lets the C library keep what is freed, up to 512 MB, for what is asked for next.

    By itself it gives such memory back after each forward pass, and the system clears every page of it anew:
    a third of an adapter's step. Only glibc is told, and not where a `MALLOC_` variable says something else.
    """
    told = any(name.startswith("MALLOC_") for name in os.environ)
    if platform.libc_ver()[0] == "glibc" and not told:
        library = ctypes.CDLL(None)
        library.mallopt(_MMAP_THRESHOLD, 32 << 20)
        library.mallopt(_TRIM_THRESHOLD, 512 << 20)


def chosen_device(name: str | None) -> torch.device:
    """The device of that name, or the best one.

    Raises:
        ModelError: no such device on this machine.
    """
    if name is None:
        return best_device()
    try:
        device = torch.device(name)
        torch.zeros(1, device=device)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        raise ModelError(
            f"--device {name}: not on this machine; leave it out to take {best_device()}"
        ) from error
    return device


def best_device() -> torch.device:
    """A CUDA device if there is one, else Apple's, else the CPU."""
    if torch.cuda.is_available():
        return torch.device("cuda")
    if torch.backends.mps.is_available():
        return torch.device("mps")
    return torch.device("cpu")


def device_name(device: torch.device) -> str:
    """The device with the name that its maker gave it."""
    return f"{device} ({torch.cuda.get_device_name(device)})" if device.type == "cuda" else str(device)


def uses_bf16(device: torch.device) -> bool:
    """Whether models compute in bfloat16 there: where it runs in hardware; elsewhere float32 is faster.

    `LANGADAPT_PRECISION`, `float32` or `bfloat16`, decides instead where it is set.

    Raises:
        ModelError: the variable says something else.
    """
    chosen = os.environ.get("LANGADAPT_PRECISION")
    if chosen:
        if chosen not in ("float32", "bfloat16"):
            raise ModelError(f"LANGADAPT_PRECISION={chosen}: expected float32 or bfloat16")
        return chosen == "bfloat16"
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    if device.type == "cpu":
        flags = torch.cpu.get_capabilities()
        return bool(flags.get("avx512_bf16") or flags.get("amx_bf16") or flags.get("bf16"))
    return False


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
