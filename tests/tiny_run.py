"""One distillation of the tiny models, as tests start it."""

from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors.torch import load_file

from langadapt.errors import Progress, Report
from langadapt.models import Artifact
from langadapt.recipes import find_language, override
from langadapt.training import RunOptions, distill
from langadapt.training.run import StateBits
from langadapt.training.track import Tracker


def silent(progress: Progress) -> None:
    """Nobody watches."""


def run(
    folder: Path,
    out: Path,
    *settings: str,
    budget: int = 10**9,
    report: Report = silent,
    overwrite: bool = False,
    checkpoint_seconds: float = 300.0,
    state_bits: StateBits = 16,
    track: Tracker | None = None,
) -> Artifact:
    found = override(find_language(str(folder / "es.yaml")), settings)
    options = RunOptions(
        state_cache_bytes=budget,
        device=torch.device("cpu"),
        overwrite=overwrite,
        checkpoint_seconds=checkpoint_seconds,
        state_bits=state_bits,
        track=track,
    )
    return distill(found, out, report=report, options=options)


def weights(out: Path) -> dict[str, torch.Tensor]:
    return load_file(out / "adapter.safetensors")


def felt(weights: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """An artifact's weights without those that no answer depends on, as they shift a whole softmax.

    Their gradients are rounding errors, of which Adam makes steps like any other.
    """
    kept = {}
    for name, value in weights.items():
        if name.endswith("query_key_value.bias"):
            query, _, of_values = value.chunk(3)
            kept[name] = torch.cat([query, of_values])
        elif not name.endswith("pool.norm.bias"):
            kept[name] = value
    return kept
