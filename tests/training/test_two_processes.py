"""Two processes share each batch, learn what one would learn from it, and one of them writes."""

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny_run import felt, run
from tiny_tune import distilled, domain_stage, every_epoch_is_better, hard_pairs, stage, tuned, write_pairs
from two_processes import BATCH, BOTH, HARD

import langadapt
from langadapt.training.log import read_log

pytestmark = pytest.mark.slow

# Dropout differs between the processes; everything else must not.
SETTINGS = ["distill.epochs=2", "adapter.dropout=0"]


@dataclass(frozen=True, kw_only=True)
class Two:
    """What two processes made of a student and pairs; `told[rank]` is what each of them saw."""

    start: Path
    pairs: Path
    out: Path
    told: list[dict[str, Any]]


@pytest.fixture(scope="module")
def two(language_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Two:
    folder = tmp_path_factory.mktemp("two")
    start, pairs = distilled(language_folder, folder / "start", SETTINGS[1]), write_pairs(folder / "pairs")
    script = Path(__file__).with_name("two_processes.py")
    environment = {
        **os.environ,
        "LANGADAPT_CACHE": str(folder / "cache"),
        "PYTHONPATH": os.pathsep.join([str(script.parent), *sys.path]),
    }
    out = folder / "out"
    out.mkdir()
    port = str(20000 + os.getpid() % 20000)
    done = subprocess.run(
        [sys.executable, script, language_folder, start, pairs, out, port, *SETTINGS],
        env=environment,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    told = [json.loads((out / f"process-{rank}.json").read_text()) for rank in (0, 1)]
    assert told[0]["digests"] == told[1]["digests"], "the gradients are shared"
    return Two(start=start, pairs=pairs, out=out, told=told)


@pytest.fixture(autouse=True)
def _the_last_epoch_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    every_epoch_is_better(monkeypatch)


def same_losses(one: Path, two: Path) -> int:
    """The number of steps."""
    losses = [torch.tensor([log.loss for log in read_log(folder)[0]]) for folder in (one, two)]
    torch.testing.assert_close(losses[1], losses[0], rtol=1e-4, atol=1e-5)
    return len(losses[0])


def test_distilling_writes_one_artifact(two: Two, language_folder: Path, tmp_path: Path) -> None:
    for key in ("held_out_recall", "best_step", "steps"):
        assert two.told[0]["training"][key] == two.told[1]["training"][key]
    assert [process["rows"] for process in two.told] == [[8] * 20] * 2, "half of each batch"
    assert two.told[0]["reports"] > 0
    assert two.told[1]["reports"] == 0
    out = two.out / "distilled"
    steps, recalls = read_log(out)
    assert [log.step for log in steps] == list(range(1, 21)), "each step is logged once"
    assert list(recalls) == [10, 20]
    assert max(recalls.values()) == two.told[0]["training"]["held_out_recall"]
    assert sorted(path.name for path in out.iterdir()) == [
        "adapter.safetensors",
        "artifact.json",
        "log.jsonl",
        "recipe.yaml",
        "samples.safetensors",
    ]
    one = run(language_folder, tmp_path / "one", *SETTINGS)
    assert same_losses(tmp_path / "one", out) == 20
    model = langadapt.load(out)
    made = felt(model.artifact.weights)
    for name, value in felt(one.weights).items():
        torch.testing.assert_close(made[name].float(), value.half().float(), rtol=1e-2, atol=1e-4)
    assert model.artifact.digest == two.told[0]["digests"][0]
    torch.testing.assert_close(model.encode_text(["gato rojo"]).norm(), torch.tensor(1.0))


def test_gathered_gradients_come_from_all_processes(two: Two) -> None:
    got = torch.tensor([process["gradient"] for process in two.told]).view_as(BATCH)
    torch.testing.assert_close(got, 2 * 3 * BATCH**2)  # two losses; the mean over processes comes later


def test_tuning_equals_one_process(two: Two, tmp_path: Path) -> None:
    one = tuned(two.start, tmp_path / "one", stage(two.pairs, **BOTH))
    assert same_losses(tmp_path / "one", two.out / "tuned") == 6
    made = felt(langadapt.load(two.out / "tuned").artifact.weights)
    for name, value in felt(one.weights).items():
        torch.testing.assert_close(made[name].float(), value.half().float(), rtol=1e-2, atol=2e-5)


def test_hard_sampling_draws_as_one_process(two: Two, tmp_path: Path) -> None:
    assert two.told[0]["domain"] == two.told[1]["domain"], "difficulties and draws"
    tuned(two.start, tmp_path / "one", domain_stage(two.pairs, **HARD))
    both = [hard_pairs(folder) for folder in (tmp_path / "one", two.out / "hard")]
    draws = [{(p["image"], p["caption"]): p["draws"] for p in rows} for rows in both]
    assert draws[0] == draws[1]
    assert len(set(draws[0].values())) > 2, "not each pair alike"
    ends = [{p["image"] + p["caption"]: p["end"] for p in rows} for rows in both]
    assert ends[1] == pytest.approx(ends[0], abs=1e-3)
