"""Experiment trackers, through accelerate: wandb, TensorBoard, trackio, or an object of your own."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal, TypeAlias

from accelerate import Accelerator
from accelerate.tracking import GeneralTracker, get_available_trackers

from langadapt.errors import TrainingError
from langadapt.files.paths import real_path
from langadapt.recipes import LanguageRecipe

TrackerName = Literal["wandb", "tensorboard", "trackio"]
Tracker: TypeAlias = TrackerName | GeneralTracker


def accelerator_options(tracker: Tracker | None, folder: Path) -> dict[str, Any]:
    """Options of an `Accelerator` that logs to `tracker`; a TrainingError where its package is missing."""
    if tracker is None:
        return {}
    if isinstance(tracker, str) and tracker not in map(str, get_available_trackers()):
        way_out = f"pip install 'langadapt[{tracker}]'"
        raise TrainingError(f"--track {tracker}: its package is not installed; {way_out}")
    return {"log_with": tracker, "project_dir": folder / "track"}


@contextmanager
def tracked(accelerator: Accelerator, folder: Path, recipe: LanguageRecipe) -> Iterator[None]:
    """Open the accelerator's tracker, if it has one, and close it however training ends.

    It keeps the recipe as the configuration, by dotted key as `--set` takes it.
    """
    if not accelerator.log_with:
        yield
        return
    name = real_path(folder).name
    accelerator.init_trackers(
        "langadapt",
        config=dict(_flat(recipe.model_dump(mode="json"))),
        init_kwargs={"wandb": {"name": name, "dir": str(folder)}, "trackio": {"name": name}},
    )
    try:
        yield
    finally:
        for tracker in accelerator.trackers:  # `end_training` would end the group of processes, too
            tracker.finish()


def _flat(values: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, str | int | float]]:
    for key, value in values.items():
        if isinstance(value, dict):
            yield from _flat(value, f"{prefix}{key}.")
        elif value is not None:
            plain = isinstance(value, str | int | float)
            yield prefix + key, value if plain else json.dumps(value, ensure_ascii=False)
