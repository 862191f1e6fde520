"""A process that has no langadapt and no network, as a user's machine without either."""

import subprocess
import sys
from pathlib import Path

_NOTHING = """
import os, socket, sys

class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] == "langadapt":
            raise ModuleNotFoundError(f"No module named '{name}'", name=name)

sys.meta_path.insert(0, Absent())

def refuse(*args, **options):
    raise OSError("no network here")

socket.socket.connect = socket.getaddrinfo = refuse
"""


def run_clean(program: str, *arguments: str, home: Path) -> str:
    """Runs a program in a folder of its own; returns what it printed."""
    home.mkdir(parents=True, exist_ok=True)
    done = subprocess.run(
        [sys.executable, "-I", "-c", _NOTHING + program, *arguments],
        cwd=home,
        env={"HF_HOME": str(home), "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1", "PATH": "/usr/bin:/bin"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout
