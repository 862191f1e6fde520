"""The frozen text model's states of all texts: computed once into a store, if that fits the budget."""

import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import torch
import transformers
from numpy.typing import NDArray
from torch import Tensor

from langadapt.data.store import StoreSpec, fingerprint, stored_rows
from langadapt.data.tokens import Tokens, in_order
from langadapt.models import Student
from langadapt.models.device import uses_bf16
from langadapt.models.side_by_side import side_by_side
from langadapt.models.text_engine import BATCH_TOKENS, how_it_runs
from langadapt.progress import Progress, Report

# Part of the store's fingerprint: raise it when a change here or in the towers changes its rows.
_CODE_VERSION = 3
StateBits = Literal[16, 8]
"""What a stored number takes: bfloat16, or int8 beside bfloat16 scales."""
_GROUP = 64


@dataclass(frozen=True, kw_only=True)
class FrozenStates:
    """States in a store: `rows` is mapped, one row a token of all texts, of `count` states of `width`."""

    tokens: Tokens
    rows: Tensor
    count: int
    width: int

    def of(self, texts: NDArray[np.int64]) -> Tensor:
        """Normed states of some texts, bfloat16 `[N, L, H]`: of their N tokens, one text behind another."""
        rows = self.rows.index_select(0, torch.from_numpy(self.tokens.positions(texts)))
        if rows.dtype == torch.int8:
            return _wide(rows, self.count, self.width)
        return rows.view(len(rows), self.count, self.width)


def frozen_states(
    tokens: Tokens, student: Student, *, cache: Path, budget: int, bits: StateBits, report: Report
) -> FrozenStates | None:
    """Computes what the adapter takes of every text, or finds it in the cache.

    Args:
        tokens: of all texts.
        student: its text model is asked where it is frozen.
        cache: folder of all stores.
        budget: bytes that they may take.
        bits: 8 halves them, and rounds each 64 numbers to 255 steps up to the largest of them.
        report: told what is done, and why not.

    Returns:
        None where the states change in training or do not fit.

    Raises:
        DataError: the disk is full or not writable.
    """
    if not student.states_are_fixed:
        what = "new pieces" if student.trains == "frozen" else student.trains
        report(Progress(stage=f"text model: trains {what}, so its states are computed in each step"))
        return None
    encoder = student.text_model
    count, width = encoder.check_layers(student.layers), encoder.state_dim
    key = fingerprint(
        _CODE_VERSION,
        transformers.__version__,
        encoder.source.revision,
        student.layers,
        uses_bf16(encoder.device),
        tokens.ids,
        tokens.offsets,
    )
    spec, half = (_spec(key, len(tokens.ids), count, width, each) for each in (bits, 8))
    cache.mkdir(parents=True, exist_ok=True)
    have = budget > 0 and (cache / spec.kind / spec.fingerprint / "rows.bin").exists()
    free = shutil.disk_usage(cache).free
    size = f"{spec.bytes / 1e9:.2f} GB"
    if not have and (spec.bytes > budget or spec.bytes > 0.9 * free):
        limit = f"budget {budget / 1e9:.2f} GB" if spec.bytes > budget else f"free disk {free / 1e9:.2f} GB"
        if bits == 16 and half.bytes <= min(budget, 0.9 * free):
            limit += f"; {half.bytes / 1e9:.2f} GB with --state-bits 8"
        report(Progress(stage=f"frozen states: computed in each step ({size} to cache, {limit})"))
        return None
    report(Progress(stage=f"frozen states: cached, {size} of a budget of {budget / 1e9:.2f} GB"))

    def asked(rows: NDArray[np.int64]) -> tuple[NDArray[np.int64], Tensor]:
        states = student.frozen_states(tokens, rows)
        return rows, states.flatten(1) if bits == 16 else _narrow(states)

    def compute(done: int) -> Iterator[Tensor]:
        first = int(np.searchsorted(tokens.offsets, done))
        report(Progress(stage=f"frozen states: {how_it_runs(encoder.engine.path, encoder.device)}"))
        batches = in_order(tokens.lengths, batch_tokens=BATCH_TOKENS, first=first)
        for rows, stored in side_by_side(asked, batches, encoder.device):
            yield stored
            report(Progress(stage="frozen states", done=int(rows[-1]) + 1, total=len(tokens)))

    return FrozenStates(tokens=tokens, rows=stored_rows(cache, spec, compute), count=count, width=width)


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
