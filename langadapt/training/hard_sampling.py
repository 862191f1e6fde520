"""Draw difficult pairs more often: how hard each pair is, the draws, and the record of a domain run."""

import itertools
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate.utils import broadcast
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from langadapt.errors import DataError, Progress, Report
from langadapt.files.atomic import write_text
from langadapt.models.tuning import ContrastModel
from langadapt.nn.losses import difficulty, duplicates
from langadapt.recipes.stages import DomainStage, HardSampling
from langadapt.training.contrast import ContrastData, Share, caption_ranks
from langadapt.training.run import Run

QUARTERS = 4
"""The training pairs in equal parts by their difficulty at the start, the easiest first."""
BANDS = (1, 10)
"""Held-out captions by the rank at which they find their image: first, up to tenth, later."""
HARD_PAIRS = "hard-pairs.jsonl"

_KEPT_PAIRS = 1000
_BINS = 1024
_ROUNDS = 200


class DifficultyBank:
    """One difficulty in [0, 1] per pair, and draws that follow it.

    A draw costs about `1 / mean(difficulty ** strength)` reads of single values, however large the bank is.

    Args:
        values: float32 `[pairs]`, changed in place.

    Source: the memory bank of the hard-sampling domain adapter (the talk); the uniform floor follows
        prioritised replay (Schaul et al., 2016, section 3.3).
    """

    def __init__(self, values: NDArray[np.float32], rule: HardSampling) -> None:
        _check(values)
        self.values = values
        self.rule = rule
        self.limit = 1.0
        """Pairs above it are left to the floor; `refresh` sets it."""
        self.refresh()

    def refresh(self) -> None:
        """Find which pairs are the hardest share; once an epoch is enough."""
        share = self.rule.noise_fraction
        if share != "auto" and share > 0.0:
            counts = np.histogram(self.values, bins=_BINS, range=(0.0, 1.0))[0]
            kept = np.cumsum(counts) <= (1.0 - share) * len(self.values)
            self.limit = float(kept.sum()) / _BINS

    def update(self, rows: NDArray[np.int64], measured: NDArray[np.float32]) -> None:
        """Move the difficulty of `rows`, int64 `[B]`, none twice, towards what was measured in [0, 1]."""
        _check(measured)
        momentum = self.rule.momentum
        self.values[rows] = momentum * self.values[rows] + (1.0 - momentum) * measured

    def draw(self, count: int, *, seed: int, step: int) -> NDArray[np.int64]:
        """Draw `count` different pairs, int64; seed, step and the bank's values determine the draw."""
        if count > len(self.values):
            raise DataError(f"a batch of {count} cannot be drawn from {len(self.values)} pairs")
        generator = np.random.default_rng([seed, step])
        drawn = np.empty(0, dtype=np.int64)
        for attempt in itertools.count():
            rows = generator.integers(0, len(self.values), size=4 * count)
            # Later almost all weight lies on fewer pairs than a batch: uniform draws fill it.
            if attempt < _ROUNDS:
                uniform = generator.random(len(rows)) < self.rule.floor_fraction
                # Rejection: a row stays with its weight as the chance. Uniform draws meet the same odds.
                odds = self.weights(rows, self.rule.strength)
                odds[uniform] = odds.mean()
                rows = rows[generator.random(len(rows)) < odds]
            drawn = np.concatenate([drawn, rows])
            drawn = drawn[np.sort(np.unique(drawn, return_index=True)[1])][:count]
            if len(drawn) == count:
                break
        return drawn

    def weights(self, rows: NDArray[np.int64], strength: float) -> NDArray[np.float64]:
        """Difficulty ** strength of some pairs, 0 for the hardest share."""
        values = self.values[rows]
        return np.where(values > self.limit, 0.0, values.astype(np.float64) ** strength)


def _check(values: NDArray[np.float32]) -> None:
    wrong = ~((values >= 0.0) & (values <= 1.0))
    if wrong.any():
        row = int(wrong.argmax())
        raise DataError(f"difficulty of pair {row} is {values[row]}, expected 0 to 1")


class HardSampler:
    """Draw batches by difficulty, `start [n]` of training pairs `pairs [n]` (ascending); record the draws.

    Each process keeps a bank and updates it with the numbers of process 0, so all draw the same pairs.
    A batch is drawn while the one before it trains: it knows the difficulties of two steps ago.
    """

    def __init__(
        self, start: NDArray[np.float32], pairs: NDArray[np.int64], stage: DomainStage, steps_per_epoch: int
    ) -> None:
        self.stage, self.rule = stage, stage.sampling
        self.pairs, self.steps_per_epoch = pairs, steps_per_epoch
        self.times = np.zeros(len(pairs), np.uint16)
        """How often `[n]` each training pair was in a batch; stops at 65,535."""
        self._begin(start)
        self._waiting: dict[int, NDArray[np.int64]] = {}
        self._measured: tuple[NDArray[np.int64], Tensor] | None = None

    def _begin(self, start: NDArray[np.float32]) -> None:
        self.start = start
        self.bank = DifficultyBank(start.copy(), self.rule)
        self.quarter = np.empty(len(start), np.uint8)
        """Which quarter `[n]` each training pair belongs to."""
        for number, rows in enumerate(np.array_split(np.argsort(start, kind="stable"), QUARTERS)):
            self.quarter[rows] = number
        self.drawn = [0] * QUARTERS
        """Pairs of each quarter in the batches of this epoch."""

    def order(self, epoch: int, first: int) -> Iterator[NDArray[np.int64]] | None:
        """Batches of an epoch as pair indices, from batch `first` on; None for ordinary epochs."""
        drawn = self.rule.strength and epoch >= self.rule.uniform_epochs
        return self._draws(epoch, first) if drawn else None

    def _draws(self, epoch: int, first: int) -> Iterator[NDArray[np.int64]]:
        start = epoch * self.steps_per_epoch
        count = min(self.stage.batch_size, len(self.pairs))
        for step in range(start + first, start + self.steps_per_epoch):
            if step not in self._waiting:
                rows = self.bank.draw(count, seed=self.stage.seed, step=step)
                self._waiting[step] = self.pairs[rows]
            yield self._waiting[step]

    def measure(self, pairs: NDArray[np.int64], logits: Tensor, ignored: Tensor) -> None:
        """Measure a batch; `learn` takes it over when its step is done and its loss is finite."""
        with torch.no_grad():
            self._measured = (pairs, difficulty(logits.detach(), ignored, self.rule.difficulty))

    def learn(self) -> None:
        assert self._measured is not None
        pairs, measured = self._measured
        rows = np.searchsorted(self.pairs, pairs)
        self.bank.update(rows, broadcast(measured, from_process=0).cpu().numpy())
        self.times[rows] += self.times[rows] < np.iinfo(np.uint16).max
        counts = np.bincount(self.quarter[rows], minlength=QUARTERS)
        self.drawn = [before + int(now) for before, now in zip(self.drawn, counts, strict=True)]
        if self._waiting:
            del self._waiting[min(self._waiting)]

    def weights(self, pairs: NDArray[np.int64], device: torch.device) -> Tensor | None:
        """Weights `[B]` of a batch's pairs in the loss, 1 on average; None where all count alike."""
        if not self.rule.instance_strength:
            return None
        raised = self.bank.weights(np.searchsorted(self.pairs, pairs), self.rule.instance_strength)
        shares = raised / raised.mean() if raised.any() else np.ones_like(raised)
        weights = self.rule.floor_fraction + (1.0 - self.rule.floor_fraction) * shares
        return torch.from_numpy(weights).float().to(device)

    def epoch_done(self) -> dict[str, list[float]]:
        """Begin a new epoch; return share of the draws and mean difficulty by quarter."""
        total = max(1, sum(self.drawn))
        facts = {"drawn": [round(count / total, 5) for count in self.drawn], "difficulty": self.difficulty()}
        self.drawn = [0] * QUARTERS
        self.bank.refresh()
        return facts

    def difficulty(self) -> list[float]:
        """Mean difficulty by quarter as it is now."""
        sums = np.bincount(self.quarter, weights=self.bank.values, minlength=QUARTERS)
        return [round(float(value), 5) for value in sums / np.bincount(self.quarter, minlength=QUARTERS)]

    def tensors(self) -> dict[str, Tensor]:
        arrays = {
            "start": self.start,
            "difficulty": self.bank.values,
            "times": self.times.astype(np.int32),
            "drawn": np.array(self.drawn),
            "limit": np.array(self.bank.limit),
            **{f"waiting.{step}": rows for step, rows in self._waiting.items()},
        }
        return {name: torch.from_numpy(values) for name, values in arrays.items()}

    def restore(self, tensors: dict[str, Tensor]) -> None:
        self._begin(tensors["start"].numpy())
        self.bank.values[:] = tensors["difficulty"].numpy()
        self.times[:] = tensors["times"].numpy()
        self.drawn, self.bank.limit = tensors["drawn"].tolist(), float(tensors["limit"])
        waiting = ((name.removeprefix("waiting."), rows) for name, rows in tensors.items())
        self._waiting = {int(step): rows.numpy() for step, rows in waiting if step.isdecimal()}


def start_record(model: ContrastModel, data: ContrastData, stage: DomainStage, run: Run) -> "DomainRecord":
    """Measure all pairs before the first step, in process 0; a resumed run reads its checkpoint."""
    device = run.accelerator.device
    start = torch.zeros(len(data.split.train), device=device)
    if run.is_main and not run.checkpoint.is_file():
        start = _start_difficulty(model, data, stage, run.report).to(device)
    start = broadcast(start, from_process=0)
    ranks = broadcast(torch.from_numpy(caption_ranks(model, data)).to(device), from_process=0).cpu().numpy()
    wrong = wrong_captions(ranks, len(np.unique(data.image_ids[data.split.held_out])))
    if stage.sampling.noise_fraction == "auto":
        # Where more than half seem wrong it is rather the model that is lost.
        rule = stage.sampling.model_copy(update={"noise_fraction": wrong if wrong <= 0.5 else 0.0})
        stage = stage.model_copy(update={"sampling": rule})
        if rule.noise_fraction and (rule.strength or rule.instance_strength):
            line = f"about {wrong:.0%} of the held-out captions are of other images: noise_fraction {wrong:g}"
            run.report(Progress(stage=line))
    sampler = HardSampler(start.cpu().numpy(), data.split.train, stage, data.steps_per_epoch)
    return DomainRecord(sampler=sampler, data=data, ranks=ranks, wrong=wrong)


def wrong_captions(ranks: NDArray[np.int64], images: int) -> float:
    """Estimate the share of captions that belong to another image, 0 to 1, from `ranks` among `images`.

    A wrong caption finds its image at any rank, a right one in the first half: twice the share of the second
    half are wrong. With 90 captions it is right within 0.05 (benchmarks/DOMAIN.md).
    """
    return min(1.0, round(2 * float((2 * ranks > images).mean()), 3))


@torch.inference_mode()
def _start_difficulty(model: ContrastModel, data: ContrastData, stage: DomainStage, report: Report) -> Tensor:
    """Difficulty `[n]` of each training pair among those of a batch drawn at random."""
    model.eval()
    pairs = data.split.train
    order = np.random.default_rng(stage.seed).permutation(len(pairs))
    size = min(stage.batch_size, len(order))
    found = torch.empty(len(order))
    for start in range(0, len(order), size):
        # The last batch is filled up with pairs that were measured already.
        rows = order[min(start, len(order) - size) :][:size]
        batch = data.batch(pairs[rows], share=Share(index=0, count=1), epoch=None, step=0)
        text = F.normalize(model.text_rows(batch.text), dim=-1)
        image = F.normalize(model.image_rows(batch.images)[batch.image_index.to(text.device)], dim=-1)
        ignored = duplicates(batch.image_ids, batch.caption_ids).to(text.device)
        values = difficulty(model.temperature(text @ image.T), ignored, stage.sampling.difficulty)
        found[torch.from_numpy(rows)] = values.cpu()
        report(Progress(stage="difficulty", done=min(start + size, len(order)), total=len(order)))
    return found


@dataclass(frozen=True, kw_only=True, eq=False)
class DomainRecord:
    """The sampler of a run; how the held-out captions found their images before it.

    `ranks`: int64 `[T]`; `wrong`: the estimated share of captions that belong to another image.
    """

    sampler: HardSampler
    data: ContrastData
    ranks: NDArray[np.int64]
    wrong: float

    def facts(self, model: ContrastModel) -> dict[str, Any]:
        """Summarise the run for the artifact.

        `quarters`, the easiest first: pairs, mean difficulty at start and end, mean draws. `held_out`:
        `captions[a][b]`, how many moved from rank band a to b. `wrong_captions`: estimated share.
        """
        moved = np.zeros((len(BANDS) + 1,) * 2, np.int64)
        bands = (np.searchsorted(BANDS, ranks) for ranks in (self.ranks, caption_ranks(model, self.data)))
        np.add.at(moved, tuple(bands), 1)
        own = self.sampler
        sizes = np.bincount(own.quarter)
        start, draws = (np.bincount(own.quarter, weights=values) / sizes for values in (own.start, own.times))
        quarters = [
            {"pairs": int(size), "start": round(float(a), 4), "end": round(b, 4), "draws": round(float(c), 3)}
            for size, a, b, c in zip(sizes, start, own.difficulty(), draws, strict=True)
        ]
        held_out = {"bands": list(BANDS), "captions": moved.tolist()}
        return {"quarters": quarters, "held_out": held_out, "wrong_captions": self.wrong}

    def write(self, folder: Path) -> None:
        """Write the training pairs that are hardest at the end, the hardest first."""
        own, pairs = self.sampler, self.data.pairs
        lines = []
        for row in np.argsort(-own.bank.values, kind="stable")[:_KEPT_PAIRS].tolist():
            number = int(own.pairs[row])
            facts = {
                "image": str(pairs.images[pairs.image_of_text[number]]),
                "caption": pairs.texts[number],
                "start": round(float(own.start[row]), 4),
                "end": round(float(own.bank.values[row]), 4),
                "draws": int(own.times[row]),
            }
            lines.append(json.dumps(facts, ensure_ascii=False) + "\n")
        write_text(folder / HARD_PAIRS, "".join(lines))
