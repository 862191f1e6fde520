"""From pairs to batches: a locked image tower runs once and is stored, an unlocked one gets pixels."""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from langadapt.data.batches import ContrastBatch, DistillBatch, ahead, epoch_batches, steps_per_epoch
from langadapt.data.images import broken_images, open_image, random_view
from langadapt.data.pairs import Pairs
from langadapt.data.parallel import Split, split_by_image
from langadapt.data.tokens import Tokens
from langadapt.errors import DataError, Progress, Report
from langadapt.models import Teacher
from langadapt.models.caches import stored_images
from langadapt.recipes import ContrastStage

_WORKERS = 4


@dataclass(frozen=True, kw_only=True)
class Share:
    """Which part of each batch this process takes."""

    index: int
    count: int


@dataclass(frozen=True, kw_only=True, eq=False)
class ParallelPool:
    """Sentences of the distillation term: `targets [N, D]` float32 unit rows, one for each text."""

    tokens: Tokens
    targets: Tensor

    def batch(self, *, size: int, seed: int, step: int, share: Share) -> DistillBatch:
        """This process's share of the sentences of one step, drawn by seed and step alone."""
        generator = torch.Generator().manual_seed(seed * 1_000_003 + step)
        count = min(size, len(self.tokens)) // share.count * share.count
        rows = torch.randint(len(self.tokens), (count,), generator=generator)[share.index :: share.count]
        return DistillBatch(text=self.tokens.batch(rows.numpy()), targets=self.targets[rows])


@dataclass(frozen=True, kw_only=True, eq=False)
class ContrastData:
    """Captions, images and how they are split.

    `rows [images, D]` are the locked tower's; None where it learns. `image_ids` and `caption_ids`, int64
    `[pairs]`, are equal where images (byte for byte) or captions are.
    """

    pairs: Pairs
    tokens: Tokens
    image_ids: NDArray[np.int64]
    caption_ids: NDArray[np.int64]
    rows: Tensor | None
    split: Split
    teacher: Teacher
    stage: ContrastStage
    pool: ParallelPool | None = None
    pool_size: int = 0

    @property
    def steps_per_epoch(self) -> int:
        """Batches of one epoch."""
        return steps_per_epoch(len(self.split.train), self.stage.batch_size)

    def batches(
        self, epoch: int, first: int, share: Share, *, order: Iterator[NDArray[np.int64]] | None = None
    ) -> Iterator[ContrastBatch]:
        """Batches of one epoch, each prepared while the one before it trains.

        Args:
            epoch: counted from 0.
            first: batches to pass over.
            share: of this process.
            order: numbers of pairs, a batch at a time, beginning with batch `first`; it is asked for the next
                batch when the one before it is handed out. None: each training pair once.
        """
        train, stage = self.split.train, self.stage
        if order is None:
            lengths = self.tokens.lengths[train]
            ordinary = epoch_batches(
                lengths, batch_size=stage.batch_size, seed=stage.seed, epoch=epoch, first=first
            )
            order = (train[rows] for rows in ordinary)

        def make(numbered: tuple[int, NDArray[np.int64]]) -> ContrastBatch:
            number, rows = numbered
            step = epoch * self.steps_per_epoch + first + number
            return self.batch(rows, share=share, epoch=epoch, step=step)

        yield from ahead(make, enumerate(order))

    def batch(self, rows: NDArray[np.int64], *, share: Share, epoch: int | None, step: int) -> ContrastBatch:
        """The share of some pairs as one batch, images augmented where the tower learns."""
        rows = rows[: len(rows) // share.count * share.count]
        order = np.concatenate([rows[part :: share.count] for part in range(share.count)])
        mine = rows[share.index :: share.count]
        images, place = np.unique(self.pairs.image_of_text[mine], return_inverse=True)
        pool = None
        if self.pool is not None:
            pool = self.pool.batch(size=self.pool_size, seed=self.stage.seed, step=step, share=share)
        return ContrastBatch(
            text=self.tokens.batch(mine),
            images=self.images(images, epoch=epoch),
            image_index=torch.from_numpy(place),
            image_ids=torch.from_numpy(self.image_ids[order]),
            caption_ids=torch.from_numpy(self.caption_ids[order]),
            pairs=order,
            parallel=pool,
        )

    def images(self, numbers: NDArray[np.int64], *, epoch: int | None) -> dict[str, Tensor]:
        """Embeddings or pixels of some images; `epoch` None shows them whole."""
        if self.rows is not None:
            return {"rows": self.rows[torch.from_numpy(numbers)]}

        def pixels(number: int) -> dict[str, Tensor]:
            image = open_image(self.pairs.images[number])
            if epoch is not None and self.stage.augment:
                seed = (self.stage.seed * 1_000_003 + epoch) * 1_000_003 + number
                generator = torch.Generator().manual_seed(seed % 2**63)
                image = random_view(image, flip=self.stage.flip, generator=generator)
            return self.teacher.pixels([image])

        with ThreadPoolExecutor(_WORKERS) as pool:
            made = list(pool.map(pixels, numbers.tolist()))
        return {key: torch.cat([item[key] for item in made]) for key in made[0]}


def prepare_pairs(
    pairs: Pairs,
    *,
    stage: ContrastStage,
    teacher: Teacher,
    tokenize: Callable[[Sequence[str]], Tokens],
    fraction: float,
    locked: bool,
    report: Report,
) -> ContrastData:
    """Checks, tokenises and splits pairs, and runs the image tower where it is locked.

    Args:
        pairs: what to train on.
        stage: how.
        teacher: its image tower, and its image processor.
        tokenize: the text tower's.
        fraction: share of the training images that is used; the held-out ones stay the same.
        locked: the image tower runs once.
        report: told what is done.

    Raises:
        DataError: broken images (all of them are counted, the first ones named), too few images.
    """
    pairs = without_broken(pairs, skip=stage.broken_images == "skip", report=report)
    image_ids = _numbered(pairs.image_digests)[pairs.image_of_text]
    generator = torch.Generator().manual_seed(stage.seed)
    split = split_by_image(image_ids, fraction=stage.held_out_fraction, generator=generator)
    if fraction < 1.0:
        kept = np.unique(image_ids[split.train])
        kept = kept[torch.randperm(len(kept), generator=generator).numpy()]
        kept = kept[: max(2, round(fraction * len(kept)))]
        split = Split(train=split.train[np.isin(image_ids[split.train], kept)], held_out=split.held_out)

    def embedded(done: int, total: int) -> None:
        report(Progress(stage="image embeddings", done=done, total=total))

    return ContrastData(
        pairs=pairs,
        tokens=tokenize(pairs.texts),
        image_ids=image_ids,
        caption_ids=_numbered(pairs.texts),
        rows=stored_images(teacher, pairs.images, progress=embedded) if locked else None,
        split=split,
        teacher=teacher,
        stage=stage,
    )


def without_broken(pairs: Pairs, *, skip: bool, report: Report) -> Pairs:
    """The pairs whose images can be read.

    Raises:
        DataError: some cannot, and `skip` is not set.
    """

    def checked(done: int, total: int) -> None:
        report(Progress(stage="images checked", done=done, total=total))

    broken = broken_images(pairs.images, fingerprint=pairs.fingerprint, progress=checked)
    if not broken:
        return pairs
    if not skip:
        raise DataError(
            f"{pairs.name}: {len(broken)} of {len(pairs.images)} images cannot be read, first "
            f"{broken[0].reason}; `langadapt data check` lists all, `broken_images: skip` leaves them out"
        )
    left = pairs.without([item.number for item in broken])
    gone = len(pairs.texts) - len(left.texts)
    report(Progress(stage=f"{pairs.name}: {len(broken)} broken images with {gone} captions left out"))
    return left


def _numbered(values: Sequence[str]) -> NDArray[np.int64]:
    places: dict[str, int] = {}
    return np.array([places.setdefault(value, len(places)) for value in values], np.int64)
