"""Pairs in the tiny language and a distilled student to tune on them, as tests need them."""

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image, ImageDraw
from tiny_language import COLOURS, sentences
from tiny_run import run, silent
from torch import nn

from langadapt.errors import Report
from langadapt.models import Artifact
from langadapt.recipes import DomainStage, TuneStage
from langadapt.recipes.yaml import parse
from langadapt.training import RunOptions, tune
from langadapt.training.hard_sampling import HARD_PAIRS
from langadapt.training.loop import Validation

LOCKED = {"text": ["projection"], "image": "locked"}


def write_pairs(folder: Path, *, images: int = 24) -> Path:
    """Pictures whose colour and stripes their captions name; two captions of each."""
    (folder / "pictures").mkdir(parents=True)
    rows = sentences()
    lines = ["image\tcaption\tenglish\n"]
    for number in range(images):
        english, target = rows[6 * number % 144]
        picture = Image.new("RGB", (40, 32), english.split()[1].replace("grey", "gray"))
        ImageDraw.Draw(picture).rectangle((number % 9, 4, 12 + number, 20), fill=(9 * number, 80, 30))
        picture.save(folder / "pictures" / f"{number}.png")
        lines.append(f"{number}.png\t{target}\t{english}\n")
        lines.append(f"{number}.png\t{' '.join(target.split()[:2])}\t{' '.join(english.split()[:3])}\n")
    (folder / "pairs.tsv").write_text("".join(lines), encoding="utf-8")
    return folder / "pairs.tsv"


def stage(pairs: Path, **values: object) -> TuneStage:
    settings = {"epochs": 2, "batch_size": 16, "held_out_fraction": 0.25, **values}
    return parse(TuneStage, {"pairs": [str(pairs)], **settings}, where="test")


def domain_stage(pairs: Path, **values: object) -> DomainStage:
    settings = {"epochs": 2, "batch_size": 16, "held_out_fraction": 0.25, "image": ["adapters"], **values}
    return parse(DomainStage, {"pairs": [str(pairs)], **settings}, where="test")


def tuned(
    start: Path, out: Path, chosen: TuneStage, *, report: Report = silent, **options: object
) -> Artifact:
    pictures = Path(chosen.pairs[0]).parent / "pictures"
    found = RunOptions(device=torch.device("cpu"), images=pictures, **options)  # type: ignore[arg-type]
    return tune(start, out, stage=chosen, report=report, options=found)


def every_epoch_is_better(patch: pytest.MonkeyPatch) -> None:
    """Add 100 to the held-out recall for each step done, so that no rounding chooses the epoch."""
    for stage_name, name in (("distill", "validate_texts"), ("tune", "validate_pairs")):
        module = sys.modules[f"langadapt.training.{stage_name}"]  # the package's name for it is the function
        patch.setattr(module, name, _rising(getattr(module, name)))


def _rising(real: Callable[..., Validation]) -> Callable[..., Validation]:
    def rising(model: nn.Module, data: object, *, step: int) -> Validation:
        found = real(model, data, step=step)
        return found._replace(recall=found.recall + 100 * step)

    return rising


def hard_pairs(out: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (out / HARD_PAIRS).read_text(encoding="utf-8").splitlines()]


def distilled(folder: Path, out: Path, *settings: str) -> Path:
    run(folder, out, "distill.epochs=1", *settings)
    return out


__all__ = [
    "COLOURS",
    "LOCKED",
    "distilled",
    "domain_stage",
    "every_epoch_is_better",
    "hard_pairs",
    "stage",
    "tuned",
    "write_pairs",
]
