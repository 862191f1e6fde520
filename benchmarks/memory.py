"""Peak memory of distillation at two numbers of pairs: reading, splitting, tokenising, both stores, training.

    OMP_NUM_THREADS=1 python benchmarks/memory.py --pairs 100000 1000000

The models are the embedded world's, small on purpose: what grows is what is looked at. Sentences are drawn
from the world's words, nearly all of them distinct. Each number of pairs is a process of its own with an
empty cache; it trains some steps and ends. Anonymous memory (RssAnon) is what the system cannot take back;
resident memory adds pages of mapped files, which it takes back when another process needs them. Linux only.
"""

import argparse
import contextlib
import json
import os
import random
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

STEPS = 200
_WORDS = 6


def main() -> None:
    """Measures each number of pairs and prints one line per measurement."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--pairs", type=int, nargs="+", default=[100_000, 1_000_000])
    parser.add_argument("--state-cache", type=float, default=0.0, help="GB for frozen states")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--child", nargs=2, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.child:
        distil(Path(arguments.child[0]), int(arguments.child[1]), arguments.state_cache)
        return
    found = []
    for pairs in arguments.pairs:
        with tempfile.TemporaryDirectory(prefix="memory-") as folder:
            command = [sys.executable, __file__, "--state-cache", str(arguments.state_cache)]
            done = subprocess.run(
                [*command, "--child", folder, str(pairs)],
                env={**os.environ, "LANGADAPT_CACHE": str(Path(folder) / "cache")},
                stdout=subprocess.PIPE,
                text=True,
                check=True,
            )
        found.append(json.loads(done.stdout))
        sys.stdout.write(json.dumps(found[-1]) + "\n")
        sys.stdout.flush()
    if arguments.json:
        arguments.json.write_text(json.dumps(found, indent=1), encoding="utf-8")


class Watch(threading.Thread):
    """Samples this process's memory; peaks in MB by stage."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.stage = "start"
        self.anonymous: dict[str, int] = {}
        self.resident = 0

    def run(self) -> None:
        while True:
            fields = dict(
                line.split(":", 1)
                for line in Path("/proc/self/status").read_text().splitlines()
                if ":" in line
            )
            here = int(fields["RssAnon"].split()[0]) // 1000
            self.anonymous[self.stage] = max(here, self.anonymous.get(self.stage, 0))
            self.resident = max(self.resident, int(fields["VmRSS"].split()[0]) // 1000)
            time.sleep(0.02)


def distil(folder: Path, pairs: int, state_cache: float) -> None:
    """One run in this process; prints its peaks as JSON."""
    write_corpus(folder, pairs)
    import torch

    from langadapt.errors import Progress
    from langadapt.recipes import find_language, override
    from langadapt.training import RunOptions, distill

    watch = Watch()
    watch.start()
    started = time.perf_counter()
    seconds: dict[str, float] = {}

    class Enough(Exception):
        """The steps are done."""

    def report(progress: Progress) -> None:
        stage = progress.stage.split(":")[0]
        watch.stage = stage
        seconds.setdefault(stage, round(time.perf_counter() - started, 1))
        if stage == "distil" and progress.done == STEPS:
            raise Enough

    options = RunOptions(device=torch.device("cpu"), state_cache_bytes=int(state_cache * 1e9))
    found = override(find_language(str(folder / "world" / "sw")), ["distill.epochs=1"])
    with contextlib.suppress(Enough):
        distill(found, folder / "run", report=report, options=options)
    peak = max(watch.anonymous.values())
    said: dict[str, object] = {"pairs": pairs, "anonymous_mb": peak, "resident_mb": watch.resident}
    said |= {"anonymous_mb_by_stage": watch.anonymous, "began_after_seconds": seconds}
    sys.stdout.write(json.dumps(said))


def write_corpus(folder: Path, pairs: int) -> None:
    """The embedded world with another parallel table, written by a process whose memory does not count."""
    if os.fork() == 0:
        from langadapt.quickstart.world import write_world

        world = write_world(folder / "world", parallel=2000, tests=40)
        table = next(world.glob("parallel.*sw*.tsv"))
        rows = [line.split("\t") for line in table.read_text(encoding="utf-8").splitlines()]
        words = [sorted({word for row in rows[1:] for word in row[side].split()}) for side in (0, 1)]
        rng = random.Random(0)
        with table.open("w", encoding="utf-8") as file:
            file.write("\t".join(rows[0]) + "\n")
            for _ in range(pairs):
                file.write("\t".join(" ".join(rng.choices(side, k=_WORDS)) for side in words) + "\n")
        for recipe in world.rglob("*.yaml"):
            text = recipe.read_text(encoding="utf-8")
            lines = [line for line in text.splitlines() if not line.startswith("expected_rows")]
            recipe.write_text("\n".join(lines) + "\n", encoding="utf-8")
        os._exit(0)
    if os.wait()[1]:
        shutil.rmtree(folder)
        sys.exit("the corpus could not be written")


if __name__ == "__main__":
    main()
