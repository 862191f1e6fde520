"""What a run logs: `log.jsonl`, a line for each step, validation and epoch of a sampler."""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from langadapt.errors import TrainingError
from langadapt.files.atomic import write_text
from langadapt.files.json import parse_json


@dataclass(frozen=True, kw_only=True)
class StepLog:
    """One optimizer step as it is logged; `step` is the number of finished steps."""

    step: int
    epoch: int
    loss: float
    learning_rate: float
    examples_per_second: float


def log_entries(folder: Path, kind: str) -> Iterator[dict[str, Any]]:
    """Entries of a run's log, of kind `step`, `held_out` or `sampling`; a damaged line is a TrainingError."""
    path = folder / "log.jsonl"
    for number, line in enumerate(path.read_bytes().splitlines(), start=1):
        try:
            entry = parse_json(line)
            own = entry.pop("kind") == kind
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise TrainingError(f"{path}: line {number} is damaged; remove the line") from error
        if own:
            yield entry


def read_log(folder: Path) -> tuple[list[StepLog], dict[int, float]]:
    """Step logs of a run, and held-out recall by step."""
    try:
        recalls = {int(entry["step"]): float(entry["recall"]) for entry in log_entries(folder, "held_out")}
        logs = [StepLog(**entry) for entry in log_entries(folder, "step")]
        if not all(math.isfinite(log.step + log.loss) for log in logs):
            raise ValueError("a number is not finite")
    except (KeyError, TypeError, ValueError) as error:
        raise TrainingError(f"{folder / 'log.jsonl'}: an entry is damaged ({error}); remove it") from error
    return logs, recalls


def cut_log(path: Path, step: int) -> None:
    """Remove what was logged after the checkpoint at `step`: those steps are done again."""
    kept: list[str] = []
    raw = path.read_bytes() if path.is_file() else b""
    for line in raw.splitlines():
        try:
            if parse_json(line)["step"] > step:
                break
        except (KeyError, TypeError, ValueError):
            break  # half a line, where the process was killed
        kept.append(line.decode("utf-8") + "\n")
    write_text(path, "".join(kept))
