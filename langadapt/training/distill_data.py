"""From parallel sentences to batches: everything frozen is computed once and stored."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import tokenizers
import torch
import transformers
from numpy.typing import NDArray
from torch import Tensor

from langadapt.data.distill_batch import DistillBatch
from langadapt.data.distinct import distinct
from langadapt.data.parallel import ParallelSentences
from langadapt.data.shared_rows import Fill, SharedRows, shared_rows
from langadapt.data.split import split_by_english
from langadapt.data.store import fingerprint
from langadapt.data.texts import chosen, joined
from langadapt.data.tokens import Tokens, in_order
from langadapt.models import Student, Teacher
from langadapt.models.device import uses_bf16
from langadapt.models.side_by_side import side_by_side
from langadapt.models.text_engine import BATCH_TOKENS, TextPath, how_it_runs
from langadapt.progress import Progress, Report
from langadapt.recipes import DistillStage
from langadapt.training.frozen_states import FrozenStates, StateBits, frozen_states

# Part of the store's fingerprint: raise it when a change here or in the tower changes its rows.
_CODE_VERSION = 3


@dataclass(frozen=True, kw_only=True)
class Examples:
    """Which text goes with which target: row numbers int64 `[n]` into the texts and the targets."""

    text: NDArray[np.int64]
    target: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.text)


@dataclass(frozen=True, kw_only=True)
class DistillData:
    """Distinct texts and targets, and the examples that connect them.

    `targets` are unit rows, one per distinct English text; `states` are those of the text model where it is
    frozen and they are stored.
    """

    tokens: Tokens
    targets: SharedRows
    states: FrozenStates | None
    train: Examples
    held_out: Examples

    def batch(self, examples: Examples, rows: NDArray[np.int64]) -> DistillBatch:
        """Some examples as one batch."""
        text = examples.text[rows]
        states = None if self.states is None else self.states.of(text)
        targets = self.targets.take(examples.target[rows])
        return DistillBatch(text=self.tokens.batch(text), targets=targets, states=states)


def prepare(
    corpora: Sequence[ParallelSentences],
    *,
    stage: DistillStage,
    teacher: Teacher,
    student: Student,
    cache: Path,
    state_cache_bytes: int,
    state_bits: StateBits,
    report: Report,
) -> DistillData:
    """Splits, tokenises and encodes parallel sentences.

    Args:
        corpora: parallel sentences; all are used alike.
        stage: the recipe's distill stage.
        teacher: embeds the English side, each distinct sentence once.
        student: its text model's states are cached where it is frozen and they fit.
        cache: folder of the stores.
        state_cache_bytes: budget of the state store.
        state_bits: of a number in it.
        report: told what is done.
    """
    english = joined(corpus.english for corpus in corpora)
    target = joined(corpus.target for corpus in corpora)
    generator = torch.Generator().manual_seed(stage.seed)
    split = split_by_english(english, held_out=stage.held_out_sentences, generator=generator)
    identity = split.train[
        torch.randperm(len(split.train), generator=generator)[
            : round(stage.identity_fraction * len(split.train))
        ].numpy()
    ]
    sources = distinct(english)
    learnt = joined([target, chosen(english, identity)])
    places = distinct(learnt)
    texts = chosen(learnt, places.first)

    targets = teacher_targets(chosen(english, sources.first), teacher, cache, report)
    tokens, text_row = _in_store_order(student.text_model.tokenize(texts), student.text_model.engine.path)
    english_of = sources.index
    target_of = text_row[places.index]
    states = frozen_states(
        tokens, student, cache=cache, budget=state_cache_bytes, bits=state_bits, report=report
    )
    return DistillData(
        tokens=tokens,
        targets=targets,
        states=states,
        train=Examples(
            text=np.concatenate([target_of[split.train], target_of[len(target) :]]),
            target=np.concatenate([english_of[split.train], english_of[identity]]),
        ),
        held_out=Examples(text=target_of[split.held_out], target=english_of[split.held_out]),
    )


def teacher_targets(texts: Sequence[str], teacher: Teacher, cache: Path, report: Report) -> SharedRows:
    """The teacher's embeddings of distinct English texts: computed once, whichever run needs them first."""
    key = fingerprint(
        _CODE_VERSION,
        transformers.__version__,
        tokenizers.__version__,
        teacher.source.revision,
        teacher.max_tokens,
        teacher.fixed_tokens,
        uses_bf16(teacher.device),
    )
    way = how_it_runs(teacher.text_path, teacher.device)

    def compute(missing: NDArray[np.int64], left: int) -> tuple[NDArray[np.int64], Fill]:
        before = len(texts) - left
        report(Progress(stage=f"teacher embeddings: {way}, {before:,} of {len(texts):,} known"))
        tokens, place = _in_store_order(teacher.tokenize(chosen(texts, missing)), teacher.text_path)
        lengths = teacher.padded_lengths(tokens)
        order = np.empty_like(missing)
        order[place] = missing

        def fill(done: int) -> Iterator[Tensor]:
            batches = in_order(lengths, batch_tokens=BATCH_TOKENS, first=done)
            for embedded in side_by_side(partial(teacher.encode_texts, tokens), batches, teacher.device):
                yield embedded
                done += len(embedded)
                report(Progress(stage="teacher embeddings", done=before + done, total=len(texts)))

        return order, fill

    return shared_rows(cache / "teacher-text" / key, texts, dim=teacher.dim, compute=compute)


def _in_store_order(tokens: Tokens, path: TextPath) -> tuple[Tokens, NDArray[np.int64]]:
    """Texts as a store holds them, and the place of each in it (int64 `[len(tokens)]`).

    Padded batches are cut from texts that are sorted by length; packed ones want neighbours of many lengths.
    """
    return tokens.by_length() if path == "padded" else (tokens, np.arange(len(tokens)))
