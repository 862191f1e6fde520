"""The files of a run: its claim on the folder, checkpoint, best weights and log."""

import json
import shutil
import time
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from filelock import FileLock, Timeout
from torch import Tensor, nn

from langadapt.data.pairs import Pairs, pairs_recipe
from langadapt.data.parallel import ParallelSentences
from langadapt.errors import Progress, TrainingError
from langadapt.files.atomic import read_tensors, write_tensors, write_text
from langadapt.models import ResolvedModel, Student
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
from langadapt.models.device import uses_bf16
from langadapt.models.provenance import BaseModel, DataSource, Samples, data_source, sample_texts
from langadapt.recipes import DataCard, LanguageRecipe, ModelRef, ParallelRecipe, TableFiles
from langadapt.recipes.find import RecipeFile
from langadapt.training.loop import FitState, StepLog


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


def share_of_work(device: torch.device, batch_size: int) -> Accelerator:
    """Device, precision and processes of a run.

    Raises:
        TrainingError: the batch cannot be shared evenly.
    """
    if device.type == "cuda" and device.index is not None:
        torch.cuda.set_device(device)
    found = Accelerator(mixed_precision="bf16" if uses_bf16(device) else "no", cpu=device.type == "cpu")
    if batch_size % found.num_processes:
        raise TrainingError(
            f"batch_size {batch_size} cannot be shared by {found.num_processes} processes; make it a "
            "multiple of their number"
        )
    return found


def silent(progress: Progress) -> None:
    """Only the main process reports."""


def trained_parameters(module: nn.Module) -> dict[str, Tensor]:
    """Weights that learn, by name."""
    return {name: value.detach() for name, value in module.named_parameters() if value.requires_grad}


def save_checkpoint(
    path: Path, state: FitState, *, extra: dict[str, Any], kept: dict[str, Tensor] | None = None
) -> None:
    """Writes weights, optimizer moments and step; the file appears whole or not at all.

    Args:
        path: the file.
        state: of the run.
        extra: plain values that come back with the state.
        kept: tensors that `kept_tensor` gives back.
    """
    module = state.accelerator.unwrap_model(state.model)
    tensors = {f"weight.{name}": value for name, value in trained_parameters(module).items()}
    tensors |= {f"kept.{name}": value for name, value in (kept or {}).items()}
    for index, moments in state.optimizer.state_dict()["state"].items():
        for name, value in moments.items():
            tensors[f"moment.{index}.{name}"] = torch.as_tensor(value)
    write_tensors(path, tensors, {"step": str(state.step), "extra": json.dumps(extra)})


def load_checkpoint(path: Path, state: FitState) -> dict[str, Any]:
    """Puts a checkpoint back into a state made by `start_fit` from the same recipe; returns its extra values.

    Raises:
        TrainingError: the file is damaged or from another model.
    """
    module = state.accelerator.unwrap_model(state.model)
    moments: dict[int, dict[str, Tensor]] = {}
    try:
        tensors, said = read_tensors(path)
        for name, value in tensors.items():
            kind, rest = name.split(".", 1)
            if kind == "moment":
                index, moment = rest.split(".", 1)
                moments.setdefault(int(index), {})[moment] = value
        with torch.no_grad():
            for name, weight in trained_parameters(module).items():
                weight.copy_(tensors[f"weight.{name}"])
        state.step = int(said["step"])
        extra: dict[str, Any] = json.loads(said["extra"])
    except (KeyError, RuntimeError, ValueError) as error:
        problem = str(error).splitlines()[0]
        raise TrainingError(f"{path}: damaged checkpoint: {problem}; start again with --overwrite") from error
    whole = state.optimizer.state_dict()
    state.optimizer.load_state_dict({**whole, "state": moments})
    return extra


def kept_tensor(path: Path, name: str) -> Tensor:
    """A tensor that `save_checkpoint` was given.

    Raises:
        TrainingError: the file is damaged or has no such tensor.
    """
    try:
        return read_tensors(path)[0][f"kept.{name}"]
    except (KeyError, ValueError) as error:
        problem = str(error).splitlines()[0]
        raise TrainingError(f"{path}: damaged checkpoint: {problem}; start again with --overwrite") from error


def base_model(source: ResolvedModel, ref: ModelRef) -> BaseModel:
    """A base model as it was found, with the licence that the recipe states."""
    return BaseModel(
        repo=source.repo, revision=source.revision, licence=ref.licence, licence_source=ref.licence_source
    )


def parallel_source(found: RecipeFile[ParallelRecipe], corpus: ParallelSentences) -> DataSource:
    """A parallel corpus as it was read, with what its recipe states."""
    return data_source(
        found.recipe,
        found.recipe.source,
        kind="parallel",
        language=corpus.language,
        rows=len(corpus.english),
        blank_rows=corpus.blank_rows,
        fingerprint=corpus.fingerprint,
        contamination=corpus.contamination,
    )


def pairs_source(name: str, pairs: Pairs, *, language: str, contamination: str) -> DataSource:
    """Pairs as they were read; of a plain table nobody has stated a licence."""
    found = pairs_recipe(name)
    file = Path(name).name
    card = DataCard(name="own-pairs", title=file, licence="unknown") if found is None else found.recipe
    source = TableFiles(kind="files", paths=(file,)) if found is None else found.recipe.source
    return data_source(
        card,
        source,
        kind="pairs",
        language=language,
        rows=len(pairs.texts),
        blank_rows=0,
        fingerprint=pairs.fingerprint,
        contamination=contamination,
    )


def finished_samples(student: Student, recipe: LanguageRecipe) -> Samples:
    """What a finished student says of its sample texts, on the CPU and in float32; it stays there."""
    texts = sample_texts(recipe)
    return Samples(texts=texts, embeddings=student.to("cpu").encode(texts, exact=True))
