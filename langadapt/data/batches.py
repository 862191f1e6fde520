"""Batches: the order in which training sees its rows, and what a batch holds."""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from typing import TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from langadapt.data.tokens import TextBatch

Item = TypeVar("Item")
Batch = TypeVar("Batch")


def epoch_batches(
    lengths: NDArray[np.int64],
    *,
    batch_size: int,
    seed: int,
    epoch: int,
    first: int = 0,
    pool_batches: int = 50,
) -> Iterator[NDArray[np.int64]]:
    """Yield the row numbers of one epoch in batches, of like length unless `pool_batches` is 1.

    Rows are shuffled, sorted by length inside pools of `pool_batches` batches, and the batches are shuffled
    again. The order depends on seed and epoch alone. Rows that fill no batch are left out, other ones in each
    epoch; fewer rows than a batch are one batch.

    Args:
        lengths: tokens per row, int64 `[rows]`.
        batch_size: rows per batch.
        seed: of the run.
        epoch: counted from 0.
        first: batches to pass over, for a resumed run.
        pool_batches: batches that share one sorting.

    Yields:
        int64 `[min(batch_size, rows)]`.
    """
    generator = torch.Generator().manual_seed(seed * 1_000_003 + epoch)
    order = torch.randperm(len(lengths), generator=generator).numpy()
    # Before sorting: afterwards it would always be the longest rows that are left out.
    order = order[: max(batch_size, len(order) // batch_size * batch_size)]
    batches: list[NDArray[np.int64]] = []
    for start in range(0, len(order), batch_size * pool_batches):
        pool = order[start : start + batch_size * pool_batches]
        pool = pool[np.argsort(lengths[pool], kind="stable")]
        batches += [pool[i : i + batch_size] for i in range(0, len(pool), batch_size)]
    for index in torch.randperm(len(batches), generator=generator).tolist()[first:]:
        yield batches[index]


def steps_per_epoch(rows: int, batch_size: int) -> int:
    """Return the number of batches that `epoch_batches` yields."""
    return max(1, rows // batch_size)


def ahead(make: Callable[[Item], Batch], items: Iterator[Item]) -> Iterator[Batch]:
    """Apply `make` one item ahead of the consumer, in a thread."""
    with ThreadPoolExecutor(1) as worker:
        waiting = [worker.submit(make, item) for item in islice(items, 1)]
        for item in items:
            waiting.append(worker.submit(make, item))
            yield waiting.pop(0).result()
        for last in waiting:
            yield last.result()


@dataclass(frozen=True, kw_only=True)
class DistillBatch:
    """Texts of the student, and the teacher's embeddings of their English sides.

    `targets [B, D]` are float32 and normalised. `states [N, L, H]` are the frozen text model's hidden states
    of the N tokens, one text after another, where they are known, so that only the adapter has to run.
    """

    text: TextBatch
    targets: Tensor
    states: Tensor | None = None


@dataclass(frozen=True, kw_only=True)
class ContrastBatch:
    """Captions and their images: this process's share of a batch.

    `images` are `[M, D]` float32 normalised embeddings of a locked tower under the key `rows`, or M processed
    images; `image_index [B]` int64 leads from each caption to its image. `image_ids` and `caption_ids`,
    `[processes * B]` int64, name images and caption texts of the whole batch, one process after the other;
    `pairs`, in the same order, are its numbers among all pairs. `parallel` are for the distillation term.
    """

    text: TextBatch
    images: dict[str, Tensor]
    image_index: Tensor
    image_ids: Tensor
    caption_ids: Tensor
    pairs: NDArray[np.int64]
    parallel: DistillBatch | None = None
