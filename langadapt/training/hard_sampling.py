"""Draws difficult pairs more often: the difficulty bank as contrastive training uses it."""

import json
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator
from accelerate.utils import broadcast
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from langadapt.errors import Progress, Report
from langadapt.files.atomic import write_text
from langadapt.models.tuning import ContrastModel
from langadapt.nn.losses import difficulty, duplicates
from langadapt.recipes import DomainStage
from langadapt.training.contrast_data import ContrastData, Share
from langadapt.training.difficulty import DifficultyBank, SamplingRule
from langadapt.training.held_out import caption_ranks, held_out
from langadapt.training.run import RunFolder, kept_tensor

QUARTERS = 4

"""The training pairs in equal parts by their difficulty at the start, the easiest first."""


@dataclass(kw_only=True, eq=False)
class HardSampler:
    """What the draws depend on, and what was drawn.

    Each process keeps a bank of its own and moves it by the numbers of process 0, so all draw the same pairs.
    A batch is drawn while the one before it trains: it knows the difficulties of two steps ago.
    """

    bank: DifficultyBank
    start: NDArray[np.float32]
    """Difficulty `[n]` of each training pair before the stage."""
    pairs: NDArray[np.int64]
    """Numbers `[n]` of the training pairs among all pairs, ascending."""
    quarter: NDArray[np.uint8]
    """Which quarter `[n]` each training pair belongs to."""
    stage: DomainStage
    steps_per_epoch: int
    times: NDArray[np.uint16]
    """How often `[n]` each training pair was in a batch; stops at 65,535."""
    drawn: list[int] = field(default_factory=lambda: [0] * QUARTERS)
    """Pairs of each quarter in the batches of this epoch."""
    _waiting: dict[int, NDArray[np.int64]] = field(default_factory=dict)
    _seen: tuple[NDArray[np.int64], Tensor] | None = None

    def order(self, epoch: int, first: int) -> Iterator[NDArray[np.int64]] | None:
        """Batches of an epoch as numbers of pairs, from batch `first` on; None for ordinary epochs."""
        spec = self.stage.sampling
        return None if not spec.strength or epoch < spec.uniform_epochs else self._draws(epoch, first)

    def see(self, pairs: NDArray[np.int64], logits: Tensor, ignored: Tensor) -> None:
        """Measures a batch; `learn` takes it over when its step is done and its loss is finite."""
        with torch.no_grad():
            self._seen = (pairs, difficulty(logits.detach(), ignored, self.stage.sampling.difficulty))

    def learn(self) -> None:
        """Moves the difficulties of the pairs that were seen last."""
        assert self._seen is not None
        pairs, measured = self._seen
        places = np.searchsorted(self.pairs, pairs)
        values = broadcast(measured, from_process=0).cpu().numpy()
        self.bank.update(places, values, momentum=self.stage.sampling.momentum)
        self.times[places] += self.times[places] < np.iinfo(np.uint16).max
        counts = np.bincount(self.quarter[places], minlength=QUARTERS)
        self.drawn = [before + int(now) for before, now in zip(self.drawn, counts, strict=True)]
        if self._waiting:
            del self._waiting[min(self._waiting)]

    def weights(self, pairs: NDArray[np.int64], device: torch.device) -> Tensor | None:
        """Weights `[B]` of a batch's pairs in the loss, 1 on average; None where all count alike."""
        spec = self.stage.sampling
        if not spec.instance_strength:
            return None
        values = self.bank.values[np.searchsorted(self.pairs, pairs)]
        raised = values.astype(np.float64) ** spec.instance_strength
        raised[values > self.bank.limit] = 0.0
        shares = raised / raised.mean() if raised.any() else np.ones_like(raised)
        weights = spec.floor_fraction + (1.0 - spec.floor_fraction) * shares
        return torch.from_numpy(weights).float().to(device)

    def epoch_done(self) -> dict[str, list[float]]:
        """What the log keeps of an epoch: share of the draws and mean difficulty by quarter."""
        total = max(1, sum(self.drawn))
        told = {"drawn": [round(count / total, 5) for count in self.drawn], "difficulty": self.difficulty()}
        self.drawn = [0] * QUARTERS
        self.bank.refresh()
        return told

    def difficulty(self) -> list[float]:
        """Mean difficulty by quarter as it is now."""
        sums = np.bincount(self.quarter, weights=self.bank.values, minlength=QUARTERS)
        return [round(float(value), 5) for value in sums / np.bincount(self.quarter, minlength=QUARTERS)]

    def state(self) -> dict[str, Any]:
        """Plain values for a checkpoint, beside `tensors`."""
        waiting = {str(step): rows.tolist() for step, rows in self._waiting.items()}
        return {"drawn": self.drawn, "limit": self.bank.limit, "waiting": waiting}

    def tensors(self) -> dict[str, Tensor]:
        """Difficulties and numbers of draws for a checkpoint."""
        times = torch.from_numpy(self.times.astype(np.int32))
        return {"difficulty": torch.from_numpy(self.bank.values), "times": times}

    def restore(self, checkpoint: Path, state: dict[str, Any]) -> None:
        """Goes on where a checkpoint stands."""
        self.bank.values[:] = kept_tensor(checkpoint, "difficulty").numpy()
        self.times[:] = kept_tensor(checkpoint, "times").numpy()
        self.drawn, self.bank.limit = state["drawn"], state["limit"]
        self._waiting = {int(step): np.array(rows, np.int64) for step, rows in state["waiting"].items()}

    def _draws(self, epoch: int, first: int) -> Iterator[NDArray[np.int64]]:
        start = epoch * self.steps_per_epoch
        count = min(self.stage.batch_size, len(self.pairs))
        for step in range(start + first, start + self.steps_per_epoch):
            if step not in self._waiting:
                rows = self.bank.draw(count, seed=self.stage.seed, step=step)
                self._waiting[step] = self.pairs[rows]
            yield self._waiting[step]


def hard_sampler(
    model: ContrastModel,
    data: ContrastData,
    stage: DomainStage,
    run: RunFolder,
    *,
    accelerator: Accelerator,
    report: Report,
) -> HardSampler:
    """Measures each training pair with the model as it is, unless the unfinished run did so before.

    Args:
        model: before its first step.
        data: pairs, split.
        stage: batch size, seed and the rule of the draws.
        run: its checkpoint folder holds the banks.
        accelerator: process 0 measures for all.
        report: told what is done.

    Raises:
        DataError: a bank's file has another size.
    """
    spec = stage.sampling
    rule = SamplingRule(
        strength=spec.strength, floor_fraction=spec.floor_fraction, noise_fraction=spec.noise_fraction
    )
    path, count = run.folder / "checkpoint" / "difficulty-start.bin", len(data.split.train)
    if accelerator.is_main_process and not path.is_file():
        DifficultyBank.create(path, _measured(model, data, stage, report), rule=rule)
    accelerator.wait_for_everyone()
    own = path.with_name(f"difficulty-{accelerator.process_index}.bin")
    shutil.copyfile(path, own)
    start = np.memmap(path, dtype=np.float32, mode="r", shape=(count,))
    quarter = np.empty(count, np.uint8)
    for number, places in enumerate(np.array_split(np.argsort(start, kind="stable"), QUARTERS)):
        quarter[places] = number
    return HardSampler(
        bank=DifficultyBank.open(own, pairs=count, rule=rule),
        start=start,
        pairs=data.split.train,
        quarter=quarter,
        stage=stage,
        steps_per_epoch=data.steps_per_epoch,
        times=np.zeros(count, np.uint16),
    )


@torch.inference_mode()
def _measured(
    model: ContrastModel, data: ContrastData, stage: DomainStage, report: Report
) -> NDArray[np.float32]:
    """Difficulty of each training pair among those of a batch drawn by lot."""
    model.eval()
    pairs = data.split.train
    places = np.random.default_rng(stage.seed).permutation(len(pairs))
    size = min(stage.batch_size, len(places))
    found = np.empty(len(places), np.float32)
    whole = Share(index=0, count=1)
    for start in range(0, len(places), size):
        # The last batch is filled up with pairs that were measured already.
        part = places[min(start, len(places) - size) :][:size]
        batch = data.batch(pairs[part], share=whole, epoch=None, step=0)
        text = F.normalize(model.text_rows(batch.text), dim=-1)
        image = F.normalize(model.image_rows(batch.images)[batch.image_index.to(text.device)], dim=-1)
        ignored = duplicates(batch.image_ids, batch.caption_ids).to(text.device)
        values = difficulty(model.temperature(text @ image.T), ignored, stage.sampling.difficulty)
        found[part] = values.cpu().numpy()
        report(Progress(stage="difficulty", done=min(start + size, len(places)), total=len(places)))
    return found


HARD_PAIRS = "hard-pairs.jsonl"

_KEPT_PAIRS = 1000

BANDS = (1, 10)

"""Held-out captions by the place at which they find their image: first, up to tenth, later."""


@dataclass(frozen=True, kw_only=True, eq=False)
class DomainRecord:
    """The sampler of a run and how the held-out captions found their images before it, int64 `[T]`."""

    sampler: HardSampler
    data: ContrastData
    ranks: NDArray[np.int64]

    def facts(self, model: ContrastModel) -> dict[str, Any]:
        """What the artifact keeps, with the model as it is at the end.

        Returns:
            `quarters`: of the training pairs, the easiest first: pairs, mean difficulty at start and end,
            mean number of draws. `held_out`: `captions[a][b]`, how many of place band a before are in band b
            now.
        """
        after = caption_ranks(held_out(model, self.data, step=0))
        moved = np.zeros((len(BANDS) + 1,) * 2, np.int64)
        np.add.at(moved, (_band(self.ranks), _band(after)), 1)
        own = self.sampler
        sizes = np.bincount(own.quarter)
        start, draws = (np.bincount(own.quarter, weights=values) / sizes for values in (own.start, own.times))
        quarters = [
            {"pairs": int(size), "start": round(float(a), 4), "end": round(b, 4), "draws": round(float(c), 3)}
            for size, a, b, c in zip(sizes, start, own.difficulty(), draws, strict=True)
        ]
        return {"quarters": quarters, "held_out": {"bands": list(BANDS), "captions": moved.tolist()}}

    def write(self, folder: Path) -> None:
        """Writes the training pairs that are hardest at the end, the hardest first."""
        own, pairs = self.sampler, self.data.pairs
        places = np.argsort(-own.bank.values, kind="stable")[:_KEPT_PAIRS]
        lines = []
        for place in places.tolist():
            number = int(own.pairs[place])
            image = pairs.images[pairs.image_of_text[number]]
            told: dict[str, Any] = {"image": str(image), "caption": pairs.texts[number]}
            told |= {
                "start": round(float(own.start[place]), 4),
                "end": round(float(own.bank.values[place]), 4),
            }
            lines.append(json.dumps({**told, "draws": int(own.times[place])}, ensure_ascii=False) + "\n")
        write_text(folder / HARD_PAIRS, "".join(lines))


def start_record(
    model: ContrastModel,
    data: ContrastData,
    stage: DomainStage,
    run: RunFolder,
    *,
    accelerator: Accelerator,
    report: Report,
) -> DomainRecord:
    """Measures training and held-out pairs with the model as it is; arguments as in `hard_sampler`."""
    sampler = hard_sampler(model, data, stage, run, accelerator=accelerator, report=report)
    return DomainRecord(sampler=sampler, data=data, ranks=caption_ranks(held_out(model, data, step=0)))


def read_sampling(folder: Path) -> Iterator[dict[str, Any]]:
    """What a run's log says of each epoch: `step`, `drawn` and `difficulty` by quarter."""
    for line in (folder / "log.jsonl").read_text(encoding="utf-8").splitlines():
        entry = json.loads(line)
        if entry.pop("kind") == "sampling":
            yield entry


def _band(ranks: NDArray[np.int64]) -> NDArray[np.int64]:
    bands: NDArray[np.int64] = np.searchsorted(np.array(BANDS), ranks, side="left")
    return bands
