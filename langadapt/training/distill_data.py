"""From parallel sentences to batches: everything frozen is computed once and stored."""

import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
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
from langadapt.data.store import StoreSpec, fingerprint, stored_rows
from langadapt.data.texts import chosen, joined
from langadapt.data.tokens import Tokens, in_order
from langadapt.models import Student, Teacher
from langadapt.models.device import uses_bf16
from langadapt.models.text_engine import BATCH_TOKENS, TextPath
from langadapt.progress import Progress, Report
from langadapt.recipes import DistillStage

# Part of every store's fingerprint: raise it when a change here or in the towers changes their output.
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

    `targets` are unit rows, one per distinct English text; `states [N, L * H]` bfloat16, normed, one row per
    token, or None if they are computed anew in each step.
    """

    tokens: Tokens
    targets: SharedRows
    states: Tensor | None
    state_shape: tuple[int, int]
    train: Examples
    held_out: Examples

    def batch(self, examples: Examples, rows: NDArray[np.int64]) -> DistillBatch:
        """Some examples as one batch."""
        text = examples.text[rows]
        states = None
        if self.states is not None:
            flat = self.states.index_select(0, torch.from_numpy(self.tokens.positions(text)))
            states = flat.view(-1, *self.state_shape)
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
    states = _states(tokens, student, cache, state_cache_bytes, report)
    return DistillData(
        tokens=tokens,
        targets=targets,
        states=states,
        state_shape=(student.text_model.check_layers(student.layers), student.text_model.state_dim),
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
    way = _way(teacher.text_path, teacher.device)

    def compute(missing: NDArray[np.int64], left: int) -> tuple[NDArray[np.int64], Fill]:
        before = len(texts) - left
        report(Progress(stage=f"teacher embeddings: {way}, {before:,} of {len(texts):,} known"))
        tokens, place = _in_store_order(teacher.tokenize(chosen(texts, missing)), teacher.text_path)
        lengths = teacher.padded_lengths(tokens)
        order = np.empty_like(missing)
        order[place] = missing

        def fill(done: int) -> Iterator[Tensor]:
            for rows in in_order(lengths, batch_tokens=BATCH_TOKENS, first=done):
                yield teacher.encode_texts(tokens, rows)
                done = before + int(rows[-1]) + 1
                report(Progress(stage="teacher embeddings", done=done, total=len(texts)))

        return order, fill

    return shared_rows(cache / "teacher-text" / key, texts, dim=teacher.dim, compute=compute)


def _states(tokens: Tokens, student: Student, cache: Path, budget: int, report: Report) -> Tensor | None:
    if not student.states_are_fixed:
        what = "new pieces" if student.trains == "frozen" else student.trains
        report(Progress(stage=f"text model: trains {what}, so its states are computed in each step"))
        return None
    encoder = student.text_model
    width = encoder.check_layers(student.layers) * encoder.state_dim
    key = fingerprint(
        _CODE_VERSION,
        transformers.__version__,
        encoder.source.revision,
        student.layers,
        uses_bf16(encoder.device),
        tokens.ids,
        tokens.offsets,
    )
    spec = StoreSpec(
        kind="states", fingerprint=key, rows=int(tokens.offsets[-1]), dim=width, dtype="bfloat16"
    )
    cache.mkdir(parents=True, exist_ok=True)
    have = budget > 0 and (cache / spec.kind / key / "rows.bin").exists()
    free = shutil.disk_usage(cache).free
    size = f"{spec.bytes / 1e9:.2f} GB"
    if not have and (spec.bytes > budget or spec.bytes > 0.9 * free):
        limit = f"budget {budget / 1e9:.2f} GB" if spec.bytes > budget else f"free disk {free / 1e9:.2f} GB"
        report(Progress(stage=f"frozen states: computed in each step ({size} to cache, {limit})"))
        return None
    report(Progress(stage=f"frozen states: cached, {size} of a budget of {budget / 1e9:.2f} GB"))

    def compute(done: int) -> Iterator[Tensor]:
        first = int(np.searchsorted(tokens.offsets, done))
        report(Progress(stage=f"frozen states: {_way(encoder.engine.path, encoder.device)}"))
        for rows in in_order(tokens.lengths, batch_tokens=BATCH_TOKENS, first=first):
            yield student.frozen_states(tokens, rows).flatten(1)
            report(Progress(stage="frozen states", done=int(rows[-1]) + 1, total=len(tokens)))

    return stored_rows(cache, spec, compute)


def _in_store_order(tokens: Tokens, path: TextPath) -> tuple[Tokens, NDArray[np.int64]]:
    """Texts as a store holds them, and the place of each in it (int64 `[len(tokens)]`).

    Padded batches are cut from texts that are sorted by length; packed ones want neighbours of many lengths.
    """
    return tokens.by_length() if path == "padded" else (tokens, np.arange(len(tokens)))


def _way(path: TextPath, device: torch.device) -> str:
    """How a tower runs, for people."""
    how = "texts packed, several in a row" if path == "packed" else "transformers' own forward pass, padded"
    return f"{how}, {'bfloat16' if uses_bf16(device) else 'float32'}"
