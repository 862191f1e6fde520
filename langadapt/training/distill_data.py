"""From parallel sentences to batches: everything frozen is computed once and stored."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import ftfy
import numpy as np
import tokenizers
import torch
import transformers
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from langadapt.data.batches import AdapterBatch, DistillBatch
from langadapt.data.parallel import ParallelSentences, distinct, split_by_english
from langadapt.data.tokens import Layout, Tokens, in_rows, pinned
from langadapt.errors import Progress, Report
from langadapt.files.store import Fill, SharedRows, fingerprint, shared_rows
from langadapt.files.temporary import join_texts, take_texts
from langadapt.models import Student, Teacher
from langadapt.models.load import uses_bf16
from langadapt.recipes import DistillStage
from langadapt.training.distill_states import (
    Cache,
    FrozenStates,
    RowsOnDevice,
    collected,
    free_memory,
    frozen_states,
    narrow,
    wide,
)
from langadapt.training.loop import MicroBatch
from langadapt.training.run import StateBits

# Part of the store's fingerprint: raise it when a change here or in the tower changes its rows.
_TARGETS_VERSION = 5

_CPU = torch.device("cpu")
_ANCHORS = 2_048
_ROWS_AT_ONCE = 65_536
_RIVALS = 10_000
"""At most so many training sentences compete with the held-out ones."""


@dataclass(frozen=True, kw_only=True)
class Examples:
    """Rows, int64 `[n]`, of texts and of their targets, and the numbers of their languages."""

    text: NDArray[np.int64]
    target: NDArray[np.int64]
    language: NDArray[np.int64]
    """Index into the data's languages; -1 where English text stands beside pairs."""

    def __len__(self) -> int:
        return len(self.text)


@dataclass(frozen=True, kw_only=True)
class DistillRows:
    """Row numbers of the examples in a batch, and what of it the host has read: see `DistillData.batch`."""

    rows: NDArray[np.int64]
    texts: NDArray[np.int64]
    targets: Tensor
    states: Tensor | None
    layout: Layout | None


@dataclass(frozen=True, kw_only=True)
class DistillData:
    """Distinct texts, normalised `targets` of distinct English texts, the examples that join them."""

    tokens: Tokens
    targets: SharedRows
    states: FrozenStates | None
    train: Examples
    held_out: Examples
    device: torch.device = _CPU
    """Where batches are prepared: that of the text model."""
    languages: tuple[str, ...] = ("",)
    state_bits: StateBits = 16
    english: int = 0
    """So many last rows of `train` are English text without translations, beside pairs."""
    rivals: NDArray[np.int64] = field(default_factory=lambda: np.zeros(0, np.int64))
    """Targets of training sentences, among which held-out texts must find their own: int64 `[M]`."""

    def __post_init__(self) -> None:
        _ = self._targets  # before threads ask for it

    @property
    def anchors(self) -> Tensor:
        """Teacher's embeddings `[A, D]` of up to 2,048 training sentences, the same in every run."""
        rows = np.random.default_rng(0).permutation(np.unique(self.train.target))
        return self.targets.take(rows[:_ANCHORS])

    @cached_property
    def _targets(self) -> RowsOnDevice:
        count, held = len(self.targets), None
        if 4 * count * self.targets.dim <= free_memory(self.device) // 4:
            some = (np.arange(i, min(i + _ROWS_AT_ONCE, count)) for i in range(0, count, _ROWS_AT_ONCE))
            held = torch.empty(count, self.targets.dim, device=self.device)
            collected(held, map(self.targets.take, some))
        return RowsOnDevice(device=self.device, read=self.targets.take, held=held)

    @property
    def few_shapes(self) -> bool:
        """Whether batches are padded to few shapes, for which a GPU prepares itself."""
        return self.device.type == "cuda"

    def _layout(self, texts: NDArray[np.int64]) -> Layout:
        few = self.few_shapes
        layout = in_rows(self.tokens.lengths_of(texts), few_shapes=few).layout(whole=few)
        return Layout(*(pinned(table, self.device) for table in layout))

    def batch(self, examples: Examples, rows: NDArray[np.int64]) -> DistillRows:
        """Read some rows: the host's part of a batch, for `prepared`."""
        texts, states = examples.text[rows], self.states
        return DistillRows(
            rows=rows,
            texts=texts,
            targets=self._targets.pick(examples.target[rows]),
            states=None if states is None else states.pick(texts),
            layout=None if states is None else self._layout(texts),
        )

    def prepared(self, batch: DistillRows, student: Student) -> AdapterBatch | DistillBatch:
        """Prepare a batch on the device; frozen states that no store holds are computed."""
        targets = self._targets.deliver(batch.targets)
        if not student.states_are_fixed:
            return DistillBatch(text=self.tokens.batch(batch.texts), targets=targets)
        if self.states is not None and batch.states is not None:
            states = self.states.deliver(batch.states)
        else:  # rounded as in a store
            states = student.packed_states(self.tokens, batch.texts)
            count, width = states.shape[1:]
            states = wide(narrow(states), count, width) if self.state_bits == 8 else states.bfloat16()
        layout = (batch.layout or self._layout(batch.texts)).to(self.device)
        if self.few_shapes:  # no place leads to the rows that are added
            states = F.pad(states, (0, 0, 0, 0, 0, layout.tokens.numel() - len(states)))
        return AdapterBatch(states, targets, *layout)


class SplitBatches:
    """Out-of-memory recovery: split batches into micro-batches of nearly equal size.

    The distance is a mean over rows, so the gradient stays the same up to rounding. A `contrastive` loss
    compares fewer rows and `dropout` draws other numbers: both are reported.
    """

    def __init__(
        self,
        make: Callable[[NDArray[np.int64]], DistillRows],
        *,
        contrastive: bool,
        dropout: bool,
        report: Report,
    ) -> None:
        self.count = 1
        self._make = make
        self._contrastive, self._dropout, self._report = contrastive, dropout, report

    def micro_batches(self, batch: DistillRows) -> list[MicroBatch[DistillRows]]:
        if self.count == 1:
            return [MicroBatch(batch, 1.0)]
        parts = torch.arange(len(batch.rows)).chunk(self.count)
        return [
            MicroBatch(self._make(batch.rows[part.numpy()]), len(part) / len(batch.rows)) for part in parts
        ]

    def shrink(self, batch: DistillRows) -> bool:
        if self.count >= len(batch.rows):
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
    codes = list(dict.fromkeys(c.language for c in corpora if c.language != "en" or not pairs))
    numbers = {code: number for number, code in enumerate(codes)}
    each = [np.full(len(corpus.english), numbers.get(corpus.language, -1), np.int64) for corpus in corpora]
    language, count = np.concatenate(each), stage.held_out_sentences
    split = split_by_english(english, held_out=count, generator=generator, language=language, names=codes)
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
            language=np.concatenate([language[paired], language[identity], language[alone]]),
        ),
        languages=tuple(codes),
        english=len(alone) if pairs else 0,
        rivals=known[some],
        held_out=Examples(
            text=text_row[split.held_out],
            target=english_row[split.held_out],
            language=language[split.held_out],
        ),
        device=student.text_model.device,
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
