"""Held-out recall against batch size and learning rate: which rule keeps recall at equal epochs.

    OMP_NUM_THREADS=1 python benchmarks/batch_size.py --epochs 2 --seeds 0 1 --json runs/batch-size.json

The embedded world, Chinese, 15,000 pairs, 1,000 held-out sentences. Factors multiply the recipe's learning
rate, which is for batches of 128; `sqrt` and `linear` mark the two usual rules (Krizhevsky, 2014; Goyal et
al., 2017). All runs see the same number of pairs.
"""

import argparse
import json
import statistics
import sys
import tempfile
from pathlib import Path
from typing import Any

import torch

from langadapt.quickstart.world import write_world
from langadapt.recipes import find_language, override
from langadapt.training import RunOptions, distill
from langadapt.training.log import read_log

STANDARD = 128


def recall(world: Path, out: Path, *settings: str) -> float:
    """Held-out recall of a run's last epoch, in percent."""
    found = override(find_language(str(world / "zh")), settings)
    options = RunOptions(device=torch.device("cpu"))
    distill(found, out, report=lambda progress: None, options=options)
    recalls = read_log(out)[1]
    return recalls[max(recalls)]


def main() -> None:
    """Run all combinations, print a table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--batches", type=int, nargs="*", default=[128, 512, 2048])
    parser.add_argument("--factors", type=float, nargs="*", default=[1, 2, 4, 8, 16])
    parser.add_argument("--epochs", type=int, nargs="*", default=[2])
    parser.add_argument("--seeds", type=int, nargs="*", default=[0])
    parser.add_argument("--set", action="append", default=[], help="adapter.dropout=0.1")
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    torch.set_num_threads(1)
    rows: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory(prefix="batch-size-") as folder:
        world = write_world(Path(folder) / "world")
        base = find_language(str(world / "zh")).recipe.distill.learning_rate
        for epochs in given.epochs:
            for batch in given.batches:
                for factor in given.factors:
                    if factor > batch / STANDARD:
                        continue
                    found = [
                        recall(
                            world,
                            Path(folder) / f"{epochs}-{batch}-{factor:g}-{seed}",
                            *given.set,
                            "distill.held_out_sentences=1000",
                            f"distill.epochs={epochs}",
                            f"distill.batch_size={batch}",
                            f"distill.learning_rate={base * factor}",
                            f"distill.seed={seed}",
                        )
                        for seed in given.seeds
                    ]
                    rows.append({"epochs": epochs, "batch": batch, "factor": factor, "recalls": found})
                    sys.stderr.write(json.dumps(rows[-1]) + "\n")
                    if given.json:
                        given.json.parent.mkdir(parents=True, exist_ok=True)
                        given.json.write_text(json.dumps(rows, indent=1) + "\n", encoding="utf-8")
    sys.stdout.write("| epochs | batch | factor | rule | held-out recall |\n|---|---|---|---|---|\n")
    for row in rows:
        times = row["batch"] / STANDARD
        rules = {1.0: "unchanged", times**0.5: "sqrt", times: "linear"}
        rule = "" if times == 1 else rules.get(row["factor"], "")
        each = ", ".join(f"{value:.1f}" for value in row["recalls"])
        mean = statistics.mean(row["recalls"])
        sys.stdout.write(
            f"| {row['epochs']} | {row['batch']} | {row['factor']:g} | {rule} | {mean:.1f} ({each}) |\n"
        )


if __name__ == "__main__":
    main()
