"""The files of a run: its claim on the folder, checkpoint, best weights and log."""

import json
from dataclasses import dataclass
from pathlib import Path

from safetensors.torch import save_file
from torch import Tensor

from langadapt.errors import TrainingError
from langadapt.models.artifact import FACTS
from langadapt.training.loop import StepLog


@dataclass(frozen=True, kw_only=True)
class RunFolder:
    """A run's folder and the key of the recipe, data and models that it belongs to."""

    folder: Path
    key: str

    @property
    def checkpoint(self) -> Path:
        return self.folder / "checkpoint" / "state.safetensors"

    @property
    def best(self) -> Path:
        return self.folder / "checkpoint" / "best.safetensors"

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
        mark.parent.mkdir(parents=True, exist_ok=True)
        mark.write_text(json.dumps({"key": self.key}), encoding="utf-8")
        if not self.checkpoint.is_file():
            self.log.unlink(missing_ok=True)

    def save_best(self, weights: dict[str, Tensor]) -> None:
        temporary = self.best.with_name(".best.tmp")
        save_file({name: value.cpu().contiguous() for name, value in weights.items()}, temporary)
        temporary.replace(self.best)

    def append_log(self, lines: list[str]) -> None:
        with self.log.open("a", encoding="utf-8") as file:
            file.write("".join(line + "\n" for line in lines))

    def clean(self) -> None:
        """Removes what only an unfinished run needs."""
        for name in ("run.json", "state.safetensors", "best.safetensors"):
            (self.folder / "checkpoint" / name).unlink(missing_ok=True)
        (self.folder / "checkpoint").rmdir()

    def _forget(self) -> None:
        for path in (
            self.folder / FACTS,
            self.checkpoint,
            self.best,
            self.folder / "checkpoint" / "run.json",
        ):
            path.unlink(missing_ok=True)


def read_log(folder: Path) -> tuple[list[StepLog], dict[int, float]]:
    """Step logs of a run, and held-out recall by step."""
    steps: list[StepLog] = []
    recalls: dict[int, float] = {}
    for line in (folder / "log.jsonl").read_text(encoding="utf-8").splitlines():
        entry = json.loads(line)
        kind = entry.pop("kind")
        if kind == "step":
            steps.append(StepLog(**entry))
        else:
            recalls[entry["step"]] = entry["recall"]
    return steps, recalls
