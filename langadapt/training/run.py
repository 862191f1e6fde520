"""One stage at work in one folder: processes, lock, resume, best checkpoint, log, result."""

import json
import math
import os
import shutil
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import torch
from accelerate import Accelerator
from filelock import FileLock, Timeout
from torch import Tensor, nn

from langadapt.errors import Progress, Report, TrainingError
from langadapt.files.atomic import read_tensors, remove_old, write_tensors, write_text
from langadapt.files.json import parse_json, read_json
from langadapt.models.artifact import FACTS, RECIPE, SAMPLES, SCORES, VOCABULARY, WEIGHTS
from langadapt.models.load import best_device, device_name, take_device, uses_bf16
from langadapt.training.log import cut_log
from langadapt.training.loop import Batch, FitState, Stage, Validation, fit, start_fit
from langadapt.training.track import Tracker, accelerator_options

StateBits = Literal[16, 8]


@dataclass(frozen=True, kw_only=True)
class RunOptions:
    """What a recipe should not hold."""

    device: torch.device | None = None
    """None takes the best one."""
    overwrite: bool = False
    checkpoint_seconds: float = 300.0
    """A checkpoint is written this often, and at the end of each epoch."""
    reuse_finished: bool = False
    """Take a finished run of the same recipe, data and models for the result."""
    images: Path | None = None
    """Folder at which the image paths of tables start (tune, domain and align)."""
    state_cache_bytes: int | None = None
    """Of frozen hidden states (distill); None: half of a CUDA device's free memory, else 8 GB of disk."""
    state_bits: StateBits = 16
    """Bits of a stored number in them (distill)."""
    track: Tracker | None = None
    """Experiment tracker that hears loss, learning rate and held-out recall; None tells nobody."""


@dataclass(frozen=True, kw_only=True)
class Run:
    """A stage's folder, its processes and how it reports; `open_run` makes it."""

    folder: Path
    accelerator: Accelerator
    options: RunOptions
    report: Report
    """Silent in all processes but the main one."""
    started: float = field(default_factory=time.perf_counter)

    @property
    def seconds(self) -> float:
        return time.perf_counter() - self.started

    @property
    def is_main(self) -> bool:
        return bool(self.accelerator.is_main_process)

    @property
    def checkpoint(self) -> Path:
        return self.folder / "checkpoint" / "state.safetensors"

    @property
    def mark(self) -> Path:
        return self.folder / "checkpoint" / "run.json"

    @property
    def best(self) -> Path:
        return self.folder / "checkpoint" / "best.safetensors"

    @property
    def log(self) -> Path:
        return self.folder / "log.jsonl"

    @cached_property
    def _lock(self) -> FileLock:
        # The same process may claim a folder again; the system frees the lock of a killed one.
        return FileLock(self.folder / "checkpoint" / "lock", is_singleton=True)

    def claim(self, key: str) -> bool:
        """Take the folder, or resume in it; False where it holds this very run, finished.

        All processes call this. A finished run is accepted with `reuse_finished`, or where a process was
        killed at its end: what it left is removed. `key` is the fingerprint of recipe, data and models.
        Another process at work in the folder, or something else in it, is a TrainingError.
        """
        if self._is_finished(key):
            return False
        if self.is_main:
            self._claim(key)
        self.accelerator.wait_for_everyone()
        return True

    def _claim(self, key: str) -> None:
        mark = self.mark
        if not self.options.overwrite:
            self._check_unfinished()
        mark.parent.mkdir(parents=True, exist_ok=True)
        try:
            self._lock.acquire(timeout=0)
        except Timeout as error:
            problem = f"{self.folder}: another process is training in it"
            raise TrainingError(f"{problem}; wait for it, or choose another --out") from error
        remove_old(mark.parent, seconds=0)
        self._remove_temporary()
        if self.options.overwrite:
            self._empty_checkpoint()
        else:
            self._check_unfinished()  # the other may have finished just now
        if mark.is_file() and _key(mark) != key:
            if self.checkpoint.is_file():
                raise TrainingError(
                    f"{self.folder} holds an unfinished run of another recipe, data or model; "
                    "choose another --out, or --overwrite"
                )
            self._empty_checkpoint()  # left by a command that was stopped or refused
        write_text(mark, json.dumps({"key": key}))

    def _check_unfinished(self) -> None:
        if (self.folder / FACTS).is_file():
            raise TrainingError(f"{self.folder} holds a finished run; choose another --out, or --overwrite")

    def remove_old(self) -> None:
        """Remove what is left of a run before, when training begins and nothing refuses it any more."""
        old = (FACTS, SCORES, SAMPLES, RECIPE, WEIGHTS, VOCABULARY, "report.html", "domain.json")
        for name in (self.log.name, *(old if self.options.overwrite else ())):
            (self.folder / name).unlink(missing_ok=True)

    def _remove_temporary(self) -> None:
        remove_old(self.folder, seconds=0)
        remove_old(self.folder / "data", seconds=0)  # recipes of the user's own tables

    def _empty_checkpoint(self) -> None:
        for path in (self.folder / "checkpoint").iterdir():
            if path.is_dir():
                shutil.rmtree(path)
            elif path.name != "lock":
                path.unlink()

    def _is_finished(self, key: str) -> bool:
        left = self.folder / "checkpoint"
        if self.options.overwrite or not (self.options.reuse_finished or left.exists()):
            return False
        try:
            facts = read_json(self.folder / FACTS)
            same = bool(facts["training"]["run_key"] == key)
        except (OSError, ValueError, AttributeError, KeyError, TypeError):
            return False
        self.accelerator.wait_for_everyone()
        if same and self.is_main:
            shutil.rmtree(left, ignore_errors=True)
            self._remove_temporary()
            self.report(Progress(stage=f"{self.folder}: finished before"))
        return same

    def settled(self, name: str, choose: Callable[[], object]) -> str:
        """Return a choice as it fell when the run began, on whatever machine; all processes call this."""
        path = self.checkpoint.with_name(name)
        if self.is_main and not path.is_file():
            write_text(path, str(choose()))
        self.accelerator.wait_for_everyone()
        return path.read_text(encoding="utf-8")

    def finish(self, write: Callable[[], None]) -> None:
        """Write the result in the main process, then remove what only an unfinished run needs."""
        if self.is_main:
            write()
            shutil.rmtree(self.folder / "checkpoint", ignore_errors=True)
            self._lock.release(force=True)
        self.accelerator.wait_for_everyone()


def _damaged(path: Path, error: Exception) -> TrainingError:
    problem = str(error).splitlines()[0]
    return TrainingError(f"{path}: damaged checkpoint: {problem}; start again with --overwrite")


def _key(mark: Path) -> object:
    try:
        return read_json(mark)["key"]
    except (KeyError, TypeError, ValueError) as error:
        raise _damaged(mark, error) from error


def open_run(folder: Path, *, batch_size: int, options: RunOptions | None, report: Report) -> Run:
    """Settle device, precision and processes; raise where they cannot share the batch evenly."""
    options = options or RunOptions()
    device = options.device or best_device()
    take_device(device)
    precision, more = "bf16" if uses_bf16(device) else "no", accelerator_options(options.track, folder)
    accelerator = Accelerator(mixed_precision=precision, cpu=device.type == "cpu", **more)
    if batch_size % accelerator.num_processes:
        raise TrainingError(
            f"batch_size {batch_size} cannot be shared by {accelerator.num_processes} processes; make it a "
            "multiple of their number"
        )
    if not accelerator.is_main_process:
        report = lambda progress: None  # noqa: E731
    return Run(folder=folder, accelerator=accelerator, options=options, report=report)


def train(run: Run, stage: Stage[Batch]) -> dict[str, Any]:
    """Train a stage with `validate` in a claimed run, and leave the best weights in the module.

    Return `held_out_recall`, `held_out_loss` and `best_step` of the best validation, `held_out_languages` of
    several ones; `steps`, `stopped_at`, `seconds`, `device`, `run_key`; `trained_parameters` and `_percent`;
    `start_recall` if the start was validated. TrainingError: a loss that is not finite, a damaged checkpoint.
    """
    accelerator, plan, sampler = run.accelerator, stage.plan, stage.sampler
    counts = stage.module.parameter_counts()  # type: ignore[operator]
    percent = 100 * counts["trained"] / counts["total"]
    where = device_name(accelerator.device)
    run.report(Progress(stage=f"trains {counts['trained']:,} weights, {percent:.2f} % of all, on {where}"))
    state = start_fit(stage, accelerator)
    best, seconds_before = _first_or_resumed(run, state)
    lines, due_at = list[str](), time.monotonic() + run.options.checkpoint_seconds
    for log in fit(state):
        if sampler is not None:
            sampler.learn()
        lines.append(json.dumps({"kind": "step", **asdict(log)}))
        accelerator.log({"loss": log.loss, "learning_rate": log.learning_rate}, step=log.step)
        note = f"loss {log.loss:.3f}"
        if best["held_out_recall"] >= 0:
            note += f", held-out recall {best['held_out_recall']:.1f}"
        run.report(Progress(stage=stage.name, done=log.step, total=plan.steps, note=note))
        epoch_ends = log.step % plan.steps_per_epoch == 0
        if epoch_ends:
            if sampler is not None:
                lines.append(json.dumps({"kind": "sampling", "step": log.step, **sampler.epoch_done()}))
            found = _validate(state)
            lines.append(json.dumps({"kind": "held_out", "step": log.step, **found.recalls}))
            accelerator.log({"held_out_recall": found.recall}, step=log.step)
            if stage.is_better(found, best):
                best = _improved(run, state, best, found)
        if log.step == state.step and (epoch_ends or state.stopping or time.monotonic() > due_at):
            if run.is_main:
                with run.log.open("a", encoding="utf-8") as file:
                    file.write("".join(line + "\n" for line in lines))
                    file.flush()
                    os.fsync(file.fileno())  # before the checkpoint, which counts its lines
                save_checkpoint(run.checkpoint, state, {**best, "seconds": seconds_before + run.seconds})
            lines, due_at = [], time.monotonic() + run.options.checkpoint_seconds
        waited = log.step // plan.steps_per_epoch - math.ceil(best["best_step"] / plan.steps_per_epoch)
        if epoch_ends and stage.patience_epochs is not None and waited >= stage.patience_epochs:
            break
    accelerator.wait_for_everyone()
    try:
        _put(accelerator.unwrap_model(state.model, keep_fp32_wrapper=False), read_tensors(run.best)[0])
    except (OSError, ValueError) as error:
        raise _damaged(run.best, error) from error
    accelerator.wait_for_everyone()
    return {
        **best,
        "steps": plan.steps,
        "stopped_at": state.step,
        "seconds": round(seconds_before + run.seconds, 1),
        "trained_parameters": counts["trained"],
        "trained_percent": round(percent, 3),
        "device": str(accelerator.device),
        "run_key": _key(run.mark),
    }


def _first_or_resumed(run: Run, state: FitState[Batch]) -> tuple[dict[str, Any], float]:
    """Restore the checkpoint, or validate the start; return the best validation and the seconds before."""
    if run.checkpoint.is_file():
        best = load_checkpoint(run.checkpoint, state)
        if run.is_main:
            cut_log(run.log, state.step)
        run.report(Progress(stage=f"resumed at step {state.step} of {state.stage.plan.steps}"))
        return best, best.pop("seconds")
    if run.is_main:
        run.remove_old()
    best = {"held_out_recall": -1.0, "best_step": 0}
    if state.stage.patience_epochs is not None:
        found = _validate(state)
        best = _improved(run, state, best, found) | {"start_recall": found.recall}
        run.report(Progress(stage=f"held-out recall (mR6) at the start: {found.recall:.1f} %"))
    return best, 0.0


def _validate(state: FitState[Batch]) -> Validation:
    assert state.stage.validate is not None
    state.model.eval()
    return state.stage.validate(state.accelerator.unwrap_model(state.model), state.step)


def _improved(run: Run, state: FitState[Batch], best: dict[str, Any], found: Validation) -> dict[str, Any]:
    """Save the weights as the best ones; return the facts about them."""
    if run.is_main:
        write_tensors(run.best, trained_parameters(run.accelerator.unwrap_model(state.model)), {})
    facts = {"held_out_recall": found.recall, "held_out_loss": found.loss, "best_step": state.step}
    return best | facts | ({"held_out_languages": found.languages} if found.languages else {})


def trained_parameters(module: nn.Module) -> dict[str, Tensor]:
    """Weights that learn, by name."""
    return {name: value.detach() for name, value in module.named_parameters() if value.requires_grad}


@torch.no_grad()
def _put(module: nn.Module, weights: dict[str, Tensor]) -> None:
    for name, value in trained_parameters(module).items():
        value.copy_(weights[name])


def save_checkpoint(path: Path, state: FitState[Batch], extra: dict[str, Any]) -> None:
    """Write weights, optimizer, sampler, step and plain values; the file appears whole or not at all."""
    module, sampler = state.accelerator.unwrap_model(state.model), state.stage.sampler
    tensors = {f"weight.{name}": value for name, value in trained_parameters(module).items()}
    for index, moments in state.optimizer.state_dict()["state"].items():
        for name, value in moments.items():
            tensors[f"moment.{index}.{name}"] = torch.as_tensor(value)
    if sampler is not None:
        tensors |= {f"sampler.{name}": value for name, value in sampler.tensors().items()}
    write_tensors(path, tensors, {"step": str(state.step), "extra": json.dumps(extra)})


def load_checkpoint(path: Path, state: FitState[Batch]) -> dict[str, Any]:
    """Restore a checkpoint of the same recipe into what `start_fit` made; return its plain values."""
    module, sampler = state.accelerator.unwrap_model(state.model), state.stage.sampler
    moments: dict[int, dict[str, Tensor]] = {}
    try:
        tensors, metadata = read_tensors(path)
        for name, value in tensors.items():
            kind, rest = name.split(".", 1)
            if kind == "moment":
                index, moment = rest.split(".", 1)
                moments.setdefault(int(index), {})[moment] = value
        _put(module, {name.removeprefix("weight."): value for name, value in tensors.items()})
        state.step = int(metadata["step"])
        extra: dict[str, Any] = parse_json(metadata["extra"])
        if sampler is not None:
            sampler.restore({name.removeprefix("sampler."): value for name, value in tensors.items()})
    except (KeyError, RuntimeError, ValueError) as error:
        raise _damaged(path, error) from error
    state.optimizer.load_state_dict({**state.optimizer.state_dict(), "state": moments})
    return extra
