"""Distillation from end to end on tiny real models."""

from pathlib import Path

import torch

from langadapt.recipes import find_language, override
from langadapt.training import DistillOptions, distill


def run(folder: Path, out: Path, *settings: str, budget: int = 10**9):
    found = override(find_language(str(folder / "es.yaml")), settings)
    options = DistillOptions(state_cache_bytes=budget, device=torch.device("cpu"))
    return distill(found, out, report=lambda progress: None, options=options)


def test_adapter_learns_the_language(language_folder: Path, tmp_path: Path) -> None:
    untrained = run(language_folder, tmp_path / "a", "distill.learning_rate=1e-9", "distill.epochs=1")
    trained = run(language_folder, tmp_path / "b", "distill.epochs=12")
    assert trained.training["held_out_recall"] > untrained.training["held_out_recall"] + 20
