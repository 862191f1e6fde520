"""From parallel sentences to batches: everything frozen is computed once and stored."""

import shutil
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import ftfy
import numpy as np
import tokenizers
import torch
import transformers
from numpy.typing import NDArray
from torch import Tensor

from langadapt.data.batches import DistillBatch
from langadapt.data.parallel import ParallelSentences, distinct, split_by_english
from langadapt.data.tokens import Tokens
from langadapt.errors import Progress, Report
from langadapt.files.store import Fill, SharedRows, StoreSpec, fingerprint, shared_rows, stored_rows
from langadapt.files.temporary import join_texts, take_texts
from langadapt.models import Student, Teacher
from langadapt.models.load import uses_bf16
from langadapt.recipes import DistillStage
from langadapt.training.loop import MicroBatch
from langadapt.training.run import StateBits

# Part of the store's fingerprint: raise it when a change here or in the tower changes its rows.
_TARGETS_VERSION = 5

_ANCHORS = 2_048
_RIVALS = 10_000
"""At most so many training sentences compete with the held-out ones."""


@dataclass(frozen=True, kw_only=True)
class Examples:
    """Rows, int64 `[n]`, of texts and of their targets."""

    text: NDArray[np.int64]
    target: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.text)


@dataclass(frozen=True, kw_only=True)
class FrozenStates:
    """Hidden states in a store: `rows` is mapped, a row for each token, `count` states of `width`."""

    tokens: Tokens
    rows: Tensor
    count: int
    width: int

    def of(self, texts: NDArray[np.int64]) -> Tensor:
        """Normalised states bfloat16 `[N, L, H]` of the N tokens of some texts, one text behind another."""
        rows = self.rows.index_select(0, torch.from_numpy(self.tokens.positions(texts)))
        if rows.dtype == torch.int8:
            return _wide(rows, self.count, self.width)
        return rows.view(len(rows), self.count, self.width)


@dataclass(frozen=True, kw_only=True)
class DistillData:
    """Distinct texts, normalised `targets` of distinct English texts, the examples that join them."""

    tokens: Tokens
    targets: SharedRows
    states: FrozenStates | None
    train: Examples
    held_out: Examples
    state_bits: StateBits = 16
    english: int = 0
    """So many last rows of `train` are English text without translations, beside pairs."""
    rivals: NDArray[np.int64] = field(default_factory=lambda: np.zeros(0, np.int64))
    """Targets of training sentences, among which held-out texts must find their own: int64 `[M]`."""

    @property
    def anchors(self) -> Tensor:
        """Teacher's embeddings `[A, D]` of up to 2,048 training sentences, the same in every run."""
        rows = np.random.default_rng(0).permutation(np.unique(self.train.target))
        return self.targets.take(rows[:_ANCHORS])

    def batch(self, examples: Examples, rows: NDArray[np.int64]) -> DistillBatch:
        text = examples.text[rows]
        states = None if self.states is None else self.states.of(text)
        targets = self.targets.take(examples.target[rows])
        return DistillBatch(text=self.tokens.batch(text), targets=targets, states=states)

    def with_states(self, batch: DistillBatch, student: Student) -> DistillBatch:
        """The batch with its frozen hidden states: what no store holds is computed, and rounded as in one."""
        if batch.states is not None or not student.states_are_fixed:
            return batch
        states = student.packed_states(batch.text)
        _, count, width = states.shape
        narrow = self.state_bits == 8
        return replace(batch, states=_wide(_narrow(states), count, width) if narrow else states.bfloat16())


class SplitBatches:
    """Out-of-memory recovery: split batches into micro-batches of nearly equal size.

    The distance is a mean over rows, so the gradient stays the same up to rounding. A `contrastive` loss
    compares fewer rows and `dropout` draws other numbers: both are reported.
    """

    def __init__(self, *, contrastive: bool, dropout: bool, report: Report) -> None:
        self.count = 1
        self._contrastive, self._dropout, self._report = contrastive, dropout, report

    def micro_batches(self, batch: DistillBatch) -> list[MicroBatch[DistillBatch]]:
        rows = len(batch.targets)
        if self.count == 1:
            return [MicroBatch(batch, 1.0)]
        parts = torch.arange(rows).chunk(self.count)
        return [MicroBatch(_rows(batch, part), len(part) / rows) for part in parts]

    def shrink(self, batch: DistillBatch) -> bool:
        if self.count >= len(batch.targets):
            return False
        self.count *= 2
        if self._contrastive:
            same = "the result differs: the contrastive part compares rows within a micro-batch only"
        elif self._dropout:
            same = "the result is equal but for dropout, which draws other numbers, and rounding"
        else:
            same = "the result is the same up to rounding"
        self._report(
            Progress(
                stage=f"out of memory: each batch now runs in {self.count} micro-batches, gradients added "
                f"up; {same}"
            )
        )
        return True


def _rows(batch: DistillBatch, rows: Tensor) -> DistillBatch:
    """Neighbouring rows of a batch, without the padding that they do not need."""
    text = batch.text.rows(rows)
    longest = int(text.mask.sum(dim=1).max())
    if not text.mask[:, longest:].any():  # else padded on the left
        text = text.cut(longest)
    states = None
    if batch.states is not None:
        ends = batch.text.mask.sum(dim=1).cumsum(dim=0).tolist()
        first, last = int(rows[0]), int(rows[-1])
        states = batch.states[ends[first - 1] if first else 0 : ends[last]]
    return DistillBatch(text=text, targets=batch.targets[rows], states=states)


@dataclass(frozen=True, kw_only=True)
class Cache:
    """Where what is frozen is stored."""

    folder: Path
    state_bytes: int
    """Budget of the hidden states; 0 computes them in each step."""
    state_bits: StateBits = 16
    """Bits of a stored number: 8 round each 64 numbers to 255 steps up to the largest of them."""
    settle: Callable[[bool], bool] = bool
    """Told whether the hidden states fit, says whether they are stored: a resumed run does as it began."""


def prepare(
    corpora: Sequence[ParallelSentences],
    *,
    stage: DistillStage,
    teacher: Teacher,
    student: Student,
    cache: Cache,
    report: Report,
) -> DistillData:
    """Split and tokenise parallel sentences; embed each distinct English one; cache frozen hidden states.

    Corpora in `en` are English text without translations and come last. The held-out sentences are of the
    pairs where there are any.
    """
    english = join_texts(corpus.english for corpus in corpora)
    target = join_texts(corpus.target for corpus in corpora)
    generator = torch.Generator().manual_seed(stage.seed)
    pairs = sum(len(corpus.english) for corpus in corpora if corpus.language != "en")
    count = stage.held_out_sentences
    split = split_by_english(english, held_out=count, generator=generator, first=pairs or None)
    paired, alone = split.train[split.train < pairs], split.train[split.train >= pairs]
    order = torch.randperm(len(paired), generator=generator).numpy()
    identity = paired[order[: round(stage.identity_fraction * len(paired))]]
    sources = distinct(english)
    learnt = join_texts([target, take_texts(english, identity)])
    same = distinct(learnt)
    texts = take_texts(learnt, same.first)

    targets = teacher_targets(take_texts(english, sources.first), teacher, cache.folder, report)
    tokens, index = student.frozen_states.store_order(student.text_model.tokenize(texts))
    english_row, text_row = sources.index, index[same.index]
    known = np.setdiff1d(english_row[split.train], english_row[split.held_out])
    some = torch.randperm(len(known), generator=generator)[:_RIVALS].numpy()
    return DistillData(
        tokens=tokens,
        targets=targets,
        states=frozen_states(tokens, student, cache, report),
        train=Examples(
            text=np.concatenate([text_row[paired], text_row[len(target) :], text_row[alone]]),
            target=np.concatenate([english_row[paired], english_row[identity], english_row[alone]]),
        ),
        english=len(alone) if pairs else 0,
        rivals=known[some],
        held_out=Examples(text=text_row[split.held_out], target=english_row[split.held_out]),
        state_bits=cache.state_bits,
    )


def teacher_targets(texts: Sequence[str], teacher: Teacher, cache: Path, report: Report) -> SharedRows:
    """Embed distinct English texts with the teacher; runs share the stored embeddings."""
    key = fingerprint(
        _TARGETS_VERSION,
        transformers.__version__,
        tokenizers.__version__,
        ftfy.__version__,
        teacher.source.revision,
        teacher.max_tokens,
        teacher.fixed_tokens,
        uses_bf16(teacher.device),
    )
    text = teacher.text

    def compute(missing: NDArray[np.int64], left: int) -> tuple[NDArray[np.int64], Fill]:
        before = len(texts) - left
        report(Progress(stage=f"teacher embeddings: {text.description}, {before:,} of {len(texts):,} known"))
        tokens, index = text.store_order(text.tokenize(take_texts(texts, missing)))
        order = np.empty_like(missing)
        order[index] = missing

        def fill(done: int) -> Iterator[Tensor]:
            for _, embedded in text.in_store_order(tokens, first=done):
                yield embedded
                done += len(embedded)
                report(Progress(stage="teacher embeddings", done=before + done, total=len(texts)))

        return order, fill

    return shared_rows(cache / "teacher-text" / key, texts, dim=teacher.dim, compute=compute)


# Part of the store's fingerprint: raise it when a change here or in the towers changes its rows.
_STATES_VERSION = 4

_GROUP = 64


def frozen_states(tokens: Tokens, student: Student, cache: Cache, report: Report) -> FrozenStates | None:
    """Compute the adapter's input for every text, or find it in the cache; report why there is none."""
    if not student.states_are_fixed:
        report(Progress(stage="text model: something of it trains, so its states are computed in each step"))
        return None
    encoder, folder, budget, bits = student.text_model, cache.folder, cache.state_bytes, cache.state_bits
    count, width = encoder.check_layers(student.layers), encoder.state_dim
    key = fingerprint(
        _STATES_VERSION,
        transformers.__version__,
        encoder.source.revision,
        student.layers,
        uses_bf16(encoder.device),
        tokens.ids,
        tokens.offsets,
    )
    spec, half = (_spec(key, len(tokens.ids), count, width, each) for each in (bits, 8))
    folder.mkdir(parents=True, exist_ok=True)
    have = budget > 0 and (folder / spec.kind / spec.fingerprint / "rows.bin").exists()
    free = shutil.disk_usage(folder).free
    size = f"{spec.bytes / 1e9:.2f} GB"
    fits = have or spec.bytes <= min(budget, 0.9 * free)
    is_stored = cache.settle(fits)
    if is_stored != fits:
        report(Progress(stage="frozen states: as this run began, whatever the disk and its budget are now"))
    if not is_stored:
        limit = f"budget {budget / 1e9:.2f} GB" if spec.bytes > budget else f"free disk {free / 1e9:.2f} GB"
        if bits == 16 and half.bytes <= min(budget, 0.9 * free):
            limit += f"; {half.bytes / 1e9:.2f} GB with --state-bits 8"
        report(Progress(stage=f"frozen states: computed in each step ({size} to cache, {limit})"))
        return None
    report(Progress(stage=f"frozen states: cached, {size} of a budget of {budget / 1e9:.2f} GB"))

    def stored(states: Tensor) -> Tensor:
        return states.flatten(1) if bits == 16 else _narrow(states)

    def compute(done: int) -> Iterator[Tensor]:
        first = int(np.searchsorted(tokens.offsets, done))
        report(Progress(stage=f"frozen states: {student.frozen_states.description}"))
        for rows, states in student.frozen_states.in_store_order(tokens, first=first, convert=stored):
            yield states
            report(Progress(stage="frozen states", done=int(rows[-1]) + 1, total=len(tokens)))

    return FrozenStates(tokens=tokens, rows=stored_rows(folder, spec, compute), count=count, width=width)


def _spec(key: str, rows: int, count: int, width: int, bits: StateBits) -> StoreSpec:
    if bits == 16:
        return StoreSpec(kind="states", fingerprint=key, rows=rows, dim=count * width, dtype="bfloat16")
    dim = count * (width + 2 * (width // _group(width)))
    return StoreSpec(kind="states-8-bits", fingerprint=key, rows=rows, dim=dim, dtype="int8")


def _group(width: int) -> int:
    """How many numbers share a scale: in many text models a few of a state are far larger than the rest."""
    return _GROUP if width % _GROUP == 0 else width


def _narrow(states: Tensor) -> Tensor:
    """`[N, L, H]` as int8 `[N, L * H + 2 * G]`: the numbers, and behind them the bytes of G scales."""
    groups = states.flatten(1).view(len(states), -1, _group(states.shape[2]))
    scale = (groups.abs().amax(dim=-1) / 127).bfloat16()
    steps = (groups / scale[..., None].clamp(min=1e-30)).round().clamp(-127, 127).to(torch.int8)
    return torch.cat([steps.flatten(1), scale.view(torch.int8)], dim=1)


def _wide(rows: Tensor, count: int, width: int) -> Tensor:
    """What `_narrow` made, back as bfloat16 `[N, L, H]`."""
    steps, scale = rows[:, : count * width], rows[:, count * width :].contiguous().view(torch.bfloat16)
    wide = steps.reshape(*scale.shape, -1).to(torch.bfloat16).mul_(scale[..., None])
    return wide.view(len(rows), count, width)
