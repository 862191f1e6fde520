"""Every tuning method at three numbers of pairs and three seeds, from one distilled student.

    OMP_NUM_THREADS=1 python benchmarks/tune.py world --work runs/tune-world
    LANGADAPT_LAB=... OMP_NUM_THREADS=1 python benchmarks/tune.py lab --start runs/lab/zh --work runs/tune-lab
    python benchmarks/tune.py table --work runs/tune-world

`world` needs nothing: it draws its pairs, and distils the student that all runs begin with on few sentences.
`lab` needs the lab kit and an artifact that `benchmarks/lab.py zh` made (of everyday sentences: a student of
captions has nothing to learn there). One line is written per run (results.jsonl); a run whose line is there
is not repeated. Each run is a process of its own, so that its peak memory is its own; the models' libraries
are loaded before and count in it.
"""

import argparse
import contextlib
import io
import itertools
import json
import os
import resource
import statistics
import sys
import tarfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from langadapt.data.retrieval import RetrievalSet, retrieval_from_files
from langadapt.errors import LangadaptError, Progress
from langadapt.metrics.retrieval import retrieval_scores
from langadapt.models import LanguageModel, load
from langadapt.models.caches import stored_images
from langadapt.quickstart.drawing import draw
from langadapt.quickstart.world import write_world
from langadapt.recipes import TuneStage, find_language, override
from langadapt.recipes.yaml import parse
from langadapt.training import RunOptions, distill, tune
from tools.embedded_world.authors import Describer
from tools.embedded_world.captions import CAPTIONS
from tools.embedded_world.plans import sample_plan
from tools.embedded_world.sampling import training_scenes

LILT = ["adapters", "layer_norm", "projection"]
METHODS: dict[str, dict[str, Any]] = {
    "both full": {"text": "full", "image": "full"},
    "both adapters + layer_norm + projection": {"text": LILT, "image": LILT},
    "both layer_norm + projection": {
        "text": ["layer_norm", "projection"],
        "image": ["layer_norm", "projection"],
    },
    "both bitfit + projection": {"text": ["bitfit", "projection"], "image": ["bitfit", "projection"]},
    "text full": {"text": "full"},
    "text adapters + layer_norm + projection": {"text": LILT},
    "text adapters + layer_norm + projection, distilling on": {"text": LILT, "distill_weight": 1.0},
    "text layer + projection": {"text": ["layer", "projection"]},
    "text layer + lora 8 + layer_norm + projection": {
        "text": ["layer", {"lora": {"rank": 8}}, "layer_norm", "projection"]
    },
    "text layer_norm + projection": {"text": ["layer_norm", "projection"]},
    "text bitfit + projection": {"text": ["bitfit", "projection"]},
    "text projection": {"text": "projection"},
    "text head": {"text": "head"},
    "text lora 8 + projection": {"text": [{"lora": {"rank": 8}}, "projection"]},
    "text last 1 + projection": {"text": [{"last": 1}, "projection"]},
    "text embeddings + projection": {"text": ["embeddings", "projection"]},
}
SETTINGS = {"batch_size": 128, "held_out_fraction": 0.2, "chunk_size": 512, "augment": False}
FAST = {"learning_rate": 2e-3, "pretrained_learning_rate": 2e-4}
PLANS: dict[int, dict[str, Any]] = {
    100: {"epochs": 20, "learning_rate": 5e-4, "pretrained_learning_rate": 5e-5},
    500: {"epochs": 20, **FAST},
    2000: {"epochs": 8, **FAST},
}
"""Four times the default rates from 500 pairs on: of these, the defaults and ten times, best for most methods
on held-out pairs of the world. Twenty held-out images, all that 100 pairs leave, cannot tell (TUNE.md)."""


@dataclass(frozen=True, kw_only=True)
class Bench:
    """A student to begin with, its pairs and its test sets by name (the first one is the language's own)."""

    start: Path
    pairs: Callable[[int], Path]
    images: Path
    tests: dict[str, RetrievalSet]


def world(work: Path, code: str, sentences: int) -> Bench:
    """The embedded world: a student of few sentences, and drawn training scenes with a caption each."""
    folder = write_world(work / "world", parallel=16000, tests=1000)
    few = folder / f"few.en-{code}.yaml"
    lines = (folder / f"parallel.en-{code}.tsv").read_text(encoding="utf-8").split("\n")
    few.with_suffix(".tsv").write_text("\n".join(lines[: sentences + 1]) + "\n", encoding="utf-8")
    few.write_text(
        f"name: {few.stem}\ntitle: Few sentences\nlicence: Apache-2.0\nlanguage: {code}\n"
        f"source: {{kind: files, paths: [{few.stem}.tsv]}}\nexpected_rows: {sentences}\n"
    )
    start = work / "start"
    if not (start / "artifact.json").is_file():
        settings = [f"distill.data=['./{few.name}']", "distill.identity_fraction=0.5", "distill.epochs=8"]
        settings.append("distill.held_out_sentences=200")
        found = override(find_language(str(folder / code)), settings)
        distill(found, start, report=_quiet, options=RunOptions(overwrite=True))

    def pairs(count: int) -> Path:
        table = work / f"pairs-{count}.tsv"
        (work / "scenes").mkdir(exist_ok=True)
        if not table.is_file():
            drawn, facts, words, english = (Describer(f"tune {code} {what}") for what in range(4))
            rows = ["image\tcaption\tenglish"]
            for number, scene in enumerate(itertools.islice(training_scenes(drawn), count)):
                path = work / "scenes" / f"{number:04d}.png"
                picture = io.BytesIO()
                draw(scene).save(picture, format="png")
                path.write_bytes(picture.getvalue())
                plan = sample_plan(scene, facts)
                sides = (CAPTIONS[code](plan, words), CAPTIONS["en"](plan, english))
                rows.append("\t".join((path.name, *sides)))
            table.write_text("\n".join(rows) + "\n", encoding="utf-8")
        return table

    tests = {
        "language": _test(folder / f"test.{code}.tsv", folder / "photos", code),
        "english": _test(folder / "test.en.tsv", folder / "photos", "en"),
    }
    return Bench(start=start, pairs=pairs, images=work / "scenes", tests=tests)


def lab(work: Path, start: Path) -> Bench:
    """Real photos: a distilled Chinese student, captions of 1,000 training photos written by people."""
    kit = Path(os.environ["LANGADAPT_LAB"])
    for name in ("train_1k", "val"):
        if not (work / name).is_dir():
            with tarfile.open(kit / "photos" / f"{name}.tar") as tar:
                tar.extractall(work / f"{name}.part", filter="data")
            (work / f"{name}.part").rename(work / name)

    def pairs(count: int) -> Path:
        table = work / f"pairs-{count}.tsv"
        header, *lines = (kit / "captions" / "train_1k.zh-written.tsv").read_text("utf-8").splitlines()
        by_photo: dict[str, list[str]] = {}
        for line in lines:
            by_photo.setdefault(line.split("\t")[0], []).append(line)
        # First captions of all photos, then the second ones: as many photos as pairs where there are so many.
        ordered = [own[turn] for turn in range(5) for own in by_photo.values() if turn < len(own)]
        table.write_text("\n".join([header, *ordered[:count]]) + "\n", encoding="utf-8")
        return table

    tests = {
        "language": _test(kit / "captions" / "val.zh-written.tsv", work / "val", "zh"),
        "translated": _test(kit / "captions" / "val.zh-mt.tsv", work / "val", "zh"),
        "english": _test(kit / "captions" / "val.en.tsv", work / "val", "en"),
    }
    return Bench(start=start, pairs=pairs, images=work / "train_1k", tests=tests)


def _test(captions: Path, images: Path, language: str) -> RetrievalSet:
    # One caption an image: fifteen methods are scored three times at three sizes.
    return retrieval_from_files(captions, images, language=language, which_captions="first")


def scores(model: LanguageModel, tests: dict[str, RetrievalSet]) -> dict[str, float]:
    """mR6 of the student on each test set, and of the teacher's own text tower on the English one."""
    found: dict[str, float] = {}
    for name, test in tests.items():
        assert test.images is not None
        gallery, own = stored_images(model.teacher, test.images), torch.tensor(test.image_of_text)
        text = model.encode_text(list(test.texts))
        found[name] = retrieval_scores(text, gallery, own, signature=name).mr6
        if name == "english":
            text = model.teacher.text.embed(test.texts)
            found["teacher_english"] = retrieval_scores(text, gallery, own, signature=name).mr6
    return found


def one_run(bench: Bench, work: Path, name: str, count: int, seed: int, extra: dict[str, Any]) -> None:
    """Tunes, scores and appends a line."""
    began = time.process_time()
    steady = {**SETTINGS, **PLANS.get(count, PLANS[500]), **extra}
    steady.setdefault("patience_epochs", steady["epochs"])
    settings = {**steady, **METHODS[name], "seed": seed, "pairs": [str(bench.pairs(count))]}
    out = work / "run"
    stage = parse(TuneStage, settings, where=name)
    options = RunOptions(device=torch.device("cpu"), overwrite=True, images=bench.images)
    artifact = tune(bench.start, out, stage=stage, report=_quiet, options=options)
    trained = time.process_time() - began
    facts = artifact.training
    line = {
        "method": name,
        "pairs": count,
        "seed": seed,
        "settings": steady,
        **scores(load(out), bench.tests),
        "trained_percent": facts["trained_percent"],
        "trained_parameters": facts["trained_parameters"],
        "fell_back": facts["fell_back"],
        "best_step": facts["best_step"],
        "stopped_at": facts["stopped_at"],
        "held_out": facts["held_out_recall"],
        "start_held_out": facts["start_recall"],
        "train_cpu_seconds": round(trained, 1),
        "peak_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
    }
    with (work / "results.jsonl").open("a", encoding="utf-8") as file:
        file.write(json.dumps(line) + "\n")


def in_a_process(work: Callable[[], None]) -> None:
    """Runs a function in a fork of its own, and stops if it fails."""
    child = os.fork()
    if child == 0:
        code = 1
        with contextlib.suppress(KeyboardInterrupt):
            try:
                work()
                code = 0
            finally:
                sys.stdout.flush()
                sys.stderr.flush()
                os._exit(code)
    if os.waitpid(child, 0)[1]:
        sys.exit("tune.py: a run failed")


def lines_of(work: Path) -> list[dict[str, Any]]:
    """The results so far."""
    path = work / "results.jsonl"
    return [json.loads(line) for line in path.read_text("utf-8").splitlines()] if path.is_file() else []


def table(work: Path) -> Iterator[str]:
    """Markdown: mean and range over the seeds for each method and number of pairs."""
    lines = lines_of(work)
    start = next((line for line in lines if line["method"] == "start"), None)
    tests = [name for name in ("language", "translated", "english", "teacher_english") if name in lines[0]]
    for count in sorted({line["pairs"] for line in lines if line["pairs"]}):
        yield f"\n### {count:,} pairs\n"
        yield f"| method | trained % | {' | '.join(tests)} | fell back | CPU s | peak MB | seeds |"
        yield "|---" * (len(tests) + 6) + "|"
        if start:
            yield f"| distilled student | | {' | '.join(f'{start[t]:.1f}' for t in tests)} | | | | |"
        for method in METHODS:
            runs = [line for line in lines if (line["method"], line["pairs"]) == (method, count)]
            if not runs:
                continue
            cells = []
            for test in tests:
                values = [run[test] for run in runs]
                spread = f" ({min(values):.1f}-{max(values):.1f})" if len(values) > 1 else ""
                cells.append(f"{statistics.mean(values):.1f}{spread}")
            yield (
                f"| {method} | {runs[0]['trained_percent']:.2f} | {' | '.join(cells)} | "
                f"{sum(run['fell_back'] for run in runs)} | "
                f"{statistics.mean(run['train_cpu_seconds'] for run in runs):.0f} | "
                f"{statistics.mean(run['peak_bytes'] for run in runs) / 1e6:.0f} | {len(runs)} |"
            )


def _quiet(progress: Progress) -> None:
    """Runs in the background."""


def main() -> None:
    """Runs what is missing, or prints the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("what", choices=["world", "lab", "table"])
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--lang", default="ar", help="of the embedded world")
    parser.add_argument("--sentences", type=int, default=2000, help="of the world's student")
    parser.add_argument("--start", type=Path, help="distilled student of the lab")
    parser.add_argument("--pairs", type=int, nargs="+", default=[100, 2000, 500])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--only", nargs="+", choices=sorted(METHODS), default=list(METHODS))
    parser.add_argument("--set", action="append", default=[], metavar="KEY=JSON", help="of the tune stage")
    given = parser.parse_args()
    if given.what == "table":
        sys.stdout.write("\n".join(table(given.work)) + "\n")
        return
    given.work.mkdir(parents=True, exist_ok=True)
    work = given.work.resolve()
    bench = world(work, given.lang, given.sentences) if given.what == "world" else lab(work, given.start)
    extra = {key: json.loads(value) for key, _, value in (item.partition("=") for item in given.set)}
    done = {(line["method"], line["pairs"], line["seed"]) for line in lines_of(work)}
    if ("start", 0, 0) not in done:
        line = {"method": "start", "pairs": 0, "seed": 0, **scores(load(bench.start), bench.tests)}
        with (work / "results.jsonl").open("a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")
    todo = itertools.product(given.seeds, given.pairs, given.only)
    todo = [item for item in todo if (item[2], item[1], item[0]) not in done]
    for number, (seed, count, name) in enumerate(todo, start=1):
        sys.stderr.write(f"[{time.strftime('%H:%M:%S')}] {number}/{len(todo)} {name}, {count}, seed {seed}\n")
        in_a_process(lambda: one_run(bench, work, name, count, seed, extra))  # noqa: B023


if __name__ == "__main__":
    try:
        main()
    except LangadaptError as error:
        sys.exit(f"tune.py: {error}")
