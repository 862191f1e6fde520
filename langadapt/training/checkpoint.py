"""The state of an unfinished run on disk: one file that is replaced whole, no pickle."""

import json
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from langadapt.data.write_tensors import read_tensors, write_tensors
from langadapt.errors import TrainingError
from langadapt.training.loop import FitState


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
