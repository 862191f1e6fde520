"""Domain adaptation: frozen, adapter with uniform draws, adapter with hard draws, continued full training.

    OMP_NUM_THREADS=1 python benchmarks/domain.py world --work runs/domain-world
    LANGADAPT_LAB=... python benchmarks/domain.py lab --start runs/lab/zh --work runs/domain-lab
    OMP_NUM_THREADS=1 python benchmarks/domain.py cost --work runs/domain-cost
    python benchmarks/domain.py table --work runs/domain-world

`world` needs nothing: it draws a shop of the embedded world, where few kinds of things occur in front of one
background and captions tell them apart by number, size and place. `lab` needs the lab kit and an
artifact that `benchmarks/lab.py zh` made: photos with dogs are the domain, all others the general rest.
Every run is scored on domain pairs and general pairs that no run trains on; settings are chosen on the
held-out share of the training pairs (`held_out` in the lines). One line is written per run (results.jsonl);
a run whose line is there is not repeated. `cost` times the sampler and measures a bank of 10 million pairs.
"""

import argparse
import contextlib
import gzip
import io
import itertools
import json
import os
import random
import statistics
import sys
import tarfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from langadapt.data.pairs import load_pairs
from langadapt.data.retrieval import RetrievalSet, retrieval_from_files
from langadapt.errors import LangadaptError, Progress
from langadapt.metrics.retrieval import retrieval_scores
from langadapt.models import LanguageModel, load
from langadapt.models.caches import stored_images
from langadapt.quickstart.drawing import draw
from langadapt.quickstart.shapes import Scene, Shape, Thing
from langadapt.quickstart.world import write_world
from langadapt.recipes import DomainStage, TuneStage, find_language
from langadapt.recipes.stages import HardSampling
from langadapt.recipes.yaml import parse
from langadapt.training import RunOptions, distill, tune
from langadapt.training.hard_sampling import DifficultyBank, HardSampler, wrong_captions
from tools.embedded_world.attributes import splits_of
from tools.embedded_world.authors import Describer
from tools.embedded_world.captions import CAPTIONS
from tools.embedded_world.plans import Plan, sample_plan
from tools.embedded_world.sampling import RELATIONS, SIZES, training_scenes

SHOP: tuple[Shape, ...] = ("cup", "hat", "book", "bell")
ADAPTER = {"text": "adapters", "image": "adapters", "learning_rate": 2e-3}
FULL = {"text": "full", "image": "full", "learning_rate": 2e-4, "pretrained_learning_rate": 2e-4}
NOISE = {"noise_fraction": 0.2}
METHODS: dict[str, dict[str, Any]] = {
    "adapter, uniform": {**ADAPTER, "sampling": {"strength": 0.0}},
    "adapter, hard": {**ADAPTER, "sampling": {"strength": 1.0, "noise_fraction": 0.0}},
    "adapter, hard by rank": {
        **ADAPTER,
        "sampling": {"strength": 1.0, "difficulty": "rank", "noise_fraction": 0.0},
    },
    "continued full training": FULL,
}
VARIANTS: dict[str, dict[str, Any]] = {
    "strength 0.5": {"strength": 0.5},
    "strength 2": {"strength": 2.0},
    "floor 0.1": {"floor_fraction": 0.1},
    "floor 0.6": {"floor_fraction": 0.6},
    "momentum 0.3": {"momentum": 0.3},
    "momentum 1 (never measured again)": {"momentum": 1.0},
    "hardest 20 % left to the floor": NOISE,
    "share of wrong captions found": {"noise_fraction": "auto"},
    "2 uniform epochs first": {"uniform_epochs": 2},
    "instance weights instead": {"strength": 0.0, "instance_strength": 1.0},
}
SETTINGS = {"batch_size": 32, "held_out_fraction": 0.15, "chunk_size": 512, "augment": False, "epochs": 2}


@dataclass(frozen=True, kw_only=True)
class Bench:
    """A student to begin with, tables of its pairs by share of wrong captions, and test sets by name.

    `settings` replace those of all methods.
    """

    start: Path
    settings: dict[str, Any]
    pairs: Callable[[float], Path]
    images: Path
    tests: dict[str, RetrievalSet]


def shop_scene(rng: random.Random, things_sold: int) -> Scene:
    """Two kinds of things of a shop in two colours: what differs is number, size and place."""
    things = []
    for shape in rng.sample(SHOP[:things_sold], 2):
        count = rng.choice((1, 2, 3))
        size = rng.choice(SIZES) if count == 1 else None
        things.append(Thing(shape=shape, colour=rng.choice(("red", "orange")), count=count, size=size))
    return Scene(
        first=things[0],
        second=things[1],
        relation=rng.choice(RELATIONS),
        background="snow",
        seed=rng.getrandbits(32),
    )


def world(
    work: Path, start: Path | None, *, code: str, pairs: int, tests: int, ordinary: float, things: int
) -> Bench:
    """The embedded world: an ordinary student, and drawn scenes of a shop among ordinary ones."""
    folder = write_world(work / "world", parallel=16_000, tests=1_000)
    if start is None:
        start = work / "start"
        if not (start / "artifact.json").is_file():
            distill(find_language(str(folder / code)), start, report=_quiet)
    others = round(ordinary * pairs)
    shop = _shop(work, "train", code, pairs - others, things)
    test = _shop(work, "test", code, tests, things)
    train = _mixed(work, shop, _ordinary(work, code, others)) if others else shop

    general = folder / f"general.{code}.tsv"
    lines = (folder / f"test.{code}.tsv").read_text(encoding="utf-8").split("\n")
    general.write_text("\n".join(lines[: tests + 1]) + "\n", encoding="utf-8")
    return Bench(
        start=start,
        settings={},
        pairs=lambda share: _with_noise(train, share),
        images=work / "shop",
        tests={
            "domain": retrieval_from_files(test, work / "shop", language=code),
            "general": retrieval_from_files(general, folder / "photos", language=code),
        },
    )


def _shop(work: Path, split: str, code: str, count: int, things: int) -> Path:
    """Pictures and captions that state everything; no combination of one split is in the other."""
    table = work / f"shop-{split}-{things}-{count}.tsv"
    (work / "shop").mkdir(exist_ok=True)
    if table.is_file():
        return table
    rng, words = random.Random(f"shop {split}"), Describer(f"shop {split} {code}")
    scenes = (scene for scene in iter(lambda: shop_scene(rng, things), None) if split in splits_of(scene))
    rows, said = ["image\tcaption"], set[str]()
    while len(rows) <= count:
        scene = next(scenes)
        parts = ("first", "second", "relation")
        plan = Plan(**{part: getattr(scene, part) for part in parts})
        caption = CAPTIONS[code](plan, words)
        if split == "test" and str(plan) in said:
            continue
        said.add(str(plan))
        rows.append(f"{_picture(work, f'{split}-{len(rows):04d}.png', scene)}\t{caption}")
    table.write_text("\n".join(rows) + "\n", encoding="utf-8")
    return table


def _ordinary(work: Path, code: str, count: int) -> Path:
    """Scenes as the models were trained on, whose captions leave things out as theirs do."""
    table = work / f"ordinary-{count}.tsv"
    if not table.is_file():
        drawn, facts, words = (Describer(f"ordinary {code} {what}") for what in range(3))
        rows = ["image\tcaption"]
        for number, scene in enumerate(itertools.islice(training_scenes(drawn), count)):
            caption = CAPTIONS[code](sample_plan(scene, facts), words)
            rows.append(f"{_picture(work, f'ordinary-{number:04d}.png', scene)}\t{caption}")
        table.write_text("\n".join(rows) + "\n", encoding="utf-8")
    return table


def _picture(work: Path, name: str, scene: Scene) -> str:
    picture = io.BytesIO()
    draw(scene).save(picture, format="png")
    (work / "shop" / name).write_bytes(picture.getvalue())
    return name


def _mixed(work: Path, *tables: Path) -> Path:
    header, rows = "", []
    for one in tables:
        header, *own = one.read_text(encoding="utf-8").splitlines()
        rows += own
    random.Random(0).shuffle(rows)
    mixed = work / f"{'-and-'.join(one.stem for one in tables)}.tsv"
    mixed.write_text("\n".join([header, *rows]) + "\n", encoding="utf-8")
    return mixed


def _with_noise(table: Path, share: float) -> Path:
    """The same pairs, of which a share have each other's captions."""
    if not share:
        return table
    header, *rows = table.read_text(encoding="utf-8").splitlines()
    wrong = sorted(random.Random(0).sample(range(len(rows)), round(share * len(rows))))
    cells = [row.split("\t") for row in rows]
    moved = [cells[row][1] for row in wrong]
    for row, caption in zip(wrong, [*moved[1:], moved[0]], strict=True):
        cells[row][1] = caption
    noisy = table.with_name(f"{table.stem}-noise{share:g}.tsv")
    noisy.write_text("\n".join([header, *("\t".join(row) for row in cells)]) + "\n", encoding="utf-8")
    return noisy


SHARES = (0.0, 0.05, 0.1, 0.2, 0.4)
DOGS = {"dog", "dogs", "puppy", "puppies"}


def lab(work: Path, start: Path, captions: str, most: int | None) -> Bench:
    """Real photos with dogs, told by their captions; the general test is all other photos.

    `captions` is the kit's `zh-written` or `zh-mt`. Without `most` the pairs are all captions of dogs among
    1,000 training photos, else so many of the dogs among all 6,000, one a photo before the second ones. The
    image tower stays locked in all methods: a MobileNetV2 has no place for adapters, and all of it would take
    hours on one core.
    """
    kit = Path(os.environ["LANGADAPT_LAB"])
    parts = ["train_1k"] if most is None else ["train_1k", "train_rest"]
    photos = [work / "val", work / ("train_1k" if most is None else "train")]
    for folder, names in zip(photos, (["val"], parts), strict=True):
        if not folder.is_dir():
            for name in names:
                with tarfile.open(kit / "photos" / f"{name}.tar") as tar:
                    tar.extractall(folder.with_suffix(".part"), filter="data")
            folder.with_suffix(".part").rename(folder)

    def lines(stem: str) -> list[str]:
        path = kit / "captions" / f"{stem}.tsv"
        if not path.is_file():
            return gzip.decompress(path.with_suffix(".tsv.gz").read_bytes()).decode().splitlines()
        return path.read_text("utf-8").splitlines()

    def select(splits: list[str], out: Path, *, dogs: bool, per_photo: int) -> Path:
        shown: dict[str, int] = {}
        for row in (row for split in splits for row in lines(f"{split}.en")[1:]):
            image, caption = row.split("\t")[:2]
            words = set(caption.lower().replace(".", " ").split())
            shown[image] = shown.get(image, 0) + bool(words & DOGS)
        taken: dict[str, list[str]] = {}
        for row in (row for split in splits for row in lines(f"{split}.{captions}")[1:]):
            image = row.split("\t")[0]
            # A dog is in the photo where most of its five captions say so, and in no caption of the others.
            if shown.get(image, 0) >= 3 if dogs else shown.get(image, 0) == 0:
                taken.setdefault(image, []).append(row)
        chosen = [row for own in taken.values() for row in own[:per_photo]]
        if dogs and "val" not in splits and most is not None:
            chosen = [own[turn] for turn in range(5) for own in taken.values() if turn < len(own)][:most]
        header = lines(f"{splits[0]}.{captions}")[0]
        out.write_text("\n".join([header, *chosen]) + "\n", encoding="utf-8")
        return out

    train = select(parts, work / "dogs-train.tsv", dogs=True, per_photo=5)
    tests = {
        name: select(["val"], work / f"{name}.tsv", dogs=name == "domain", per_photo=2)
        for name in ("domain", "general")
    }
    return Bench(
        start=start,
        settings={"image": "locked", "batch_size": 64, "epochs": 6},
        pairs=lambda share: _with_noise(train, share),
        images=photos[1],
        tests={name: retrieval_from_files(path, photos[0], language="zh") for name, path in tests.items()},
    )


def scores(model: LanguageModel, tests: dict[str, RetrievalSet]) -> dict[str, float]:
    """mR6 on each test set."""
    found: dict[str, float] = {}
    for name, test in tests.items():
        assert test.images is not None
        # Embeddings of a tower that learned are of use once; those of a frozen one to all runs.
        learned = "+" in model.image_identity
        gallery = model.encode_images(test.images) if learned else stored_images(model.teacher, test.images)
        own = torch.tensor(test.image_of_text)
        found[name] = retrieval_scores(model.encode_text(list(test.texts)), gallery, own, signature=name).mr6
    return found


def one_run(bench: Bench, work: Path, name: str, noise: float, seed: int, extra: dict[str, Any]) -> None:
    """Adapts, scores and appends a line."""
    began = time.process_time()
    values = {**SETTINGS, **chosen(name), **bench.settings, **extra, "seed": seed}
    values["pairs"] = [str(bench.pairs(noise))]
    values.setdefault("patience_epochs", values["epochs"])
    stage = parse(DomainStage if "sampling" in values else TuneStage, values, where=name)
    options = RunOptions(device=torch.device("cpu"), overwrite=True, images=bench.images)
    out = work / "run"
    with sampler_seconds() as spent:
        artifact = tune(bench.start, out, stage=stage, report=_quiet, options=options)
    trained = time.process_time() - began
    facts = artifact.training
    told = {"method": name, "noise": noise, "seed": seed, "extra": extra}
    model = load(out)
    told |= scores(model, bench.tests)
    told |= {
        "held_out": facts["held_out_recall"],
        "start_held_out": facts["start_recall"],
        "best_step": facts["best_step"],
        "steps": facts["steps"],
        "trained_percent": facts["trained_percent"],
        "fell_back": facts["fell_back"],
        "quarters": facts.get("domain", {}).get("quarters"),
        "wrong_captions": facts.get("domain", {}).get("wrong_captions"),
        "train_cpu_seconds": round(trained, 1),
        "sampler_percent": round(100 * sum(spent) / trained, 3),
    }
    _append(work, told)


@contextlib.contextmanager
def sampler_seconds() -> Iterator[list[float]]:
    """CPU seconds of each call by which a run draws, measures and moves its difficulties."""
    spent: list[float] = []
    names = ("measure", "learn", "epoch_done", "weights", "order")
    before = {name: getattr(HardSampler, name) for name in names}

    def clocked(work: Callable[..., Any]) -> Callable[..., Any]:
        def run(*given: Any) -> Any:
            start = time.thread_time()
            found = work(*given)
            spent.append(time.thread_time() - start)
            return _clocked_items(found, spent) if isinstance(found, Iterator) else found

        return run

    for name, work in before.items():
        setattr(HardSampler, name, clocked(work))
    try:
        yield spent
    finally:
        for name, work in before.items():
            setattr(HardSampler, name, work)


def _clocked_items(items: Iterator[Any], spent: list[float]) -> Iterator[Any]:
    while True:
        start = time.thread_time()
        item = next(items, None)
        spent.append(time.thread_time() - start)
        if item is None:
            return
        yield item


def chosen(name: str) -> dict[str, Any]:
    """Settings of a method, or of a variant of hard sampling."""
    if name in METHODS:
        return METHODS[name]
    hard = METHODS["adapter, hard"]
    return {**hard, "sampling": {**hard["sampling"], **VARIANTS[name]}}


def estimates(bench: Bench, code: str) -> Iterator[str]:
    """Markdown: the estimated share of wrong captions and the true one, over 50 draws of held-out pairs."""
    model = load(bench.start)
    pairs = load_pairs(str(bench.pairs(0.0)), language=code, images=bench.images)
    images = stored_images(model.teacher, pairs.images)[torch.from_numpy(pairs.image_of_text)]
    similar = (model.encode_text(list(pairs.texts)) @ images.T).numpy()
    yield "| held-out pairs | " + " | ".join(f"{share:.0%} wrong" for share in SHARES) + " |"
    yield "|---" * (len(SHARES) + 1) + "|"
    for count in sorted({min(count, len(similar)) for count in (60, 90, 150, 500)}):
        cells = []
        for share in SHARES:
            found = []
            for trial in range(50):
                rng = random.Random(trial)
                rows = rng.sample(range(len(similar)), count)
                wrong = rng.sample(range(count), round(share * count))
                own = np.arange(count)
                own[wrong] = wrong[1:] + wrong[:1]
                part = similar[np.ix_(rows, rows)]
                ranks = (part >= part[np.arange(count), own][:, None]).sum(axis=1)
                found.append(wrong_captions(ranks, count))
            cells.append(f"{statistics.mean(found):.3f} ± {statistics.stdev(found):.3f}")
        yield f"| {count} | {' | '.join(cells)} |"


def cost(*, pairs: int = 10_000_000, batch: int = 512) -> None:
    """Times one step of the sampler on a large bank, and its resident memory."""
    rng = np.random.default_rng(0)
    before = _resident()
    bank = DifficultyBank(rng.random(pairs, dtype=np.float32) ** 3, HardSampling(strength=1.0))
    timed = []
    for step in range(200):
        start = time.process_time()
        rows = bank.draw(batch, seed=0, step=step)
        bank.update(rows, np.full(batch, 0.5, np.float32))
        timed.append(time.process_time() - start)
    told = {"pairs": pairs, "batch": batch, "milliseconds": round(1000 * statistics.median(timed), 3)}
    told["resident_megabytes"] = round((_resident() - before) / 1e6, 1)
    sys.stdout.write(json.dumps(told) + "\n")


def _resident() -> int:
    fields = Path("/proc/self/statm").read_text().split()
    return int(fields[1]) * os.sysconf("SC_PAGE_SIZE")


def lines_of(work: Path) -> list[dict[str, Any]]:
    """The results so far."""
    path = work / "results.jsonl"
    return [json.loads(line) for line in path.read_text("utf-8").splitlines()] if path.is_file() else []


def _append(work: Path, line: dict[str, Any]) -> None:
    with (work / "results.jsonl").open("a", encoding="utf-8") as file:
        file.write(json.dumps(line) + "\n")


def table(work: Path) -> Iterator[str]:
    """Markdown: mean and range over the seeds for each method and share of wrong captions."""
    lines = lines_of(work)
    start = next(line for line in lines if line["method"] == "frozen")
    lines = [line for line in lines if line["method"] != "frozen"]
    for noise, extra in sorted({(line["noise"], json.dumps(line["extra"])) for line in lines}):
        yield f"\n### {noise:.0%} wrong captions{'' if extra == '{}' else ', ' + extra}\n"
        yield "| method | trained % | domain | general | general, change | held out | CPU s | seeds |"
        yield "|---" * 8 + "|"
        yield f"| frozen | | {start['domain']:.1f} | {start['general']:.1f} | | | | |"
        for method in (*METHODS, *VARIANTS):
            runs = [line for line in lines if (line["method"], line["noise"]) == (method, noise)]
            runs = [line for line in runs if json.dumps(line["extra"]) == extra]
            if not runs:
                continue
            cells = [_spread([run[key] for run in runs]) for key in ("domain", "general")]
            lost = statistics.mean(run["general"] for run in runs) - start["general"]
            yield (
                f"| {method} | {runs[0]['trained_percent']:.1f} | {cells[0]} | {cells[1]} | {lost:+.1f} | "
                f"{_spread([run['held_out'] for run in runs])} | "
                f"{statistics.mean(run['train_cpu_seconds'] for run in runs):.0f} | {len(runs)} |"
            )


COLOURS = {"frozen": "#6b7785", "adapter, uniform": "#3b82d6", "adapter, hard": "#c4542d"}
COLOURS["adapter, hard by rank"] = "#b58ad6"
COLOURS["hardest 20 % left to the floor"] = "#e2a23b"
COLOURS["continued full training"] = "#2f9e6b"


def plot(work: Path, noise: float) -> str:
    """SVG: one dot per run, domain recall above general recall."""
    lines = [run for run in lines_of(work) if run["method"] in COLOURS and run["noise"] in (noise, 0.0)]
    lines = [run for run in lines if run["noise"] == noise or run["method"] == "frozen"]
    colours = {method: colour for method, colour in COLOURS.items() if method in {r["method"] for r in lines}}
    bounds = {}
    for key in ("general", "domain"):
        values = [run[key] for run in lines]
        bounds[key] = (min(values) - 1.5, max(values) + 1.5)

    def place(run: dict[str, Any], key: str, start: float, end: float) -> float:
        low, high = bounds[key]
        return start + (run[key] - low) / (high - low) * (end - start)

    dots = "".join(
        f'<circle cx="{place(run, "general", 60, 460):.1f}" cy="{place(run, "domain", 250, 60):.1f}" r="5" '
        f'fill="{COLOURS[run["method"]]}"><title>{run["method"]}, seed {run["seed"]}: domain '
        f"{run['domain']:.1f}, general {run['general']:.1f}</title></circle>"
        for run in lines
    )
    legend = "".join(
        f'<circle cx="{66 + 205 * (number % 2)}" cy="{18 + 18 * (number // 2)}" r="5" fill="{colour}"/>'
        f'<text x="{76 + 205 * (number % 2)}" y="{22 + 18 * (number // 2)}">{method}</text>'
        for number, (method, colour) in enumerate(colours.items())
    )
    marks = "".join(
        f'<text x="{60 + 400 * end}" y="268" text-anchor="middle">{bounds["general"][end]:.1f}</text>'
        f'<text x="52" y="{254 - 190 * end}" text-anchor="end">{bounds["domain"][end]:.1f}</text>'
        for end in (0, 1)
    )
    return (
        '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 480 300" width="480" height="300" '
        'font-family="system-ui,sans-serif" font-size="12" fill="#1d2329"><rect width="480" height="300" '
        'fill="#fff"/><path d="M60 60V250H460" fill="none" stroke="#9aa5b0"/>'
        f'{legend}{marks}{dots}<text x="260" y="290" text-anchor="middle">general recall (mR6, %)</text>'
        '<text x="16" y="155" text-anchor="middle" transform="rotate(-90 16 155)">domain recall (mR6, %)'
        "</text></svg>\n"
    )


def _spread(values: list[float]) -> str:
    spread = f" ({min(values):.1f}-{max(values):.1f})" if len(values) > 1 else ""
    return f"{statistics.mean(values):.1f}{spread}"


def _quiet(progress: Progress) -> None:
    """Runs in the background."""


def main() -> None:
    """Runs what is missing, or prints the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("what", choices=["world", "lab", "cost", "table"])
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--start", type=Path, help="student; made where it is not given (world)")
    parser.add_argument("--lang", default="zh", help="of the embedded world")
    parser.add_argument("--pairs", type=int, default=1200, help="of the embedded world")
    parser.add_argument("--tests", type=int, default=300, help="of the embedded world")
    parser.add_argument("--ordinary", type=float, default=0.75, help="share of ordinary scenes among them")
    parser.add_argument("--things", type=int, default=4, help="kinds of things that the shop has")
    parser.add_argument("--noise", type=float, nargs="+", default=[0.0, 0.2])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--only", nargs="+", choices=[*METHODS, *VARIANTS], default=list(METHODS))
    parser.add_argument("--plot", type=Path, help="SVG file beside the table, of the first --noise")
    parser.add_argument("--captions", default="zh-written", choices=["zh-written", "zh-mt"], help="lab")
    parser.add_argument("--estimate", action="store_true", help="only find the share of wrong captions")
    parser.add_argument("--most", type=int, help="lab: so many pairs, of the dogs among all 6,000 photos")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=JSON", help="of the stage")
    given = parser.parse_args()
    if given.what == "table":
        sys.stdout.write("\n".join(table(given.work)) + "\n")
        if given.plot is not None:
            given.plot.write_text(plot(given.work, given.noise[0]), encoding="utf-8")
        return
    given.work.mkdir(parents=True, exist_ok=True)
    work = given.work.resolve()
    if given.what == "cost":
        cost()
        return
    if given.what == "world":
        sizes = {
            "pairs": given.pairs,
            "tests": given.tests,
            "ordinary": given.ordinary,
            "things": given.things,
        }
        bench = world(work, given.start, code=given.lang, **sizes)
    else:
        bench = lab(work, given.start, given.captions, given.most)
    if given.estimate:
        sys.stdout.write("\n".join(estimates(bench, given.lang)) + "\n")
        return
    extra = {key: json.loads(value) for key, _, value in (item.partition("=") for item in given.set)}
    done = {(line["method"], line["noise"], line["seed"], str(line.get("extra"))) for line in lines_of(work)}
    if not any(line["method"] == "frozen" for line in lines_of(work)):
        _append(work, {"method": "frozen", "noise": 0.0, "seed": 0, **scores(load(bench.start), bench.tests)})
    todo = itertools.product(given.seeds, given.noise, given.only)
    todo = [item for item in todo if (item[2], item[1], item[0], str(extra)) not in done]
    for number, (seed, noise, name) in enumerate(todo, start=1):
        sys.stderr.write(f"[{time.strftime('%H:%M:%S')}] {number}/{len(todo)} {name}, {noise}, seed {seed}\n")
        one_run(bench, work, name, noise, seed, extra)


if __name__ == "__main__":
    try:
        main()
    except LangadaptError as error:
        sys.exit(f"domain.py: {error}")
