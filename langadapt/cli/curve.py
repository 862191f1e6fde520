"""A run's log as a curve."""

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from langadapt.evaluation.plots import CurvePoint


def training_curve(run: Path) -> "list[CurvePoint]":
    """Loss by step, and held-out recall where it was measured; empty without a log."""
    from langadapt.evaluation.plots import CurvePoint
    from langadapt.training.run_folder import read_log

    if not (run / "log.jsonl").is_file():
        return []
    steps, recalls = read_log(run)
    return [CurvePoint(step=log.step, loss=log.loss, recall=recalls.get(log.step)) for log in steps]
