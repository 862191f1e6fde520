"""Few-shot classification on the embedded world's attribute classes: structured prompts and all others.

Draws the sets, distils Chinese with the quickstart's recipe unless --run names a finished run, and for each
set, number of shots and seed learns every method from the same shots and scores it on pictures whose
combinations of attributes no shot shows. Class names and templates are Chinese and go through the student.

    python benchmarks/prompts.py --work /tmp/world             # one line per cell and method, resumable
    python benchmarks/prompts.py --work /tmp/world --report    # table and plot from the lines
    LANGADAPT_LAB=... python benchmarks/prompts.py --work runs/photos --run runs/zh --lang zh --sets caltech

Real photos need the lab kit and a distilled student (--run): the kit's classes `caltech` and `scenes`, with
names and templates in --lang (a language that the student has no pairs of is zero-shot). Half of each class's
photos are the test in every cell; shots are drawn from the others.

Protocol `all` learns and scores all classes. Protocol `novel` learns the first half of the classes and scores
both halves. The test pictures choose nothing: steps are fixed, settings were chosen on other pictures
(--dev draws them: training combinations only, other ones for the shots than for the scores).
"""

import argparse
import json
import os
import sys
import time
from collections import defaultdict
from dataclasses import replace
from itertools import product
from pathlib import Path
from statistics import mean, stdev
from typing import Any

import torch

from langadapt.data.classification import (
    ClassificationSet,
    base_and_novel,
    classification_from_folder,
    divided,
    draw_shots,
)
from langadapt.files.atomic import write_text
from langadapt.models import LanguageModel, load
from langadapt.models.caches import stored_images, stored_patches
from langadapt.quickstart.world import write_world
from langadapt.recipes import find_language
from langadapt.recipes.stages import FewShotStage
from langadapt.training import distill
from langadapt.training.few_shot import CONTEXTS, SHOWN, learn
from langadapt.training.few_shot_run import Seen, few_shot_task, score_method
from tools.embedded_world.attributes import attribute_sets, write_attribute_set

SHOTS = (1, 2, 4, 8, 16)
PHOTOS = ("caltech", "scenes")
PLAIN = ("template", "ensemble", "probe", "tip", "tip-f")
# The published CoOp has no term that keeps it near its template; `kgcoop` is the same with that term.
VARIANTS: dict[str, dict[str, Any]] = {
    "coop": {**CONTEXTS["coop"], "template_weight": 0.0},
    "kgcoop": CONTEXTS["coop"],
    "domain": CONTEXTS["domain"],
    "instance": CONTEXTS["instance"],
    "cocoop": CONTEXTS["cocoop"],
    "structured": CONTEXTS["structured"],
}
NAMES = {**SHOWN, "coop": "CoOp", "kgcoop": "CoOp, kept near its template"}
COLOURS = {"structured": "#c2452d", "coop": "#3b82d6", "kgcoop": "#7fb0ea", "domain": "#d98f2b"}
COLOURS |= {"instance": "#8a63d2", "probe": "#6b7785", "tip-f": "#2f7d4f", "ensemble": "#aab2ba"}


def main() -> None:
    """Runs what is missing, or reports."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--work", type=Path, required=True, help="folder for world, run, sets and results")
    parser.add_argument("--run", type=Path, help="a finished zh run of the quickstart")
    parser.add_argument(
        "--sets", nargs="+", default=["shapes", "counts", "sizes"], choices=[*attribute_sets(), *PHOTOS]
    )
    parser.add_argument(
        "--lang", default="zh", choices=["zh", "en", "de", "sw"], help="of the real photos' names"
    )
    parser.add_argument("--shots", nargs="+", type=int, default=SHOTS)
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--protocol", choices=["all", "novel"], default="all")
    parser.add_argument("--methods", nargs="+", default=[*PLAIN, "coop", "kgcoop", "domain", "structured"])
    parser.add_argument("--set", nargs="+", default=[], dest="settings", metavar="KEY=VALUE")
    parser.add_argument(
        "--dev", action="store_true", help="score other training pictures, to choose settings"
    )
    parser.add_argument("--results", type=Path)
    parser.add_argument("--report", action="store_true")
    given = parser.parse_args()
    results = given.results or given.work / ("dev.jsonl" if given.dev else "results.jsonl")
    if given.report:
        report(results, Path(__file__).parent)
        return
    torch.set_num_threads(1)
    changed = {key: json.loads(value) for key, value in (item.split("=", 1) for item in given.settings)}
    spec = FewShotStage.model_validate({**FewShotStage().model_dump(), **changed})
    done = {key_of(line) for line in read(results)}
    model = load(given.run or quickstart_run(given.work))
    if set(given.sets) & {*PHOTOS}:
        language = find_language("zh" if given.lang == "en" else given.lang).recipe
        prompts = language.english_prompts if given.lang == "en" else language.templates
        recipe = model.artifact.recipe.model_copy(update={"prompts": prompts})
        model.artifact = replace(model.artifact, recipe=recipe)
    for seed, shots, name in product(given.seeds, given.shots, given.sets):
        cell = {
            "protocol": given.protocol, "set": name, "shots": shots, "seed": seed, "settings": changed,
            "lang": given.lang,
        }  # fmt: skip
        missing = [method for method in given.methods if key_of({**cell, "method": method}) not in done]
        if not missing:
            continue
        for line in run_cell(model, cell, missing, spec, given):
            results.parent.mkdir(parents=True, exist_ok=True)
            with results.open("a", encoding="utf-8") as file:
                file.write(json.dumps(line) + "\n")
        sys.stderr.write(f"[{time.strftime('%H:%M:%S')}] {cell} {' '.join(missing)}\n")


def quickstart_run(work: Path) -> Path:
    """The quickstart's Chinese run, made if missing."""
    world, run = write_world(work / "world"), work / "runs" / "zh"
    if not (run / "artifact.json").is_file():
        distill(find_language(str(world / "zh")), run, report=lambda progress: None)
    return run


def run_cell(
    model: LanguageModel,
    cell: dict[str, Any],
    methods: list[str],
    spec: FewShotStage,
    given: argparse.Namespace,
) -> list[dict[str, Any]]:
    """Every method on one set with one number of shots and one seed."""
    train, test = pictures(given, cell["set"])
    shots = train.rows(draw_shots(train, cell["shots"], seed=cell["seed"]))
    whole = len(train.classes)
    base, novel = base_and_novel(whole) if cell["protocol"] == "novel" else (list(range(whole)), [])
    parts = {"base": base, "novel": novel} if novel else {"all": base}
    instance = any(method in ("instance", "cocoop", "structured") for method in methods)
    learner = seen(model, shots.only(base), patches=instance)
    tests = {part: seen(model, test.only(some), patches=instance) for part, some in parts.items()}
    lines = []
    for method in methods:
        variant = spec.model_copy(update={"seed": cell["seed"], **VARIANTS.get(method, {})})
        recipe = model.artifact.recipe.model_copy(update={"few_shot": variant})
        model.artifact = replace(model.artifact, recipe=recipe)
        task = few_shot_task(model, learner, "student")
        busy = time.process_time()
        kind = "prompts" if method in VARIANTS else method
        (made,) = learn(task, [kind], report=lambda progress: None)
        learned = time.process_time()
        scores = {
            part: score_method(model, made, some, task, "student", unseen=part == "novel").top1
            for part, some in tests.items()
            if part != "novel" or method in ("template", "ensemble", *VARIANTS)
        }
        lines.append(
            {
                **cell,
                "method": method,
                "top1": scores,
                "images": {part: len(some.images) for part, some in tests.items()},
                "learn_cpu_seconds": round(learned - busy, 2),
                "score_cpu_seconds": round(time.process_time() - learned, 2),
            }
        )
    return lines


def pictures(given: argparse.Namespace, name: str) -> tuple[ClassificationSet, ClassificationSet]:
    """Pictures to draw shots from, and pictures to score."""
    if name in PHOTOS:
        folder = Path(os.environ["LANGADAPT_LAB"]) / "classes" / name
        names = folder.with_name(f"{name}.{given.lang}.txt")
        data = classification_from_folder(folder, names, language=given.lang)
        train, test = divided(data, test_fraction=1 / 2, seed=77 if given.dev else 0)
        return data.rows(train), data.rows(test)
    seed, place = (77, "dev-sets") if given.dev else (0, "sets")
    folder = write_attribute_set(given.work / place, name, test=60, seed=seed, dev=given.dev)
    names = folder / "classes.zh.txt"
    return (
        classification_from_folder(folder, names, language="zh", split="train"),
        classification_from_folder(folder, names, language="zh", split="test"),
    )


def seen(model: LanguageModel, data: ClassificationSet, *, patches: bool) -> Seen:
    """Images as the frozen image tower sees them."""
    return Seen(
        data=data,
        labels=torch.from_numpy(data.labels),
        images=stored_images(model.teacher, data.images),
        patches=stored_patches(model.teacher, data.images) if patches else None,
    )


def key_of(line: dict[str, Any]) -> tuple[str, ...]:
    """What makes a line unique."""
    keys = ("protocol", "set", "shots", "seed", "method")
    return (
        *(str(line[key]) for key in keys),
        line.get("lang", "zh"),
        json.dumps(line["settings"], sort_keys=True),
    )


def read(results: Path) -> list[dict[str, Any]]:
    """All lines so far."""
    if not results.is_file():
        return []
    return [json.loads(line) for line in results.read_text(encoding="utf-8").splitlines()]


def report(results: Path, folder: Path) -> None:
    """Writes tables and plots from the lines with default settings, those of real photos by language."""
    lines = [line for line in read(results) if not line["settings"]]
    drawn = [line for line in lines if line["set"] not in PHOTOS]
    kinds = {"prompts": drawn} if drawn else {}
    for name, lang in sorted({(line["set"], line.get("lang", "zh")) for line in lines if line not in drawn}):
        kinds[f"prompts-{name}-{lang}"] = [
            i for i in lines if (i["set"], i.get("lang", "zh")) == (name, lang)
        ]
    for name, own in kinds.items():
        text = "\n".join(
            table([line for line in own if line["protocol"] == protocol], part)
            for protocol, part in (("all", "all"), ("novel", "base"), ("novel", "novel"))
        )
        if name == "prompts":
            write_text(folder / "prompts-table.md", text)
        write_text(folder / f"{name}.svg", plot([line for line in own if line["protocol"] == "all"]))
        sys.stdout.write(f"\n## {name}\n{text}")


def by_method(lines: list[dict[str, Any]], part: str) -> dict[str, dict[int, dict[int, float]]]:
    """Mean over sets: method -> shots -> seed -> top1; only where every set is there."""
    found: dict[str, dict[int, dict[int, list[float]]]] = defaultdict(
        lambda: defaultdict(lambda: defaultdict(list))
    )
    for line in lines:
        if part in line["top1"]:
            found[line["method"]][line["shots"]][line["seed"]].append(line["top1"][part])
    sets = len({line["set"] for line in lines})
    return {
        method: {
            shots: {seed: mean(values) for seed, values in seeds.items() if len(values) == sets}
            for shots, seeds in by_shots.items()
        }
        for method, by_shots in found.items()
    }


def table(lines: list[dict[str, Any]], part: str) -> str:
    """A Markdown table: mean over sets and seeds, and the standard deviation over seeds."""
    if not lines:
        return ""
    values = by_method(lines, part)
    shots = sorted({line["shots"] for line in lines})
    sets = sorted({line["set"] for line in lines})
    rows = [f"\n{part} classes, top-1, mean over {', '.join(sets)} and over seeds ± deviation over seeds\n"]
    rows += [f"| | {' | '.join(f'{count} shots' for count in shots)} |", "|---" * (len(shots) + 1) + "|"]
    for method in NAMES:
        if method in values:
            cells = []
            for count in shots:
                found = list(values[method].get(count, {}).values())
                spread = f" ± {stdev(found):.1f}" if len(found) > 1 else ""
                cells.append(f"{mean(found):.1f}{spread} ({len(found)})" if found else "–")
            rows.append(f"| {NAMES[method]} | {' | '.join(cells)} |")
    return "\n".join(rows) + "\n"


def plot(lines: list[dict[str, Any]]) -> str:
    """Mean top-1 against shots as SVG."""
    values = by_method(lines, "all")
    points = {
        method: [(s, mean(found.values())) for s, found in sorted(by_shots.items()) if found]
        for method, by_shots in values.items()
        if method in COLOURS
    }
    every = [y for line in points.values() for _, y in line]
    if not every:
        return "<svg xmlns='http://www.w3.org/2000/svg'/>"
    low, high = 5 * int(min(every) // 5), 5 * (int(max(every) // 5) + 1)
    across = {shots: 60 + 110 * place for place, shots in enumerate(SHOTS)}

    def up(y: float) -> float:
        return 340 - 300 * (y - low) / (high - low)

    parts = [
        f'<line x1="60" x2="500" y1="{up(y):.0f}" y2="{up(y):.0f}" stroke="currentColor" opacity=".15"/>'
        f'<text x="52" y="{up(y) + 4:.0f}" text-anchor="end">{y}</text>'
        for y in range(low, high + 1, 5)
    ]
    parts += [f'<text x="{x}" y="362" text-anchor="middle">{shots}</text>' for shots, x in across.items()]
    for place, (method, line) in enumerate(sorted(points.items(), key=lambda item: -item[1][-1][1])):
        path = " ".join(f"{across[x]},{up(y):.1f}" for x, y in line)
        width = 3 if method == "structured" else 1.6
        parts.append(
            f'<polyline points="{path}" fill="none" stroke="{COLOURS[method]}" stroke-width="{width}"/>'
            f'<line x1="520" x2="544" y1="{60 + 24 * place}" y2="{60 + 24 * place}" '
            f'stroke="{COLOURS[method]}" stroke-width="{width}"/>'
            f'<text x="552" y="{64 + 24 * place}">{NAMES[method]}</text>'
        )
    return (
        '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 780 390" width="780" height="390" '
        'fill="currentColor" font-family="system-ui,sans-serif" font-size="13">'
        "<style>svg{color:#1d2329;background:#fff}@media(prefers-color-scheme:dark)"
        "{svg{color:#e4e7ea;background:#14181c}}</style>"
        '<text x="60" y="24" font-size="15" font-weight="600">top-1 (%) against shots per class</text>'
        f"{''.join(parts)}</svg>\n"
    )


if __name__ == "__main__":
    main()
