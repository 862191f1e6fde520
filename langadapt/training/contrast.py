"""Pairs as contrastive training sees them: batches of captions and images, validation on held-out ones."""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from langadapt.data.batches import ContrastBatch, DistillBatch, ahead, epoch_batches, steps_per_epoch
from langadapt.data.images import broken_images, open_image, random_view
from langadapt.data.pairs import Pairs
from langadapt.data.parallel import Split, split_by_image
from langadapt.data.tokens import Tokens, by_length
from langadapt.errors import DataError, Progress, Report, TrainingError, counted
from langadapt.metrics.ranks import Positives, Ranks, positive_ranks
from langadapt.metrics.retrieval import CUTOFFS
from langadapt.models import Teacher
from langadapt.models.caches import stored_images
from langadapt.models.tuning import ContrastModel
from langadapt.nn.losses import duplicates, sigmoid_contrast, softmax_contrast
from langadapt.recipes import AlignStage, ContrastStage
from langadapt.training.loop import Validation

_WORKERS = 4
_VALIDATION_IMAGES = 64
_VALIDATION_TOKENS = 8192
_LOSS_PAIRS = 1024

CONTRASTS = {"softmax": softmax_contrast, "sigmoid": sigmoid_contrast}


@dataclass(frozen=True, kw_only=True)
class Share:
    """Which part of each batch this process takes."""

    index: int
    count: int


@dataclass(frozen=True, kw_only=True, eq=False)
class ParallelPool:
    """Sentences of the distillation term, `batch_size` of them a step in all processes together.

    `targets [N, D]` are their float32 normalised embeddings; the term counts with `weight`.
    """

    tokens: Tokens
    targets: Tensor
    batch_size: int
    weight: float

    def batch(self, *, seed: int, step: int, share: Share) -> DistillBatch:
        """This process's share of the sentences of one step, drawn by seed and step alone."""
        generator = torch.Generator().manual_seed(seed * 1_000_003 + step)
        count = min(self.batch_size, len(self.tokens)) // share.count * share.count
        rows = torch.randint(len(self.tokens), (count,), generator=generator)[share.index :: share.count]
        return DistillBatch(text=self.tokens.batch(rows.numpy()), targets=self.targets[rows])


@dataclass(frozen=True, kw_only=True, eq=False)
class ContrastData:
    """Captions and images, and how they are split.

    `embeddings [images, D]` of the locked tower; None where it learns. `image_ids` and `caption_ids`, int64
    `[pairs]`, are equal where images (byte for byte) or captions are.
    """

    pairs: Pairs
    tokens: Tokens
    image_ids: NDArray[np.int64]
    caption_ids: NDArray[np.int64]
    embeddings: Tensor | None
    split: Split
    teacher: Teacher
    stage: ContrastStage
    pool: ParallelPool | None = None

    @property
    def steps_per_epoch(self) -> int:
        return steps_per_epoch(len(self.split.train), self.stage.batch_size)

    def batches(
        self, epoch: int, first: int, share: Share, *, order: Iterator[NDArray[np.int64]] | None = None
    ) -> Iterator[ContrastBatch]:
        """Prepare the batches of one epoch, from `first` on, each while the one before it trains.

        `order` yields the pair indices of these batches, each when the batch before it is handed out. None:
        each training pair once.
        """
        if order is None:
            train, size, seed = self.split.train, self.stage.batch_size, self.stage.seed
            lengths = self.tokens.lengths[train]
            ordinary = epoch_batches(lengths, batch_size=size, seed=seed, epoch=epoch, first=first)
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
        own = rows[share.index :: share.count]
        images, index = np.unique(self.pairs.image_of_text[own], return_inverse=True)
        pool = self.pool
        return ContrastBatch(
            text=self.tokens.batch(own),
            images=self.images(images, epoch=epoch),
            image_index=torch.from_numpy(index),
            image_ids=torch.from_numpy(self.image_ids[order]),
            caption_ids=torch.from_numpy(self.caption_ids[order]),
            pairs=order,
            parallel=None if pool is None else pool.batch(seed=self.stage.seed, step=step, share=share),
        )

    def images(self, numbers: NDArray[np.int64], *, epoch: int | None) -> dict[str, Tensor]:
        """Embeddings or pixels of some images; `epoch` None shows them whole."""
        if self.embeddings is not None:
            return {"rows": self.embeddings[torch.from_numpy(numbers)]}

        def pixels(number: int) -> dict[str, Tensor]:
            image = open_image(self.pairs.images[number])
            if epoch is not None and self.stage.augment:
                seed = (self.stage.seed * 1_000_003 + epoch) * 1_000_003 + number
                generator = torch.Generator().manual_seed(seed % 2**63)
                image = random_view(image, flip=self.stage.flip, generator=generator)
            return self.teacher.pixels([image])

        with ThreadPoolExecutor(_WORKERS) as workers:
            each = list(workers.map(pixels, numbers.tolist()))
        return {key: torch.cat([item[key] for item in each]) for key in each[0]}


def prepare_pairs(
    pairs: Pairs,
    *,
    stage: ContrastStage,
    teacher: Teacher,
    tokenize: Callable[[Sequence[str]], Tokens],
    fraction: float = 1.0,
    report: Report,
) -> ContrastData:
    """Check, tokenise and split pairs; run the teacher's image tower where it is locked.

    `fraction` of the training images is used; the held-out ones stay the same. Broken images are a DataError,
    which counts them all and names the first, unless the stage skips them.
    """
    pairs = _without_broken(pairs, skip=stage.broken_images == "skip", report=report)
    image_ids = _ids(pairs.image_digests)[pairs.image_of_text]
    generator = torch.Generator().manual_seed(stage.seed)
    split = split_by_image(image_ids, fraction=stage.held_out_fraction, generator=generator)
    if fraction < 1.0:
        kept = np.unique(image_ids[split.train])
        kept = kept[torch.randperm(len(kept), generator=generator).numpy()]
        kept = kept[: max(2, round(fraction * len(kept)))]
        split = Split(train=split.train[np.isin(image_ids[split.train], kept)], held_out=split.held_out)
    embedded = counted(report, "image embeddings")
    return ContrastData(
        pairs=pairs,
        tokens=tokenize(pairs.texts),
        image_ids=image_ids,
        caption_ids=_ids(pairs.texts),
        embeddings=stored_images(teacher, pairs.images, progress=embedded) if is_locked(stage) else None,
        split=split,
        teacher=teacher,
        stage=stage,
    )


def is_locked(stage: ContrastStage) -> bool:
    """Whether the image encoder runs once; the projection that `align` trains is a new one behind it."""
    methods = set(stage.image)
    return methods <= {"locked", "projection"} if isinstance(stage, AlignStage) else methods == {"locked"}


def _without_broken(pairs: Pairs, *, skip: bool, report: Report) -> Pairs:
    checked = counted(report, "images checked")
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


def _ids(values: Sequence[str]) -> NDArray[np.int64]:
    """Number values by their first occurrence; equal ones get the same number."""
    known: dict[str, int] = {}
    return np.array([known.setdefault(value, len(known)) for value in values], np.int64)


@torch.inference_mode()
def _held_out(model: ContrastModel, data: ContrastData, step: int) -> tuple[Tensor, Tensor, Tensor]:
    """Held-out captions `[T, D]` and distinct images `[I, D]`, normalised; each caption's image `[T]`."""
    model.eval()
    rows = data.split.held_out
    # Copies of an image are one candidate: the first file stands for all.
    _, first, owners = np.unique(data.image_ids[rows], return_index=True, return_inverse=True)
    images = data.pairs.image_of_text[rows[first]]
    parts = []
    for start in range(0, len(images), _VALIDATION_IMAGES):
        inputs = data.images(images[start : start + _VALIDATION_IMAGES], epoch=None)
        parts.append(model.image_rows(inputs).cpu())
    image = F.normalize(torch.cat(parts).float(), dim=-1)
    text = torch.zeros(len(rows), image.shape[1])
    for batch in by_length(data.tokens.lengths[rows], batch_tokens=_VALIDATION_TOKENS):
        text[torch.from_numpy(batch.copy())] = model.text_rows(data.tokens.batch(rows[batch])).cpu()
    text = F.normalize(text, dim=-1)
    if not (torch.isfinite(text).all() and torch.isfinite(image).all()):
        raise TrainingError(
            f"embeddings are not finite after step {step}; the last checkpoint is kept: lower the "
            "stage's learning rates"
        )
    return text, image, torch.from_numpy(owners)


def _ranks(text: Tensor, image: Tensor, owners: Tensor) -> Ranks:
    return positive_ranks(text, image, positives=Positives(text=torch.arange(len(text)), image=owners))


def validate_pairs(model: nn.Module, data: ContrastData, *, step: int) -> Validation:
    """mR6 of the held-out captions and images, and their contrastive loss; both must be finite."""
    assert isinstance(model, ContrastModel)
    text, image, owners = _held_out(model, data, step)
    ranks, cutoffs = _ranks(text, image, owners), torch.tensor(CUTOFFS)
    recalls = [100.0 * (side[:, None] <= cutoffs).double().mean().item() for side in (ranks.t2i, ranks.i2t)]
    rows = data.split.held_out[:_LOSS_PAIRS]  # the loss only breaks ties: a part is enough
    ignored = duplicates(torch.from_numpy(data.image_ids[rows]), torch.from_numpy(data.caption_ids[rows]))
    with torch.inference_mode():
        similarity = text[: len(rows)] @ image[owners][: len(rows)].T
        logits = model.temperature(similarity.to(model.temperature.log_scale.device)).cpu()
        loss = float(CONTRASTS[data.stage.loss](logits, ignored))
    return Validation(recall=sum(recalls) / 2, loss=loss)


def caption_ranks(model: ContrastModel, data: ContrastData) -> NDArray[np.int64]:
    """At which rank each held-out caption finds its image, int64 `[T]`, 1 is the best."""
    ranks: NDArray[np.int64] = _ranks(*_held_out(model, data, 0)).t2i.numpy()
    return ranks
