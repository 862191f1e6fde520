"""Hidden states of a frozen text model and other rows where training needs them: on disk or on the device."""

import shutil
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import transformers
from numpy.typing import NDArray
from torch import Tensor

from langadapt.data.tokens import Tokens, pinned, send
from langadapt.errors import Progress, Report
from langadapt.files.store import StoreSpec, fingerprint, stored_rows
from langadapt.models import Student
from langadapt.models.load import uses_bf16
from langadapt.training.run import StateBits


@dataclass(frozen=True, kw_only=True)
class RowsOnDevice:
    """Rows on their way to a device, in two steps, so that the first can be taken ahead in a thread.

    Where the device has all rows (`held`) their numbers travel, else `read` reads the rows on the host.
    """

    device: torch.device
    read: Callable[[NDArray[np.int64]], Tensor]
    held: Tensor | None = None

    def pick(self, rows: NDArray[np.int64]) -> Tensor:
        """Return what has to travel."""
        return pinned(self.read(rows) if self.held is None else torch.from_numpy(rows), self.device)

    def deliver(self, picked: Tensor) -> Tensor:
        """Return the rows on the device; the host does not wait for them."""
        there = send(picked, self.device)
        return there if self.held is None else self.held.index_select(0, there)


def free_memory(device: torch.device) -> int:
    """Free bytes of a CUDA device; 0 for others, whose memory is the host's."""
    if device.type != "cuda":
        return 0
    torch.cuda.empty_cache()
    return int(torch.cuda.mem_get_info(device)[0])


@dataclass(frozen=True, kw_only=True)
class FrozenStates:
    """Hidden states in a store, a row for each token, `count` states of `width`: mapped, or on the device."""

    tokens: Tokens
    rows: RowsOnDevice
    bits: StateBits
    count: int
    width: int

    def pick(self, texts: NDArray[np.int64]) -> Tensor:
        """Do the host's part of `of`."""
        return self.rows.pick(self.tokens.positions(texts))

    def deliver(self, picked: Tensor) -> Tensor:
        """Do the rest of `of`."""
        rows = self.rows.deliver(picked)
        if self.bits == 8:
            return wide(rows, self.count, self.width)
        return rows.view(len(rows), self.count, self.width)

    def of(self, texts: NDArray[np.int64]) -> Tensor:
        """Normalised states bfloat16 `[N, L, H]` of the N tokens of some texts, one text behind another."""
        return self.deliver(self.pick(texts))


@dataclass(frozen=True, kw_only=True)
class Cache:
    """Where what is frozen is stored."""

    folder: Path
    state_bytes: int | None = None
    """Budget of the hidden states; 0 computes them in each step. None: half of the free memory of a CUDA
    device, and 8 GB of disk."""
    state_bits: StateBits = 16
    """Bits of a stored number: 8 round each 64 numbers to 255 steps up to the largest of them."""
    settle: Callable[[bool], bool] = bool
    """Told whether the hidden states fit, says whether they are stored: a resumed run does as it began."""


# Part of the store's fingerprint: raise it when a change here or in the towers changes its rows.
_STATES_VERSION = 4

_GROUP = 64


DISK_BYTES = 8_000_000_000


def frozen_states(tokens: Tokens, student: Student, cache: Cache, report: Report) -> FrozenStates | None:
    """Compute the adapter's input for every text, or find it in the cache; report why there is none.

    A CUDA device keeps it in its own memory where that fits, and computes it anew in each run, which is
    quicker than to read it. Else it is stored on disk.
    """
    if not student.states_are_fixed:
        report(Progress(stage="text model: something of it trains, so its states are computed in each step"))
        return None
    encoder, bits, device = student.text_model, cache.state_bits, student.text_model.device
    count, width = encoder.check_layers(student.layers), encoder.state_dim
    key = fingerprint(
        _STATES_VERSION,
        transformers.__version__,
        encoder.source.revision,
        student.layers,
        uses_bf16(device),
        tokens.ids,
        tokens.offsets,
    )
    spec = _spec(key, len(tokens.ids), count, width, bits)
    place = _place(spec, _spec(key, len(tokens.ids), count, width, 8), cache, device)
    is_stored = cache.settle(place.fits)
    if is_stored and not place.fits and not place.exists:
        began = (
            "this run began with them stored, for which there is no room now; they are rounded the same way"
        )
        report(Progress(stage=f"frozen states: computed in each step ({place.text}); {began}"))
        return None
    if is_stored != place.fits:
        report(Progress(stage="frozen states: as this run began, whatever memory and budget are now"))
    if not is_stored:
        report(Progress(stage=f"frozen states: computed in each step ({place.text})"))
        return None
    report(Progress(stage=f"frozen states: {place.text}"))

    def stored(states: Tensor) -> Tensor:
        return states.flatten(1) if bits == 16 else narrow(states)

    def compute(done: int) -> Iterator[Tensor]:
        first = int(np.searchsorted(tokens.offsets, done))
        report(Progress(stage=f"frozen states: {student.frozen_states.description}"))
        for rows, states in student.frozen_states.in_store_order(tokens, first=first, convert=stored):
            yield states
            report(Progress(stage="frozen states", done=int(rows[-1]) + 1, total=len(tokens)))

    if place.on_device:
        dtype = torch.int8 if spec.dtype == "int8" else torch.bfloat16
        held = torch.empty(spec.rows, spec.dim, dtype=dtype, device=device)
        rows = collected(held, compute(0))
    else:
        rows, held = stored_rows(cache.folder, spec, compute), None

    def read(positions: NDArray[np.int64]) -> Tensor:
        return rows.index_select(0, torch.from_numpy(positions))

    supply = RowsOnDevice(device=device, read=read, held=held)
    return FrozenStates(tokens=tokens, rows=supply, bits=bits, count=count, width=width)


@dataclass(frozen=True, kw_only=True)
class _Place:
    fits: bool
    on_device: bool
    text: str
    """Size and budget, for people."""
    exists: bool = False
    """Whether they are on disk although they do not fit."""


def _place(spec: StoreSpec, half: StoreSpec, cache: Cache, device: torch.device) -> _Place:
    """Where hidden states have room: on the device, on disk, or nowhere; `half` are the same in 8 bits."""
    size, folder, budget = f"{spec.bytes / 1e9:.2f} GB", cache.folder, cache.state_bytes
    memory = free_memory(device) // 2
    memory = memory if budget is None else min(budget, memory)
    if spec.bytes <= memory:
        text = f"kept on {device}, {size} of a budget of {memory / 1e9:.2f} GB"
        return _Place(fits=True, on_device=True, text=text)
    budget = DISK_BYTES if budget is None else budget
    folder.mkdir(parents=True, exist_ok=True)
    exists = (folder / spec.kind / spec.fingerprint / "rows.bin").exists()
    have = budget > 0 and exists
    free = shutil.disk_usage(folder).free
    if have or spec.bytes <= min(budget, 0.9 * free):
        text = f"cached, {size} of a budget of {budget / 1e9:.2f} GB"
        return _Place(fits=True, on_device=False, text=text)
    limit = f"budget {budget / 1e9:.2f} GB" if spec.bytes > budget else f"free disk {free / 1e9:.2f} GB"
    if half.kind != spec.kind and half.bytes <= max(memory, min(budget, 0.9 * free)):
        limit += f"; {half.bytes / 1e9:.2f} GB with --state-bits 8"
    return _Place(fits=False, on_device=False, text=f"{size} to cache, {limit}", exists=exists)


def collected(rows: Tensor, chunks: Iterable[Tensor]) -> Tensor:
    """Fill rows, on whatever device, with chunks that come in order."""
    done = 0
    for chunk in chunks:
        rows[done : done + len(chunk)] = chunk
        done += len(chunk)
    return rows


def _spec(key: str, rows: int, count: int, width: int, bits: StateBits) -> StoreSpec:
    if bits == 16:
        return StoreSpec(kind="states", fingerprint=key, rows=rows, dim=count * width, dtype="bfloat16")
    dim = count * (width + 2 * (width // _group(width)))
    return StoreSpec(kind="states-8-bits", fingerprint=key, rows=rows, dim=dim, dtype="int8")


def _group(width: int) -> int:
    """How many numbers share a scale: in many text models a few of a state are far larger than the rest."""
    return _GROUP if width % _GROUP == 0 else width


def narrow(states: Tensor) -> Tensor:
    """`[N, L, H]` as int8 `[N, L * H + 2 * G]`: the numbers, and behind them the bytes of G scales."""
    groups = states.flatten(1).view(len(states), -1, _group(states.shape[2]))
    scale = (groups.abs().amax(dim=-1) / 127).bfloat16()
    steps = (groups / scale[..., None].clamp(min=1e-30)).round().clamp(-127, 127).to(torch.int8)
    return torch.cat([steps.flatten(1), scale.view(torch.int8)], dim=1)


def wide(rows: Tensor, count: int, width: int) -> Tensor:
    """What `narrow` made, back as bfloat16 `[N, L, H]`."""
    steps, scale = rows[:, : count * width], rows[:, count * width :].contiguous().view(torch.bfloat16)
    wide = steps.reshape(*scale.shape, -1).to(torch.bfloat16).mul_(scale[..., None])
    return wide.view(len(rows), count, width)
