"""A store killed with SIGKILL in a process of its own; benchmarks/reliability/killed.py does it to all."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

FOLDER = Path(__file__).parents[2] / "benchmarks" / "reliability"


def test_killed_and_resumed(tmp_path: Path) -> None:
    command = [sys.executable, FOLDER / "killed.py", "--kills", "2", "--signals", "0", "--only", "stores"]
    root = str(Path(__file__).parents[2])
    done = subprocess.run(
        [*command, "--json", tmp_path / "trials.json"],
        env={**os.environ, "PYTHONPATH": root, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    (trial,) = json.loads((tmp_path / "trials.json").read_text(encoding="utf-8"))
    assert (trial["tried"], trial["survived"]) == (2, 2)
    assert int(trial["note"].split()[0]) >= 1, "it was killed at work"
