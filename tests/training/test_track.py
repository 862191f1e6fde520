"""Experiment trackers hear of each step, each validation and the recipe, and of nothing unless asked."""

from pathlib import Path
from typing import Any

import pytest
from accelerate.tracking import GeneralTracker
from tiny_run import run
from tiny_tune import stage, tuned, write_pairs

from langadapt.training import track
from langadapt.training.log import read_log


class Listener(GeneralTracker):
    """A tracker that keeps what it is told."""

    name, requires_logging_directory = "listener", False

    def __init__(self) -> None:
        super().__init__()
        self.config: dict[str, Any] = {}
        self.told: list[tuple[int, dict[str, Any]]] = []
        self.ends = 0

    @property
    def tracker(self) -> "Listener":
        return self

    def start(self) -> None: ...

    def store_init_configuration(self, values: dict[str, Any]) -> None:
        self.config = values

    def log(self, values: dict[str, Any], step: int, **options: Any) -> None:
        self.told.append((step, values))

    def finish(self) -> None:
        self.ends += 1


def agree(heard: Listener, out: Path) -> None:
    """What a tracker heard is what the log says, by step."""
    steps, recalls = read_log(out)
    assert [told for told in heard.told if "loss" in told[1]] == [
        (log.step, {"loss": log.loss, "learning_rate": log.learning_rate}) for log in steps
    ]
    assert [told for told in heard.told if "loss" not in told[1]] == [
        (step, {"held_out_recall": recall}) for step, recall in recalls.items()
    ]
    assert recalls
    assert heard.ends == 1


def test_what_a_tracker_hears(language_folder: Path, tmp_path: Path) -> None:
    first = Listener()
    run(language_folder, tmp_path / "es", "distill.epochs=2", "distill.min_steps=2", track=first)
    agree(first, tmp_path / "es")
    assert first.config["distill.epochs"] == 2
    assert first.config["code"] == "es"
    assert first.config["adapter.layers"] != "auto", "as it was run"
    assert all(isinstance(value, str | int | float) for value in first.config.values())
    second = Listener()
    tuned(tmp_path / "es", tmp_path / "tuned", stage(write_pairs(tmp_path)), track=second)
    agree(second, tmp_path / "tuned")
    assert second.config["tune.batch_size"] == 16


def test_it_is_closed_where_training_fails(language_folder: Path, tmp_path: Path) -> None:
    heard = Listener()

    def full(values: dict[str, Any], step: int, **options: Any) -> None:
        raise OSError("no space left")

    heard.log = full  # type: ignore[method-assign]
    with pytest.raises(OSError, match="no space left"):
        run(language_folder, tmp_path / "es", track=heard)
    assert heard.ends == 1


def test_tensorboard(language_folder: Path, tmp_path: Path) -> None:
    reader = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    run(language_folder, tmp_path / "es", "distill.epochs=2", "distill.min_steps=2", track="tensorboard")
    found = reader.EventAccumulator(str(tmp_path / "es" / "track" / "langadapt")).Reload()
    steps, recalls = read_log(tmp_path / "es")
    losses = {event.step: event.value for event in found.Scalars("loss")}
    assert losses == pytest.approx({log.step: log.loss for log in steps}, rel=1e-6)
    assert [event.step for event in found.Scalars("held_out_recall")] == list(recalls)
    (settings,) = (tmp_path / "es" / "track").rglob("hparams.yml")
    assert "distill.epochs: 2" in settings.read_text()


def test_a_missing_package(language_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(track, "get_available_trackers", list)
    with pytest.raises(track.TrainingError, match=r"--track wandb: .*pip install 'langadapt\[wandb\]'"):
        run(language_folder, tmp_path / "es", track="wandb")
    assert not (tmp_path / "es").exists()
