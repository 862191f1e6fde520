"""Times text encoding: langadapt.load(...).encode_text beside SentenceTransformer.encode on the export.

    python benchmarks/encode.py --runs world=runs/zh --captions quickstart/parallel.en-zh.tsv
    python benchmarks/encode.py --random xlm-roberta-base minilm-l12-384 --captions captions.tsv

All sides read the same captions with the same weights; rounds alternate, and the order within a round, too.
`s-t best` is SentenceTransformer.encode at batch 128, in bfloat16 where the device has it; `one text`
is 20 queries, one at a time. Printed and written to --out: seconds per round, ratio of the rounds (min,
median, max), lowest cosine between langadapt's rows and the other side's. `--random` makes models of real
sizes with random weights: their speed is real, their rows mean nothing.
"""

import argparse
import json
import os
import platform
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

os.environ.setdefault("HF_HUB_OFFLINE", "1")

import torch
from sentence_transformers import SentenceTransformer

import langadapt
from langadapt.errors import LangadaptError
from langadapt.export.sentence_transformers import default_probes, export_sentence_transformers
from langadapt.models.load import uses_bf16

sys.path.insert(0, str(Path(__file__).parent))
from random_models import SIZES, random_run

OURS = "langadapt"
PEERS = [(OURS, "s-t defaults"), (OURS, "s-t best"), (f"{OURS}, one text", "s-t, one text")]


def captions(path: Path, count: int) -> list[str]:
    """Texts of a TSV's column `caption` or `target`, repeated if there are too few."""
    header, *rows = path.read_text(encoding="utf-8").splitlines()
    column = next(i for i, name in enumerate(header.split("\t")) if name in ("caption", "target"))
    texts = [row.split("\t")[column] for row in rows][:count]
    return (texts * (count // len(texts) + 1))[:count]


def seconds(encode: Callable[[], Any]) -> tuple[float, float, Any]:
    """Wall seconds, CPU seconds and the result."""
    wall, processor = time.perf_counter(), time.process_time()
    rows = encode()
    return time.perf_counter() - wall, time.process_time() - processor, rows


def compare(run: Path, texts: list[str], rounds: int, work: Path) -> dict[str, Any]:
    """Alternates both sides on one model."""
    model = langadapt.load(run)
    folder = work / f"{run.name}-st"
    export_sentence_transformers(model, folder, probes=default_probes(model), overwrite=True)
    other = SentenceTransformer(str(folder), trust_remote_code=True, device="cpu")
    half = uses_bf16(torch.device("cpu"))

    def best() -> torch.Tensor:
        with torch.autocast("cpu", torch.bfloat16, enabled=half):
            return torch.from_numpy(other.encode(texts, batch_size=128))

    queries = texts[:: max(1, len(texts) // 20)][:20]
    sides: dict[str, Callable[[], torch.Tensor]] = {
        OURS: lambda: model.encode_text(texts),
        "s-t defaults": lambda: torch.from_numpy(other.encode(texts)),
        "s-t best": best,
        f"{OURS}, one text": lambda: torch.cat([model.encode_text([text]) for text in queries]),
        "s-t, one text": lambda: torch.cat([torch.from_numpy(other.encode([text])) for text in queries]),
    }
    for encode in (lambda: model.encode_text(texts[:64]), lambda: other.encode(texts[:64])):
        encode()
    wall: dict[str, list[float]] = {name: [] for name in sides}
    processor: dict[str, list[float]] = {name: [] for name in sides}
    rows = {}
    for number in range(rounds):
        for name in list(sides) if number % 2 == 0 else list(reversed(sides)):
            spent, busy, rows[name] = seconds(sides[name])
            wall[name].append(round(spent, 3))
            processor[name].append(round(busy, 3))
            sys.stderr.write(f"{run.name} round {number + 1} {name}: {spent:.1f} s wall, {busy:.1f} s CPU\n")
    lengths = model.student.text_model.tokenize(texts).lengths
    return {
        "model": run.name,
        "texts": len(texts),
        "tokens_mean": round(float(lengths.mean()), 1),
        "tokens_max": int(lengths.max()),
        "wall_seconds": wall,
        "cpu_seconds": processor,
        "peers": {
            peer: {
                "wall_ratio": ratios(wall, own, peer),
                "cpu_ratio": ratios(processor, own, peer),
                "lowest_cosine": float((rows[own] * rows[peer]).sum(dim=1).min()),
                "largest_difference": float((rows[own] - rows[peer]).abs().max()),
            }
            for own, peer in PEERS
        },
    }


def ratios(times: dict[str, list[float]], own: str, peer: str) -> dict[str, float]:
    """How many times faster langadapt is, by round: above 1 it is faster."""
    found = [b / a for a, b in zip(times[own], times[peer], strict=True)]
    return {
        "min": round(min(found), 3),
        "median": round(statistics.median(found), 3),
        "max": round(max(found), 3),
    }


def table(lines: list[dict[str, Any]]) -> str:
    """Markdown."""
    head = (
        "model | texts | tokens mean/max | peer | CPU s langadapt | CPU s peer | CPU ratio min/median/max | "
    )
    head += "wall ratio min/median/max | lowest cosine"
    out = [f"| {head} |", "|---" * len(head.split(" | ")) + "|"]
    for line in lines:
        cpu = {name: statistics.median(times) for name, times in line["cpu_seconds"].items()}
        for own, peer in PEERS:
            found = line["peers"][peer]
            cells = [
                line["model"], str(line["texts"]), f"{line['tokens_mean']} / {line['tokens_max']}", peer,
                f"{cpu[own]:.2f}", f"{cpu[peer]:.2f}",
                " / ".join(f"{found['cpu_ratio'][key]:.2f}" for key in ("min", "median", "max")),
                " / ".join(f"{found['wall_ratio'][key]:.2f}" for key in ("min", "median", "max")),
                f"{found['lowest_cosine']:.6f}",
            ]  # fmt: skip
            out.append("| " + " | ".join(cells) + " |")
    return "\n".join(out)


def main() -> None:
    """Runs all models, prints the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--runs", type=Path, nargs="*", default=[], help="run folders")
    parser.add_argument(
        "--random", nargs="*", default=[], choices=sorted(SIZES), help="random models of real size"
    )
    parser.add_argument("--captions", type=Path, required=True, help="TSV with a column caption or target")
    parser.add_argument("--count", type=int, default=2000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--out", type=Path, default=Path("encode.json"))
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    texts = captions(given.captions, given.count)
    facts = {
        "machine": platform.processor() or platform.machine(),
        "capability": torch.backends.cpu.get_cpu_capability(),
        "bf16_in_hardware": uses_bf16(torch.device("cpu")),
        "threads": given.threads,
        "torch": torch.__version__,
    }
    lines = []
    with tempfile.TemporaryDirectory() as work:
        made = [random_run(Path(work) / name, name, texts) for name in given.random]
        for run in (*given.runs, *made):
            lines.append(compare(run, texts, given.rounds, Path(work)))
            given.out.write_text(json.dumps({**facts, "results": lines}, indent=2) + "\n", encoding="utf-8")
    sys.stdout.write(table(lines) + "\n")


if __name__ == "__main__":
    try:
        main()
    except LangadaptError as error:
        sys.exit(f"encode.py: {error}")
