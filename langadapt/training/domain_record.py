"""What domain adaptation tells beside the weights: easy and hard pairs, before and after."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from accelerate import Accelerator
from numpy.typing import NDArray

from langadapt.data.write_text import write_text
from langadapt.models.contrast_model import ContrastModel
from langadapt.progress import Report
from langadapt.recipes import DomainStage
from langadapt.training.contrast_data import ContrastData
from langadapt.training.hard_sampling import HardSampler, hard_sampler
from langadapt.training.held_out import caption_ranks, held_out
from langadapt.training.run_folder import RunFolder

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
