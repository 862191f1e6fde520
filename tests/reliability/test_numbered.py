"""A store that a power cut ends; benchmarks/reliability/numbered.py does it to all stages."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

FOLDER = Path(__file__).parents[2] / "benchmarks" / "reliability"


def test_ended_and_run_again(tmp_path: Path) -> None:
    command = [sys.executable, FOLDER / "numbered.py", "--every", "90", "--only", "stores"]
    command += ["--kind", "power cut"]
    done = subprocess.run(
        [*command, "--json", tmp_path / "trials.json"],
        env={**os.environ, "PYTHONPATH": str(FOLDER.parents[1]), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    trials = json.loads((tmp_path / "trials.json").read_text(encoding="utf-8"))
    (trial,) = trials
    assert (trial["part"], trial["name"]) == ("power cut", "stores")
    assert trial["tried"] == trial["survived"] >= 1


PROGRAM = """
import os, sys
from pathlib import Path
sys.path.append(sys.argv[3])
from numbered import Disk
from langadapt.files.atomic import sync, write_text
place = Path(sys.argv[1]).resolve()
write_text(place / "kept", "before")
disk = Disk(place, end_at=int(sys.argv[2]), power_cut=True)
disk.start()
(place / "loose").write_text("never synced")
write_text(place / "kept", "after")
os.rename(place / "kept", place / "moved")
(place / "last").touch()
"""


@pytest.mark.parametrize(
    ("event", "kept"),
    [(7, "before"), (10, "after")],
    ids=["between a rename and its sync", "behind a rename without sync"],
)
def test_the_model_of_a_power_cut(tmp_path: Path, event: int, kept: str) -> None:
    """What was never synced is empty, and a rename whose folder was not synced did not happen."""
    command = [sys.executable, "-c", PROGRAM, tmp_path, str(event), FOLDER]
    root = str(FOLDER.parents[1])
    done = subprocess.run(command, env={**os.environ, "PYTHONPATH": root}, check=False)
    assert done.returncode == 77
    assert (tmp_path / "kept").read_text(encoding="utf-8") == kept
    assert (tmp_path / "loose").read_text(encoding="utf-8") == ""
    assert not (tmp_path / "moved").exists()
