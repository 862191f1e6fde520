"""Two processes share each batch, learn what one would learn from it, and one of them writes."""

import json
import os
import subprocess
import sys
from pathlib import Path

import torch
from tiny_run import run

import langadapt
from langadapt.training.run_folder import read_log

# Dropout differs between the processes; everything else must not.
SETTINGS = ["distill.epochs=2", "adapter.dropout=0"]


def test_two_processes_write_one_artifact(language_folder: Path, tmp_path: Path) -> None:
    script = Path(__file__).with_name("two_processes.py")
    environment = {
        **os.environ,
        "LANGADAPT_CACHE": str(tmp_path / "cache"),
        "OMP_NUM_THREADS": "1",
        "PYTHONPATH": os.pathsep.join([str(script.parent), *sys.path]),
    }
    port = str(20000 + os.getpid() % 20000)
    out = tmp_path / "run"
    done = subprocess.run(
        [sys.executable, script, language_folder, out, port, *SETTINGS],
        env=environment,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    told = [json.loads((tmp_path / f"process-{rank}.json").read_text()) for rank in (0, 1)]
    assert told[0]["digest"] == told[1]["digest"], "the gradients are shared"
    for key in ("held_out_recall", "best_step", "steps"):
        assert told[0]["training"][key] == told[1]["training"][key]
    assert [process["rows"] for process in told] == [[8] * 20] * 2, "half of each batch"
    assert told[0]["reports"] > 0
    assert told[1]["reports"] == 0

    steps, recalls = read_log(out)
    assert [log.step for log in steps] == list(range(1, 21)), "each step is logged once"
    assert list(recalls) == [10, 20]
    assert max(recalls.values()) == told[0]["training"]["held_out_recall"]
    assert sorted(path.name for path in out.iterdir()) == [
        "adapter.safetensors",
        "artifact.json",
        "log.jsonl",
        "recipe.yaml",
        "samples.safetensors",
    ]
    one = run(language_folder, tmp_path / "one", *SETTINGS)
    losses = [[log.loss for log in found] for found in (read_log(tmp_path / "one")[0], steps)]
    torch.testing.assert_close(torch.tensor(losses[1]), torch.tensor(losses[0]), rtol=1e-4, atol=1e-5)
    model = langadapt.load(out)
    for name, value in one.weights.items():
        torch.testing.assert_close(
            model.artifact.weights[name].float(), value.half().float(), rtol=1e-2, atol=1e-4
        )
    assert model.artifact.digest == told[0]["digest"]
    torch.testing.assert_close(model.encode_text(["gato rojo"]).norm(), torch.tensor(1.0))
