"""Everything that reliability means here, tried, as one table: `make reliability`.

python benchmarks/reliability/run.py          # minutes
python benchmarks/reliability/run.py --long   # hours: 20 kills per stage, every event, 100,000 inputs

Each part is a program of its own with its own options: killed.py, numbered.py, faults.py, fuzz.py, load.py.
"""

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path

from trials import Trial, show

_PARTS = {
    "killed.py": (["--kills", "2", "--signals", "2"], ["--kills", "20", "--signals", "10"]),
    "numbered.py": (["--every", "40"], ["--every", "1"]),
    "faults.py": (["--times", "1"], ["--times", "10"]),
    "fuzz.py": (["--inputs", "5000"], ["--inputs", "100000"]),
    "load.py": (["--seconds", "20"], ["--seconds", "600"]),
}


def main() -> None:
    """Runs the parts one after the other, each in a fresh process."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--long", action="store_true")
    parser.add_argument("--only", help="names of parts, divided by commas: killed,numbered,faults,fuzz,load")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=Path, default=Path("runs/reliability.json"))
    arguments = parser.parse_args()
    trials: list[Trial] = []
    with tempfile.TemporaryDirectory() as folder:
        for name, (short, long) in _PARTS.items():
            if arguments.only and name.removesuffix(".py") not in arguments.only.split(","):
                continue
            said = Path(folder) / f"{name}.json"
            command = [sys.executable, str(Path(__file__).with_name(name)), "--json", str(said)]
            command += [*(long if arguments.long else short), "--seed", str(arguments.seed)]
            sys.stderr.write(f"{name} {' '.join(command[4:])}\n")
            done = subprocess.run(command, stdout=subprocess.DEVNULL, check=False)
            if not said.is_file():
                failed = [f"exit code {done.returncode}"]
                trials.append(Trial(part=name, name="ran to its end", tried=1, failures=failed))
                continue
            for row in json.loads(said.read_text(encoding="utf-8")):
                row.pop("survived")
                trials.append(Trial(**row))
    sys.exit(0 if show(trials, arguments.json) else 1)


if __name__ == "__main__":
    main()
