"""Steps of few shapes, recorded once for each and replayed: a GPU then waits for no Python.

A recording (a CUDA graph) repeats the same operations on the same memory. So a step gets its tensors in
buffers of its own, leaves its results in tensors that were there before, and decides nothing by a value on
the host.
"""

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Protocol

import torch
from torch import Tensor
from torch.autograd.graph import increment_version

_MOST_SHAPES = 32

Step = Callable[[Any], None]
"""Takes a named tuple of tensors."""


class Recorder(Protocol):
    """What a device can record. `warm_up` runs a step as it is; `record` only notes what it would do."""

    def warm_up(self, step: Callable[[], None]) -> None: ...
    def record(self, step: Callable[[], None]) -> Callable[[], None]: ...


class Replay:
    """Takes steps: the first ones of a shape as they are, those behind them from a recording.

    The first step of all makes what a recording may not make: the optimizer's state, libraries' workspaces.
    `changes` are the tensors that a step changes in place. Up to 32 shapes are recorded, as each takes memory
    for its buffers; steps of further ones are taken as they are.
    """

    def __init__(self, step: Step, recorder: Recorder, *, changes: Sequence[Tensor]) -> None:
        self._step, self._recorder = step, recorder
        self._changes = changes
        self._warm: set[tuple[torch.Size, ...]] = set()
        self._recorded: dict[tuple[torch.Size, ...], tuple[Any, Callable[[], None]]] = {}
        self.recording = False
        """A step is being recorded, or failed to be: what it would have changed is as it was."""

    def __call__(self, batch: Any) -> None:
        """Take a step on a named tuple of tensors, the same kind with the same dtypes each time."""
        shapes = tuple(tensor.shape for tensor in batch)
        full = len(self._recorded) == _MOST_SHAPES and shapes not in self._recorded
        if full or shapes not in self._warm:
            self._recorder.warm_up(lambda: self._step(batch))
            self._warm.add(shapes)
            return
        if shapes not in self._recorded:
            self.recording = True
            buffers = type(batch)(*(tensor.clone() for tensor in batch))
            self._recorded[shapes] = buffers, self._recorder.record(lambda: self._step(buffers))
            self.recording = False
        buffers, replay = self._recorded[shapes]
        for buffer, tensor in zip(buffers, batch, strict=True):
            buffer.copy_(tensor, non_blocking=True)
        replay()
        # It went past PyTorch, by whose count of changes others see that their copy of a weight is old.
        increment_version(self._changes)


class CudaGraphs:
    """Records CUDA graphs; all of them share one pool of memory, as only one runs at a time.

    Source: the whole-network capture of PyTorch's notes on CUDA graphs.
    """

    def __init__(self) -> None:
        self._aside = torch.cuda.Stream()  # type: ignore[no-untyped-call]
        self._pool = torch.cuda.graph_pool_handle()

    def warm_up(self, step: Callable[[], None]) -> None:
        # Not on the default stream: a backward pass would wait for it in the recording, too.
        self._aside.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(self._aside):
            step()
        torch.cuda.current_stream().wait_stream(self._aside)

    def record(self, step: Callable[[], None]) -> Callable[[], None]:
        graph = torch.cuda.CUDAGraph()
        # Other threads pin memory meanwhile, which a recording would otherwise forbid to all threads.
        record = torch.cuda.graph(
            graph, pool=self._pool, stream=self._aside, capture_error_mode="thread_local"
        )
        # A recording that fails to end leaves its own stream the current one.
        with torch.cuda.stream(torch.cuda.current_stream()), record:
            step()
        return graph.replay


def recorder_for(device: torch.device) -> Recorder | None:
    """What records on a device; None elsewhere than on CUDA, and with `LANGADAPT_CUDA_GRAPHS=0`."""
    wanted = device.type == "cuda" and os.environ.get("LANGADAPT_CUDA_GRAPHS", "1") != "0"
    return CudaGraphs() if wanted else None


def lacks_memory(error: BaseException | None) -> bool:
    """Whether an error, or what it was raised over, says that the host's or a device's memory has run out.

    A recording that breaks off may end with an error of its own over the real one.
    """
    told = ("out of memory", "not enough memory")  # the first also by CUDA itself, as a plain RuntimeError
    while error is not None:
        if isinstance(error, torch.OutOfMemoryError) or any(words in str(error) for words in told):
            return True
        error = error.__context__
    return False


@contextmanager
def seeded(seed: int, device: torch.device) -> Iterator[None]:
    """Seed the generators that a step draws from; afterwards they are as they were.

    A recording that is replayed begins with the seed that its device's generator has then.
    """
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        if device.type not in ("cpu", "cuda"):
            torch.manual_seed(seed)
        else:  # `manual_seed` would write down a stack trace for each kind of device that is not there
            torch.default_generator.manual_seed(seed)
            if device.type == "cuda":
                torch.cuda.manual_seed(seed)
        yield
