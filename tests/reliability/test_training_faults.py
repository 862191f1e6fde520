"""Full disks, flipped bytes, two runs at once, no memory, losses that jump: said, and nothing is lost."""

import fcntl
import math
import resource
import sys
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

sys.path.append(str(Path(__file__).parents[1] / "training"))
from test_loop import linear, loss, start
from tiny_run import felt, run, weights

from langadapt.cli import main
from langadapt.errors import Progress, TrainingError
from langadapt.files.atomic import read_tensors, write_tensors
from langadapt.training import fit
from langadapt.training.watch import LossWatch

ALONE = "distill.info_nce_weight=0"


class Stop(Exception):
    """As if the power had failed."""


def stopping(step: int):
    def report(progress: Progress) -> None:
        if progress.stage == "distil" and progress.done == step:
            raise Stop

    return report


@pytest.fixture
def stopped(language_folder: Path, tmp_path: Path) -> Path:
    with pytest.raises(Stop):
        run(language_folder, tmp_path / "run", "distill.epochs=2", report=stopping(12), checkpoint_seconds=0)
    return tmp_path / "run"


@pytest.mark.parametrize("name", ["state", "best"])
def test_a_flipped_bit_of_a_checkpoint_is_noticed(language_folder: Path, tmp_path: Path, name: str) -> None:
    still = (
        "distill.epochs=2",
        "distill.learning_rate=1e-30",
    )  # the best weights are those of the first epoch
    with pytest.raises(Stop):
        run(language_folder, tmp_path, *still, report=stopping(12))
    path = tmp_path / "checkpoint" / f"{name}.safetensors"
    raw = bytearray(path.read_bytes())
    raw[-9] ^= 1
    path.write_bytes(raw)
    with pytest.raises(TrainingError, match=r"damaged.*not those that were written.*--overwrite"):
        run(language_folder, tmp_path, *still)
    assert not (tmp_path / "artifact.json").exists()


def test_two_runs_in_one_folder(stopped: Path, language_folder: Path) -> None:
    lock = stopped / "checkpoint" / "lock"
    before = (stopped / "checkpoint" / "state.safetensors").read_bytes()
    with lock.open("a") as held:
        for overwrite in (False, True):
            fcntl.flock(held, fcntl.LOCK_EX)
            with pytest.raises(TrainingError, match="another process is training in it"):
                run(language_folder, stopped, "distill.epochs=2", overwrite=overwrite)
            assert (stopped / "checkpoint" / "state.safetensors").read_bytes() == before
    run(language_folder, stopped, "distill.epochs=2")


def test_a_full_disk_keeps_the_old_checkpoint(
    stopped: Path, language_folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    before = (stopped / "checkpoint" / "state.safetensors").read_bytes()
    words = ["distill", "--recipe", str(language_folder / "es.yaml"), "--set", "distill.epochs=2"]
    monkeypatch.setattr(sys, "argv", ["langadapt", *words, "--out", str(stopped), "--device", "cpu"])
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (len(before) // 2, hard))
    try:
        with pytest.raises(SystemExit) as stop:
            main()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert stop.value.code == 2
    (line,) = [item for item in capsys.readouterr().err.splitlines() if item.startswith("langadapt: ")]
    assert "safetensors: File too large; nothing was overwritten" in line
    assert (stopped / "checkpoint" / "state.safetensors").read_bytes() == before
    said: list[str] = []
    run(language_folder, stopped, "distill.epochs=2", report=lambda p: said.append(p.stage))
    assert "resumed at step 11 of 20" in said


def test_tensors_come_back_and_the_same_ones_make_the_same_bytes(tmp_path: Path) -> None:
    made = {"a": torch.randn(3, 4).bfloat16(), "b": torch.arange(5), "c": torch.tensor(2.5)}
    write_tensors(tmp_path / "x", made, {"step": "3", "more": "é"})
    found, said = read_tensors(tmp_path / "x")
    assert said == {"format": "pt", "step": "3", "more": "é"}
    assert all(torch.equal(found[name], value) for name, value in made.items())
    for name in ("y", "z"):
        write_tensors(tmp_path / name, made)
    assert (tmp_path / "y").read_bytes() == (tmp_path / "z").read_bytes()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["x", "y", "z"]


class NoMemory:
    """A loss that fits only a few rows."""

    def __init__(self, real, rows: int) -> None:
        self.real, self.rows, self.tried = real, rows, list[int]()

    def __call__(self, model, batch, *rest):
        rows = len(batch.targets)
        self.tried.append(rows)
        if rows > self.rows:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")
        return self.real(model, batch, *rest)


@pytest.mark.parametrize(
    ("settings", "words", "same"),
    [
        (("adapter.dropout=0.0", ALONE), "the result is the same up to rounding", True),
        (("adapter.dropout=0.1", ALONE), "but for dropout", False),
        (("adapter.dropout=0.0", "distill.info_nce_weight=1.0"), "the result differs", False),
    ],
    ids=["same", "dropout", "contrastive"],
)
def test_out_of_memory_cuts_the_batch(
    language_folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    settings: tuple[str, ...],
    words: str,
    same: bool,
) -> None:
    module = sys.modules["langadapt.training.distill"]
    settings = ("distill.epochs=1", "distill.batch_size=10", *settings)
    run(language_folder, tmp_path / "whole", *settings)
    small = NoMemory(module.distill_loss, 4)
    monkeypatch.setattr(module, "distill_loss", small)
    said: list[str] = []
    out = tmp_path / "split"
    run(language_folder, out, *settings, report=lambda p: said.append(p.stage))
    assert small.tried[:6] == [10, 5, 3, 3, 3, 1], (
        "10 rows, then 2 micro-batches, then 4: not all of one size"
    )
    assert [line.partition(";")[0] for line in said if line.startswith("out of memory")] == [
        f"out of memory: each batch now runs in {count} micro-batches, gradients added up" for count in (2, 4)
    ]
    assert words in " ".join(said)
    whole, split = (felt(weights(folder)) for folder in (tmp_path / "whole", out))
    assert all(torch.allclose(value, split[name], atol=2e-3) for name, value in whole.items()) == same


def test_a_batch_of_one_row_that_does_not_fit_ends_the_run(
    language_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    module = sys.modules["langadapt.training.distill"]
    monkeypatch.setattr(module, "distill_loss", NoMemory(module.distill_loss, 0))
    with pytest.raises(
        TrainingError, match=r"out of memory at step 1 \(batch 1 of epoch 1: '.*lower the stage"
    ):
        run(language_folder, tmp_path, "distill.epochs=1")


def test_another_runtime_error_is_a_bug(language_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(model: nn.Module, batch: Tensor) -> Tensor:
        raise RuntimeError("shapes do not fit")

    with pytest.raises(RuntimeError, match="shapes do not fit"):
        list(fit(start(linear(), broken)))


def test_a_spike_stops_before_it_does_harm(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("langadapt.training.watch._LEAST_LOSSES", 4)
    monkeypatch.setattr("langadapt.training.watch._FIRST_LOSSES", 2)
    module = linear()

    def jumping(model: nn.Module, batch: Tensor) -> Tensor:
        return loss(model, batch) * (1e3 if state.step == 9 else 1.0)

    state = start(module, jumping, describe=lambda batch: f"{len(batch)} rows")
    steps = fit(state)
    for _ in range(9):
        next(steps)
    before = module.weight.clone()
    with pytest.raises(TrainingError, match=r"at step 10 \(batch 2 of epoch 3: 5 rows\), and the median of"):
        next(steps)
    assert torch.equal(module.weight, before)
    assert state.step == 9


def test_what_is_a_spike_and_what_is_not() -> None:
    usual = [5.0] * 8 + [0.3] * 31
    cases = [
        ([*usual, 4.9], None, "not worse than the beginning"),
        ([*usual, 2.9], None, "not ten times the usual"),
        ([*usual, 5.1, 0.3, 5.1], 39, "and what comes behind is not judged any more"),
        ([*usual, 0.3, math.nan], 40, "not finite"),
        ([1.0] * 31 + [1e9], None, "too few to judge"),
        ([0.1] * 32 + [1e9], 32, ""),
        ([1.0] * 16 + [0.1] * 47 + [1.05], 63, "of fewer than 64"),
        ([5.0] * 8 + [3.0] * 24 + [0.3] * 33 + [5.2], 65, "the median of the last 64 is 0.3"),
        ([5.0] * 8 + [3.0] * 24 + [0.3] * 32 + [5.2], None, "1.65, between the two in the middle"),
    ]
    for losses, broken, why in cases:
        watch = LossWatch(torch.device("cpu"), rows=len(losses))
        for value in losses:
            watch.see(torch.tensor(value), torch.zeros(()))
        seen = watch.read(len(losses))
        assert [step.loss for step in seen] == pytest.approx(losses, nan_ok=True)
        first = next((number for number, step in enumerate(seen) if step.broken), None)
        assert first == broken, why
        assert float(watch.broken) == (broken is not None)
