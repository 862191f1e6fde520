"""Held-out retrieval against seconds: langadapt beside sentence-transformers' recipe, on the embedded world.

    OMP_NUM_THREADS=1 python benchmarks/time_to_quality.py --lang zh --json runs/time-to-quality.json

Each side is a process that begins with the table of 16,000 sentence pairs and real weights, an empty cache
and its libraries imported. Seconds are its own processor seconds up to the end of an epoch, without scoring.
The score is the mean of R@1, 5 and 10, in percent, of 1,000 held-out translations among the teacher's
embeddings of their English sides, the same ones for all sides.

Sides: `langadapt` with the world's recipe; `recipe` is `SentenceTransformerTrainer` with MSELoss on
precomputed teacher embeddings, mean pooling and a dense layer, all weights trained, at each of several
learning rates; `frozen` the same with the backbone frozen.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch

os.environ.setdefault("HF_HUB_OFFLINE", "1")
_HELD_OUT = 1000


def main() -> None:
    """Runs all sides, one after the other, and prints the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--lang", default="zh")
    parser.add_argument("--epochs", type=int, default=10, help="of the recipe")
    parser.add_argument("--set", action="append", default=[], help="langadapt's: distill.epochs=10")
    parser.add_argument("--recipe", type=float, nargs="*", default=[2e-5, 5e-4, 2e-3], help="learning rates")
    parser.add_argument("--frozen", type=float, nargs="*", default=[2e-3, 2e-2], help="learning rates")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--child", nargs=3, help=argparse.SUPPRESS)
    given = parser.parse_args()
    torch.set_num_threads(1)
    if given.child:
        work, side, rate = given.child
        if side == "langadapt":
            curve = run_langadapt(Path(work), given.lang, given.set)
        else:
            curve = run_recipe(Path(work), given.lang, given.epochs, side, float(rate))
        sys.stdout.write("\n" + json.dumps(curve))
        return
    found: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory(prefix="quality-") as folder:
        for side, rates in {"langadapt": [0.0], "recipe": given.recipe, "frozen": given.frozen}.items():
            for rate in rates:
                command = [sys.executable, __file__, "--lang", given.lang, "--epochs", str(given.epochs)]
                command += [f"--set={item}" for item in given.set]
                done = subprocess.run(
                    [*command, "--child", folder, side, str(rate)],
                    env={**os.environ, "LANGADAPT_CACHE": str(Path(folder) / f"cache-{side}")},
                    stdout=subprocess.PIPE,
                    text=True,
                    check=True,
                )
                curve = json.loads(done.stdout.splitlines()[-1])
                found.append({"side": side, "rate": rate, "curve": curve})
                sys.stderr.write(f"{side} {rate:g}: {curve[-1]}\n")
    sys.stdout.write(table(found) + "\n")
    if given.json:
        given.json.parent.mkdir(parents=True, exist_ok=True)
        given.json.write_text(json.dumps(found, indent=1), encoding="utf-8")


def table(found: list[dict[str, Any]]) -> str:
    """When each side ended, with what, and when langadapt had reached that."""
    ours = next(item["curve"] for item in found if item["side"] == "langadapt")
    lines = [
        "| | rate | final recall | seconds | langadapt reaches it after | sooner |",
        "|---|---|---|---|---|---|",
    ]
    for item in found:
        seconds, recall = item["curve"][-1]
        there = next((s for s, r in ours if r >= recall), None)
        sooner = f"{there:.0f} s | {seconds / there:.1f} x" if there is not None else "never | -"
        lines.append(f"| {item['side']} | {item['rate']:g} | {recall:.1f} | {seconds:.0f} | {sooner} |")
    return "\n".join(lines)


def run_langadapt(work: Path, lang: str, changes: list[str]) -> list[tuple[float, float]]:
    """`langadapt distill` with the world's recipe: seconds and recall at the end of each epoch."""
    from langadapt.quickstart.world import write_world
    from langadapt.recipes import find_language, override
    from langadapt.training import RunOptions, distill
    from langadapt.training.log import read_log

    world = write_world(work / "world")
    settings = [f"distill.held_out_sentences={_HELD_OUT}", "distill.seed=0", *changes]
    found = override(find_language(str(world / lang)), settings)
    seconds: dict[int, float] = {}
    start = time.process_time()

    def report(progress: Any) -> None:
        if progress.stage == "distil":
            seconds[progress.done] = time.process_time() - start

    distill(found, work / "run", report=report, options=RunOptions(device=torch.device("cpu")))
    _, recalls = read_log(work / "run")
    return [(round(seconds[step], 2), recall) for step, recall in recalls.items()]


def run_recipe(work: Path, lang: str, epochs: int, side: str, rate: float) -> list[tuple[float, float]]:
    """sentence-transformers' trainer on the same rows."""
    from datasets import Dataset
    from peers import student
    from sentence_transformers import (
        SentenceTransformer,
        SentenceTransformerTrainer,
        SentenceTransformerTrainingArguments,
    )
    from sentence_transformers.sentence_transformer.losses import MSELoss
    from transformers import TrainerCallback

    from langadapt.data.parallel import split_by_english
    from langadapt.metrics.retrieval import mean_recall_text

    lines = (work / "world" / f"parallel.en-{lang}.tsv").read_text(encoding="utf-8").splitlines()[1:]
    start = time.process_time()
    scoring = 0.0
    english, target = zip(*(line.split("\t") for line in lines), strict=True)
    split = split_by_english(english, held_out=_HELD_OUT, generator=torch.Generator().manual_seed(0))
    teacher = SentenceTransformer(str(work / "world" / "models" / "teacher"), device="cpu")
    labels = teacher.encode([english[i] for i in split.train])
    data = Dataset.from_dict({"sentence": [target[i] for i in split.train], "label": labels.tolist()})
    model = student(str(work / "world" / "models" / "text_model"), labels.shape[1])
    if side == "frozen":
        model[0].requires_grad_(False)
    wanted = torch.from_numpy(teacher.encode([english[i] for i in split.held_out]))
    texts = [target[i] for i in split.held_out]
    curve: list[tuple[float, float]] = []

    class Scores(TrainerCallback):
        def on_epoch_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            nonlocal scoring
            now = time.process_time()
            rows = np.asarray(model.encode(texts, batch_size=256))
            curve.append((round(now - start - scoring, 2), mean_recall_text(torch.from_numpy(rows), wanted)))
            model.train()
            scoring += time.process_time() - now

    arguments = SentenceTransformerTrainingArguments(
        output_dir=tempfile.mkdtemp(dir=work),
        num_train_epochs=epochs,
        per_device_train_batch_size=64,
        learning_rate=rate,
        warmup_ratio=0.1,
        use_cpu=True,
        save_strategy="no",
        report_to="none",
        disable_tqdm=True,
    )
    trainer = SentenceTransformerTrainer(
        model=model, args=arguments, train_dataset=data, loss=MSELoss(model), callbacks=[Scores()]
    )
    trainer.train()
    return curve


if __name__ == "__main__":
    main()
