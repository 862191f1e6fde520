"""Batches: the order in which training sees its rows, and what a batch holds."""

from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property, lru_cache
from itertools import islice
from typing import NamedTuple, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from langadapt.data.tokens import Layout, TextBatch
from langadapt.recipes import DistillStage

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
    """Yield the row numbers of one epoch in batches, int64, of like length unless `pool_batches` is 1.

    Rows, whose tokens `lengths [rows]` counts, are shuffled, sorted by length inside pools of `pool_batches`
    batches, and the batches are shuffled again. The order depends on seed and epoch alone. Rows that fill no
    batch are left out, other ones in each epoch; fewer rows than a batch are one batch. A resumed run passes
    over the `first` batches.
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


@dataclass(frozen=True, kw_only=True)
class Mixture:
    """The order of the rows: pairs in epochs, beside them English text in an order of its own."""

    lengths: NDArray[np.int64]
    """Tokens of each row; the last `english` ones have no translation."""
    english: int
    language: NDArray[np.int64]
    """Number of the language of each row that has a translation."""
    stage: DistillStage

    @cached_property
    def drawn(self) -> NDArray[np.int64]:
        """Rows of each language in one pass over the pairs, by temperature, at least one."""
        ends = language_shares(self.language, self.stage.language_temperature).cumsum() * len(self.language)
        drawn = np.maximum(np.diff(np.rint(ends).astype(np.int64), prepend=0), 1)
        while drawn.sum() > len(self.language):
            drawn[drawn.argmax()] -= 1
        return np.asarray(drawn)

    @cached_property
    def english_per_batch(self) -> int:
        """The share of English text in a batch, at most half."""
        return round(self.stage.batch_size * min(0.5, self.english / len(self.lengths)))

    @cached_property
    def steps(self) -> int:
        """Batches of one pass over the pairs."""
        return steps_per_epoch(
            len(self.lengths) - self.english, self.stage.batch_size - self.english_per_batch
        )

    @cached_property
    def passes(self) -> int:
        """Passes of an epoch."""
        return self.stage.passes(self.steps)

    def describe(self) -> str:
        """Say how many steps the run makes and why."""
        epochs = self.stage.epochs
        text = f"steps: {epochs * self.passes * self.steps:,} in {epochs} epochs"
        if self.passes > 1:
            text += f" of {self.passes} passes of {self.steps}, for min_steps {self.stage.min_steps:,}"
        if self.english_per_batch:
            text += f"; {self.english_per_batch} of {self.stage.batch_size} rows are English text"
        return text

    def batches(self, epoch: int, first: int) -> Iterator[NDArray[np.int64]]:
        """Yield the row numbers of each batch of an epoch but the `first` ones; seed and step decide them."""
        pairs, share = len(self.lengths) - self.english, self.english_per_batch
        for done in range(first, self.passes * self.steps):
            turn, skip = divmod(done, self.steps)
            if done == first or not skip:
                taken = self._taken(epoch * self.passes + turn)
                order = epoch_batches(
                    self.lengths[taken],
                    batch_size=self.stage.batch_size - share,
                    seed=self.stage.seed,
                    epoch=epoch * self.passes + turn,
                    first=skip,
                    pool_batches=1,
                )
            rows = taken[next(order)]
            if share:
                step = epoch * self.passes * self.steps + done
                rows = np.concatenate([rows, pairs + _in_turn(self.english, share, step, self.stage.seed)])
            yield rows

    def _taken(self, number: int) -> NDArray[np.int64]:
        """Return the rows of one pass over the pairs: of each language its share, all in turn."""
        if len(self.drawn) == 1:
            return np.arange(len(self.language))
        own = (np.flatnonzero(self.language == code) for code in range(len(self.drawn)))
        parts = zip(own, self.drawn.tolist(), strict=True)
        return np.concatenate([rows[_in_turn(len(rows), n, number, self.stage.seed)] for rows, n in parts])


def language_shares(language: NDArray[np.int64], temperature: float) -> NDArray[np.float64]:
    """Return what share of the rows each language gets: its number of rows to the power of 1/temperature."""
    counts = np.bincount(language)
    weights = (counts / counts.max()) ** (1 / temperature)  # of counts as they are, it could be infinite
    return np.asarray(weights / weights.sum())


def _in_turn(count: int, size: int, number: int, seed: int) -> NDArray[np.int64]:
    """Return part `number`, of `size` rows, of endless rounds through `count` rows, each in a new order."""
    rounds, places = np.divmod(np.arange(number * size, (number + 1) * size), count)
    return np.concatenate(
        [_shuffled(count, seed, r)[places[rounds == r]] for r in np.unique(rounds).tolist()]
    )


@lru_cache(maxsize=2)  # a batch may end one round and begin the next
def _shuffled(count: int, seed: int, number: int) -> NDArray[np.int64]:
    """Return the order of rows in one round through them."""
    generator = torch.Generator().manual_seed(seed * 1_000_003 + number)
    return torch.randperm(count, generator=generator).numpy()


def ahead(make: Callable[[Item], Batch], items: Iterator[Item], *, count: int = 1) -> Iterator[Batch]:
    """Apply `make` to `count` items ahead of the consumer, each in a thread; results come in order."""
    with ThreadPoolExecutor(count) as workers:
        waiting = deque(workers.submit(make, item) for item in islice(items, count))
        try:
            for item in items:
                waiting.append(workers.submit(make, item))
                yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            workers.shutdown(cancel_futures=True)  # whoever stops asking does not wait for the rest


class AdapterBatch(NamedTuple):
    """What an adapter learns from where the text model is frozen; tensors alone, so that it can be recorded.

    `states [N, L, H]` are the frozen text model's hidden states of the tokens of B texts, one text after
    another; `targets [B, D]` the teacher's embeddings, float32 and normalised. The rest is their `Layout`.
    """

    states: Tensor
    targets: Tensor
    tokens: Tensor
    texts: Tensor
    places: Tensor
    mask: Tensor

    @property
    def layout(self) -> Layout:
        return Layout(*self[2:])


@dataclass(frozen=True, kw_only=True)
class DistillBatch:
    """Texts of a student whose text model trains, and the `targets` that an `AdapterBatch` has, too."""

    text: TextBatch
    targets: Tensor


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
