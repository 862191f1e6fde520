"""Prints the runs of `lab.py` as the Markdown table of RESULTS.md, runs that differ in the seed as one row.

python benchmarks/table.py runs/lab/results.jsonl
"""

import json
import statistics
import sys
from pathlib import Path
from typing import Any


def main() -> None:
    """Reads JSON Lines, prints Markdown."""
    groups: dict[tuple[str, ...], list[dict[str, Any]]] = {}
    for line in Path(sys.argv[1]).read_text(encoding="utf-8").splitlines():
        run = json.loads(line)
        settings = [item for item in run["settings"] if not item.startswith("distill.seed=")]
        key = (run["lang"], run["text_model"], ", ".join(settings), " + ".join(run["parallel"]))
        groups.setdefault(key, []).append(run)
    columns = "language, text model, settings, data, trained, held-out, mR6, ceiling, floor, retention, "
    columns += "seeds, CPU minutes"
    lines = [f"| {columns.replace(', ', ' | ')} |", "|---" * len(columns.split(", ")) + "|"]
    for (lang, text_model, settings, data), runs in groups.items():
        low, high = min(run["retention"] for run in runs), max(run["retention"] for run in runs)
        spread = f" ({low:.3f}-{high:.3f})" if len(runs) > 1 else ""
        mean = {
            name: statistics.mean(run[name]["mr6"] for run in runs)
            for name in ("student", "ceiling", "floor")
        }
        lines.append(
            f"| {lang} | {text_model} | {settings or 'defaults'} | {data.replace('.train.tsv.gz', '')} | "
            f"{runs[0]['trained_parameters'] / 1e6:.2f} M | "
            f"{statistics.mean(run['held_out_recall'] for run in runs):.1f} | {mean['student']:.1f} | "
            f"{mean['ceiling']:.1f} | {mean['floor']:.1f} | "
            f"**{statistics.mean(run['retention'] for run in runs):.3f}**{spread} | {len(runs)} | "
            f"{statistics.mean(run.get('cpu_seconds', run['seconds']) for run in runs) / 60:.0f} |"
        )
    sys.stdout.write("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
