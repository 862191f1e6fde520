"""The files of a run: its claim on the folder, checkpoint, best weights and log."""

import json
import shutil
import time
from dataclasses import dataclass
from pathlib import Path

from safetensors.torch import save_file
from torch import Tensor

from langadapt.data.write_text import write_text
from langadapt.errors import TrainingError
from langadapt.models.artifact import FACTS, RECIPE, SAMPLES, SCORES, VOCABULARY, WEIGHTS
from langadapt.training.loop import StepLog


@dataclass(frozen=True, kw_only=True)
class RunFolder:
    """A run's folder and the key of the recipe, data and models that it belongs to."""

    folder: Path
    key: str
    started: float
    """`time.perf_counter()` when this process began to work on it."""

    @property
    def seconds(self) -> float:
        """Time that this process has worked on it."""
        return time.perf_counter() - self.started

    @property
    def checkpoint(self) -> Path:
        return self.folder / "checkpoint" / "state.safetensors"

    @property
    def best(self) -> Path:
        return self.folder / "checkpoint" / "best.safetensors"

    @property
    def vocabulary(self) -> Path:
        return self.folder / "checkpoint" / "vocabulary.json"

    @property
    def log(self) -> Path:
        return self.folder / "log.jsonl"

    def claim(self, *, overwrite: bool) -> None:
        """Makes the folder this run's own, or goes on with it."""
        mark = self.folder / "checkpoint" / "run.json"
        if overwrite:
            self._forget()
        if (self.folder / FACTS).is_file():
            raise TrainingError(f"{self.folder} holds a finished run; choose another --out, or --overwrite")
        if mark.is_file() and json.loads(mark.read_text(encoding="utf-8"))["key"] != self.key:
            raise TrainingError(
                f"{self.folder} holds an unfinished run of another recipe, data or model; "
                "choose another --out, or --overwrite"
            )
        write_text(mark, json.dumps({"key": self.key}))
        if not self.checkpoint.is_file():
            self.log.unlink(missing_ok=True)

    def save_best(self, weights: dict[str, Tensor]) -> None:
        temporary = self.best.with_name(".best.tmp")
        save_file({name: value.cpu().contiguous() for name, value in weights.items()}, temporary)
        temporary.replace(self.best)

    def append_log(self, lines: list[str]) -> None:
        with self.log.open("a", encoding="utf-8") as file:
            file.write("".join(line + "\n" for line in lines))

    def cut_log(self, step: int) -> None:
        """Forgets what was logged after the checkpoint at `step`: those steps are done again."""
        kept: list[str] = []
        for line in self.log.read_text(encoding="utf-8").splitlines() if self.log.is_file() else []:
            if not line.endswith("}") or json.loads(line)["step"] > step:
                break
            kept.append(line + "\n")
        write_text(self.log, "".join(kept))

    def clean(self) -> None:
        """Removes what only an unfinished run needs."""
        shutil.rmtree(self.folder / "checkpoint")

    def _forget(self) -> None:
        for name in (FACTS, SCORES, SAMPLES, RECIPE, WEIGHTS, VOCABULARY):
            (self.folder / name).unlink(missing_ok=True)
        shutil.rmtree(self.folder / "checkpoint", ignore_errors=True)


def read_log(folder: Path) -> tuple[list[StepLog], dict[int, float]]:
    """Step logs of a run, and held-out recall by step."""
    steps: list[StepLog] = []
    recalls: dict[int, float] = {}
    for line in (folder / "log.jsonl").read_text(encoding="utf-8").splitlines():
        entry = json.loads(line)
        kind = entry.pop("kind")
        if kind == "step":
            steps.append(StepLog(**entry))
        elif kind == "held_out":
            recalls[entry["step"]] = entry["recall"]
    return steps, recalls
