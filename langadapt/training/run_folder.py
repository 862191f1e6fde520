"""The files of a run: its claim on the folder, checkpoint, best weights and log."""

import json
import shutil
import time
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from filelock import FileLock, Timeout
from torch import Tensor

from langadapt.data.write_tensors import read_tensors, write_tensors
from langadapt.data.write_text import write_text
from langadapt.errors import TrainingError
from langadapt.models.artifact import (
    FACTS,
    RECIPE,
    SAMPLES,
    SCORES,
    VOCABULARY,
    WEIGHTS,
    Artifact,
    read_artifact,
)
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

    @cached_property
    def _lock(self) -> FileLock:
        # The same process may claim a folder again; the system frees the lock of a killed one.
        return FileLock(self.folder / "checkpoint" / "lock", is_singleton=True)

    def finished(self) -> Artifact | None:
        """What this very run made, where it is done; None where it is not, or another run is there."""
        if not (self.folder / FACTS).is_file():
            return None
        artifact = read_artifact(self.folder)
        return artifact if artifact.training.get("run_key") == self.key else None

    def claim(self, *, overwrite: bool) -> None:
        """Makes the folder this run's own, or goes on with it.

        Raises:
            TrainingError: another process works in it, or it holds something else.
        """
        mark = self.folder / "checkpoint" / "run.json"
        if not overwrite:
            self._check_unfinished()
        mark.parent.mkdir(parents=True, exist_ok=True)
        try:
            self._lock.acquire(timeout=0)
        except Timeout as error:
            raise TrainingError(
                f"{self.folder}: another process is training in it; wait for it, or choose another --out"
            ) from error
        if overwrite:
            self._forget()
        self._check_unfinished()  # the other may have finished just now
        if mark.is_file() and self._key(mark) != self.key:
            raise TrainingError(
                f"{self.folder} holds an unfinished run of another recipe, data or model; "
                "choose another --out, or --overwrite"
            )
        write_text(mark, json.dumps({"key": self.key}))
        if not self.checkpoint.is_file():
            self.log.unlink(missing_ok=True)

    def _check_unfinished(self) -> None:
        if (self.folder / FACTS).is_file():
            raise TrainingError(f"{self.folder} holds a finished run; choose another --out, or --overwrite")

    def _key(self, mark: Path) -> object:
        try:
            return json.loads(mark.read_text(encoding="utf-8"))["key"]
        except (KeyError, TypeError, ValueError) as error:
            raise TrainingError(f"{mark}: damaged; start again with --overwrite") from error

    def save_best(self, weights: dict[str, Tensor]) -> None:
        write_tensors(self.best, weights, {})

    def read_best(self) -> dict[str, Tensor]:
        """What `save_best` wrote last.

        Raises:
            TrainingError: it is not what was written.
        """
        try:
            return read_tensors(self.best)[0]
        except (OSError, ValueError) as error:
            raise TrainingError(
                f"{self.best}: damaged: {str(error).splitlines()[0]}; start again with --overwrite"
            ) from error

    def append_log(self, lines: list[str]) -> None:
        with self.log.open("a", encoding="utf-8") as file:
            file.write("".join(line + "\n" for line in lines))

    def cut_log(self, step: int) -> None:
        """Forgets what was logged after the checkpoint at `step`: those steps are done again."""
        kept: list[str] = []
        raw = self.log.read_bytes() if self.log.is_file() else b""
        for line in raw.splitlines():
            try:
                if json.loads(line)["step"] > step:
                    break
            except (KeyError, TypeError, ValueError):
                break  # half a line, where the process was killed
            kept.append(line.decode("utf-8") + "\n")
        write_text(self.log, "".join(kept))

    def clean(self) -> None:
        """Removes what only an unfinished run needs."""
        shutil.rmtree(self.folder / "checkpoint")
        self._lock.release(force=True)

    def _forget(self) -> None:
        reports = ("report.html", "domain.json")
        for name in (FACTS, SCORES, SAMPLES, RECIPE, WEIGHTS, VOCABULARY, *reports):
            (self.folder / name).unlink(missing_ok=True)
        for path in (self.folder / "checkpoint").iterdir():
            if path.is_dir():
                shutil.rmtree(path)
            elif path.name != "lock":
                path.unlink()


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
