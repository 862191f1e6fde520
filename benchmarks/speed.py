"""Times distillation beside sentence-transformers' recipe: real sizes, random weights, one process a side.

    python benchmarks/speed.py --claim first-epoch --student minilm
    python benchmarks/speed.py --claim later-epochs --student xlm-roberta-base --peer-pairs 256
    python benchmarks/speed.py --claim ten-epochs
    python benchmarks/speed.py --claim memory

Each claim prints its own table out of the same measurement; without `--claim` all four. The sides alternate
within a round, and seconds are the process's own processor seconds (`--seconds wall` takes the clock's), so
that another program on the machine slows nobody's side alone. Rates are per pair: langadapt may be given
more pairs than the recipe, whose fixed costs then weigh more; `--peer-pairs` evens that out. Ten epochs are
the first and nine times the second. What each side does: `speed_work.py`.
"""

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import torch
from torch.nn import functional as F

from langadapt.models.load import uses_bf16

sys.path.insert(0, str(Path(__file__).parent))
from speed_work import STUDENTS, TEACHER, flops, sentences

SIDES = ["langadapt", "recipe", "recipe-best", "recipe-frozen"]
CLAIMS = {"first-epoch": "first", "later-epochs": "later", "ten-epochs": "ten", "memory": "memory"}
_WORK = Path(__file__).with_name("speed_work.py")


def product_peak(threads: int) -> dict[str, float]:
    """GFLOP/s of a matrix product as large as the models', best of several, by type."""
    torch.set_num_threads(threads)
    found = {}
    for name, kind in (("float32", torch.float32), ("bfloat16", torch.bfloat16)):
        if kind == torch.bfloat16 and not uses_bf16(torch.device("cpu")):
            continue
        rows, weight = torch.randn(2048, 768, dtype=kind), torch.randn(3072, 768, dtype=kind)
        best = float("inf")
        for _ in range(8):
            start = time.process_time()
            F.linear(rows, weight)
            best = min(best, (time.process_time() - start) / threads)
        found[name] = round(2 * 2048 * 768 * 3072 / best / 1e9, 1)
    return found


def measure(side: str, given: argparse.Namespace, work: Path) -> dict[str, Any]:
    """One run of a side: seconds per pair of the first and of later epochs, peak memory."""
    ours = side == "langadapt"
    pairs, batch = (given.pairs, given.batch) if ours else (given.peer_pairs, given.peer_batch)
    command = [sys.executable, str(_WORK), side, str(work), given.student]
    command += ["--pairs", str(pairs), "--batch", str(batch), "--threads", str(given.threads)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(f"speed.py: {side} failed:\n{done.stderr[-2000:]}")
    line: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    clock = 0 if given.seconds == "wall" else 1
    marks = {name: seconds[clock] for name, seconds in line["marks"].items()}
    # The first epoch of the recipe begins with its trainer, which is built behind the teacher's mark.
    first, later = marks["epoch 1"] / pairs, (marks["epoch 2"] - marks["epoch 1"]) / pairs
    return {
        "first": first,
        "later": later,
        "ten": first + 9 * later,
        "memory": line["peak_gb"],
        "teacher": marks["teacher"] / pairs,
        "pairs": pairs,
    }


def compared(runs: dict[str, list[dict[str, Any]]], claim: str) -> list[dict[str, Any]]:
    """What each side needs, and how many times as much as langadapt, by round."""
    own = [run[claim] for run in runs["langadapt"]]
    rows = []
    for side, found in runs.items():
        values = [run[claim] for run in found]
        ratios = [value / ours for value, ours in zip(values, own, strict=False)]
        row = {"side": side, "pairs": found[0]["pairs"], "value": statistics.median(values)}
        rows.append({**row, "min": min(ratios), "median": statistics.median(ratios), "max": max(ratios)})
    return rows


def table(rows: list[dict[str, Any]], claim: str) -> str:
    """Markdown."""
    unit = "peak GB" if claim == "memory" else "ms per pair"
    out = [f"| {claim} | pairs | {unit} | times langadapt's, min / median / max |", "|---|---|---|---|"]
    for row in rows:
        value = row["value"] if claim == "memory" else 1000 * row["value"]
        ratios = " / ".join(f"{row[key]:.1f}" for key in ("min", "median", "max"))
        out.append(f"| {row['side']} | {row['pairs']} | {value:.2f} | {ratios} |")
    return "\n".join(out)


def main() -> None:
    """Runs all sides, prints the claims."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--claim", choices=list(CLAIMS), help="all of them unless said")
    parser.add_argument("--student", choices=sorted(STUDENTS), default="minilm")
    parser.add_argument("--sides", nargs="*", choices=SIDES[1:], default=SIDES[1:], help="peers")
    parser.add_argument("--pairs", type=int, default=4096, help="langadapt's")
    parser.add_argument("--peer-pairs", type=int, default=1024)
    parser.add_argument("--batch", type=int, default=128, help="langadapt's own default")
    parser.add_argument("--peer-batch", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--seconds", choices=["cpu", "wall"], default="cpu")
    parser.add_argument(
        "--models", type=Path, help="folder for the random models; a temporary one unless said"
    )
    parser.add_argument("--out", type=Path, default=Path("speed.json"))
    given = parser.parse_args()
    os.environ["OMP_NUM_THREADS"] = str(given.threads)
    texts = sentences(4000, seed=1)
    facts = {
        "machine": platform.processor() or platform.machine(),
        "capability": torch.backends.cpu.get_cpu_capability(),
        "bf16_in_hardware": uses_bf16(torch.device("cpu")),
        "threads": given.threads,
        "torch": torch.__version__,
        "seconds": given.seconds,
        "student": given.student,
        "product_gflops": product_peak(given.threads),
        "teacher_gflop_per_text": round(flops(TEACHER, texts), 3),
        "student_gflop_per_text": round(flops(STUDENTS[given.student], texts), 3),
    }
    runs: dict[str, list[dict[str, Any]]] = {side: [] for side in ["langadapt", *given.sides]}
    with tempfile.TemporaryDirectory() as temporary:
        work = given.models or Path(temporary)
        work.mkdir(parents=True, exist_ok=True)
        subprocess.run([sys.executable, str(_WORK), "models", str(work), given.student], check=True)
        for number in range(given.rounds):
            for side in list(runs) if number % 2 == 0 else reversed(list(runs)):
                runs[side].append(measure(side, given, work))
                sys.stderr.write(f"round {number + 1} {side}: {json.dumps(runs[side][-1])}\n")
            claims = {name: compared(runs, key) for name, key in CLAIMS.items()}
            text = json.dumps({**facts, "runs": runs, "claims": claims}, indent=2)
            given.out.write_text(text + "\n", encoding="utf-8")
    sys.stdout.write(json.dumps(facts) + "\n\n")
    for name in [given.claim] if given.claim else CLAIMS:
        sys.stdout.write(table(claims[name], name) + "\n\n")


if __name__ == "__main__":
    main()
