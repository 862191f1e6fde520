"""Quality against the number of pairs, on real photos: distils and scores each size, language and seed.

Needs the lab kit (LANGADAPT_LAB names its folder) and a text model that knows the languages (--text-model,
a folder). Training sentences whose English side equals a test caption up to letters are left out. English
captions without translations come from --english-rows rows of the Chinese table; 0 trains on the pairs alone.

    LANGADAPT_LAB=... python benchmarks/scaling.py zh de --text-model e5-small --prefix "query: "
    python benchmarks/scaling.py --table --plot benchmarks/scaling.svg

With --joint one run learns all the languages, of each as many pairs. Each run appends one line a language to
--results (JSON Lines). --table prints them as Markdown, --plot draws the runs of defaults. --own scores
Chinese runs that are there on training photos, with the captions that they learned from.
"""

import argparse
import csv
import gzip
import itertools
import json
import os
import random
import statistics
import sys
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch
from lab import PARALLEL, TESTS, unpack, write_recipes

from langadapt.data.retrieval import load_retrieval
from langadapt.errors import LangadaptError, Progress
from langadapt.evaluation.retrieval import ScoreCard, evaluate_retrieval
from langadapt.models import LanguageModel, load
from langadapt.recipes import RetrievalRecipe, data_recipe, find_language, override
from langadapt.training import RunOptions, distill

SIZES = [0, 300, 1000, 3000, 10_000, 30_000]


def letters(text: str) -> str:
    """What two captions share that differ in case, spaces and punctuation alone."""
    return "".join(filter(str.isalpha, text.casefold()))


def read(path: Path) -> list[dict[str, str]]:
    """Rows of a table with a header."""
    content = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    return list(csv.DictReader(content.decode().split("\n"), delimiter="\t", quoting=csv.QUOTE_NONE))


def write(path: Path, header: str, rows: Iterable[str]) -> Path:
    """A table of ready lines."""
    path.write_text(header + "\n" + "".join(f"{row}\n" for row in rows), encoding="utf-8")
    return path


def scored_on(work: Path, lab: Path, lang: str, *, english: bool = False) -> Path:
    """A recipe of the test photos in a language, or of its English captions."""
    name = f"score-{'en-' if english else ''}{lang}"
    rows = read(lab / "captions" / f"{TESTS[lang]}.tsv")
    said = "english" if english else "caption"
    lines = (f"{r['image']}\t{r[said]}\t{r['english']}" for r in rows)
    return _captions(work, name, lang, lines, work / "photos")


def own_captions(work: Path, lab: Path, pairs: int, seed: int) -> Path:
    """A recipe of training photos with those of their Chinese captions that a run has learned from."""
    learned = {(r["english"], r["target"]) for r in read(work / f"pairs-zh-{pairs}-{seed}.tsv")}
    rows = (
        r for r in read(lab / "captions" / "train_1k.zh-mt.tsv") if (r["english"], r["caption"]) in learned
    )
    lines = (f"{r['image']}\t{r['caption']}\t{r['english']}" for r in rows)
    return _captions(work, f"own-{pairs}-{seed}", "zh", lines, unpack(lab, work, "train_1k"))


def _captions(work: Path, name: str, lang: str, lines: Iterable[str], photos: Path) -> Path:
    table = write(work / f"{name}.tsv", "image\tcaption\tenglish", lines)
    recipe = work / f"{name}.yaml"
    recipe.write_text(
        f"name: {name}\ntitle: {name}\nlicence: research only\nlicence_source: the kit's README\n"
        f"language: {lang}\ncaptions: [{table.name}]\nimages: {photos}\ncolumns: {{english: english}}\n"
    )
    return recipe


def score(recipe: Path, model: LanguageModel) -> ScoreCard:
    """Scores of a model on a recipe's captions."""
    return evaluate_retrieval(load_retrieval(data_recipe(RetrievalRecipe, str(recipe))), model).card


def pairs_of(lab: Path, lang: str, seed: int) -> list[dict[str, str]]:
    """All pairs of a language whose English side is no test caption, in an order that the seed draws."""
    tests = test_captions(lab)
    rows = [r for r in read(lab / "parallel" / PARALLEL[lang][0]) if letters(r["english"]) not in tests]
    random.Random(seed).shuffle(rows)
    return rows


def english_alone(lab: Path) -> list[str]:
    """English captions of the Chinese table, each once, that are no test captions."""
    tests = test_captions(lab)
    english = dict.fromkeys(r["english"] for r in read(lab / "parallel" / PARALLEL["zh"][0]))
    return [text for text in english if letters(text) not in tests]


def test_captions(lab: Path) -> set[str]:
    """Letters of all English test captions."""
    return {letters(r["english"]) for name in TESTS.values() for r in read(lab / "captions" / f"{name}.tsv")}


def distil(langs: list[str], pairs: int, seed: int, given: argparse.Namespace) -> list[dict[str, Any]]:
    """Distil on some pairs of each language, score, and return a line of the results for each language."""
    lab, work = Path(os.environ["LANGADAPT_LAB"]).resolve(), given.work.resolve()
    recipes = []
    for lang in langs:
        kept = (f"{r['english']}\t{r['target']}" for r in pairs_of(lab, lang, seed)[:pairs])
        table = write(work / f"pairs-{lang}-{pairs}-{seed}.tsv", "english\ttarget", kept)
        recipes.append(str(write_recipes(lab, work, lang, given.text_model, [str(table)])))
    english = english_alone(lab)[: given.english_rows]
    alone = write(work / "english.tsv", "english", english)
    settings = [f"text_model.prefix={json.dumps(given.prefix)}", f"distill.seed={seed}", *given.settings]
    settings += [f"distill.english=[{alone}]"] if english else []
    settings += [] if pairs else ["distill.data=[]"]
    out = work / f"run-{'-'.join(langs)}-{pairs}-{seed}"
    last = 0.0

    def report(progress: Progress) -> None:
        nonlocal last
        if not progress.total or time.monotonic() - last > 30:
            last = time.monotonic()
            count = f" {progress.done}/{progress.total} {progress.note}" if progress.total else ""
            sys.stderr.write(f"[{time.strftime('%H:%M:%S')}] {out.name} {progress.stage}{count}\n")

    started = time.process_time()
    found = override(find_language(",".join(recipes)), settings)
    artifact = distill(found, out, report=report, options=RunOptions(overwrite=True))
    seconds = time.process_time() - started
    model, cards = load(out), {}
    sides = ("student", "ceiling", "floor")
    for name in (*langs, *(other for other in ("zh", "de", "fr") if other not in langs), "en"):
        path = scored_on(work, lab, "de" if name == "en" else name, english=name == "en")
        cards[name] = score(path, model)
    joint = [f"languages=[{','.join(langs)}]"] if len(langs) > 1 else []
    return [
        {
            "lang": lang,
            "pairs": pairs,
            "seed": seed,
            "english_rows": len(english),
            "settings": joint + given.settings,
            "text_model": Path(artifact.text_model.repo).name,
            "layers": artifact.recipe.adapter.layers,
            "width": artifact.recipe.adapter.bottleneck_dim,
            "steps": artifact.training["steps"],
            "retention": {name: card.retention for name, card in cards.items()},
            "cpu_seconds": round(seconds),
            "threads": torch.get_num_threads(),
            **{side: _short(getattr(cards[lang], side).to_dict()) for side in sides},
        }
        for lang in langs
    ]


def _short(scores: dict[str, Any]) -> dict[str, Any]:
    """Without the hits of each caption."""
    return {key: value for key, value in scores.items() if key != "hits"}


def markdown(results: Path) -> str:
    """The lines of results, those that differ in the seed as one row."""
    groups: dict[tuple[Any, ...], list[dict[str, Any]]] = {}
    for line in map(json.loads, results.read_text(encoding="utf-8").splitlines()):
        key = (line["lang"], line["text_model"], line["pairs"], " ".join(line["settings"]) or "defaults")
        groups.setdefault(key, []).append(line)
    columns = (
        "language, text model, pairs, settings, retention (seeds), text to image R@1 5 10, image to text, "
    )
    columns += "English, untrained languages, CPU s"
    lines = [f"| {columns.replace(', ', ' | ')} |", "|---" * len(columns.split(", ")) + "|"]
    for (lang, model, pairs, settings), runs in sorted(groups.items(), key=lambda item: item[0]):
        own = [run["retention"][lang] for run in runs]
        spread = f" ({min(own):.3f}-{max(own):.3f})" if len(own) > 1 else ""
        means = {n: statistics.mean(r["retention"][n] for r in runs) for n in runs[0]["retention"]}
        sides = [
            " ".join(
                f"{statistics.mean(r['student'][side][k] for r in runs):.1f}" for k in ("r1", "r5", "r10")
            )
            for side in ("t2i", "i2t")
        ]
        cells = [lang, model, f"{pairs:,}", settings, f"**{means[lang]:.3f}**{spread}, {len(runs)}", *sides]
        cells += [
            f"{means['en']:.3f}",
            ", ".join(f"{n} {means[n]:.3f}" for n in means if n not in (lang, "en")),
        ]
        lines.append(f"| {' | '.join(cells)} | {statistics.mean(r['cpu_seconds'] for r in runs):.0f} |")
    return "\n".join(lines) + "\n"


def plot(results: Path) -> str:
    """Retention against the number of pairs as SVG, a line per language; sizes stand at equal distances."""
    points: dict[str, dict[int, list[float]]] = {}
    for run in map(json.loads, results.read_text(encoding="utf-8").splitlines()):
        if not run["settings"]:
            points.setdefault(run["lang"], {}).setdefault(run["pairs"], []).append(
                run["retention"][run["lang"]]
            )
    sizes = sorted({pairs for sizes in points.values() for pairs in sizes})
    left, top, width, height, least = 60, 20, 460, 260, 0.5

    def at(pairs: int, value: float) -> tuple[float, float]:
        x = left + 20 + (width - 40) * sizes.index(pairs) / max(1, len(sizes) - 1)
        return x, top + height * (1 - (value - least) / (1 - least))

    parts = ["<title>Share of the teacher's English score against the number of sentence pairs</title>"]
    for tenth in range(5, 11):
        y = at(sizes[0], tenth / 10)[1]
        parts.append(
            f'<path d="M{left} {y:.0f}h{width}" stroke="currentColor" opacity="{1 if tenth == 5 else 0.2}"/>'
        )
        parts.append(f'<text x="{left - 8}" y="{y + 4:.0f}" text-anchor="end">{tenth / 10:.1f}</text>')
    for pairs in sizes:
        parts.append(
            f'<text x="{at(pairs, least)[0]:.0f}" y="{top + height + 18}" '
            f'text-anchor="middle">{pairs:,}</text>'
        )
    middle = left + width / 2
    parts.append(f'<text x="{middle}" y="{top + height + 38}" text-anchor="middle">sentence pairs</text>')
    for (lang, values), colour in zip(
        sorted(points.items()), ("#c2410c", "#1d6fb8", "#2e8b57"), strict=False
    ):
        line = [at(pairs, statistics.mean(values[pairs])) for pairs in sorted(values)]
        path = " ".join(f"{x:.1f},{y:.1f}" for x, y in line)
        parts.append(f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="2"/>')
        for pairs in values:
            for value in values[pairs]:
                x, y = at(pairs, value)
                parts.append(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3" fill="{colour}"/>')
        parts.append(
            f'<text x="{line[-1][0] + 8:.0f}" y="{line[-1][1] + 4:.0f}" fill="{colour}">{lang}</text>'
        )
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {left + width + 20} {top + height + 50}" '
        f'width="{left + width + 20}" height="{top + height + 50}" font-family="sans-serif" font-size="13" '
        'fill="currentColor"><style>svg{color:#1d2329;background:#fff}@media(prefers-color-scheme:dark)'
        f"{{svg{{color:#e4e7ea;background:#14181c}}}}</style>{''.join(parts)}</svg>\n"
    )


def main() -> None:
    """Run the sizes, or print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("langs", nargs="*", choices=[*PARALLEL, []])
    parser.add_argument("--pairs", type=int, nargs="+", default=SIZES)
    parser.add_argument("--joint", action="store_true", help="one run for all languages together")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--text-model", help="folder; xlm-mini of the kit unless said")
    parser.add_argument("--prefix", default="", help="what the text model expects before a text")
    parser.add_argument("--english-rows", type=int, default=30_000)
    parser.add_argument("--set", action="append", default=[], dest="settings", metavar="KEY=VALUE")
    parser.add_argument("--work", type=Path, default=Path("runs/scaling"))
    parser.add_argument("--results", type=Path, default=Path("runs/scaling/results.jsonl"))
    parser.add_argument("--own", action="store_true", help="score runs on captions that they learned from")
    parser.add_argument("--table", action="store_true", help="print the results as Markdown")
    parser.add_argument("--plot", type=Path, help="draw the results of the defaults into this SVG")
    given = parser.parse_args()
    if given.plot:
        given.plot.write_text(plot(given.results), encoding="utf-8")
    if given.table:
        sys.stdout.write(markdown(given.results))
    if given.table or given.plot:
        return
    if given.own:
        work, lab = given.work.resolve(), Path(os.environ["LANGADAPT_LAB"]).resolve()
        for seed, pairs in itertools.product(given.seeds, given.pairs):
            card = score(own_captions(work, lab, pairs, seed), load(work / f"run-zh-{pairs}-{seed}"))
            counts = f"{card.captions:,} captions of {card.images:,} photos"
            sys.stdout.write(f"{pairs:,} pairs, seed {seed}, {counts}: retention {card.retention:.3f}\n")
        return
    given.work.mkdir(parents=True, exist_ok=True)
    for seed in given.seeds:
        for pairs in given.pairs:
            for langs in [given.langs] if given.joint else [[lang] for lang in given.langs]:
                lines = distil(langs, pairs, seed, given)
                with given.results.open("a", encoding="utf-8") as file:
                    file.writelines(json.dumps(line, ensure_ascii=False) + "\n" for line in lines)


if __name__ == "__main__":
    try:
        main()
    except LangadaptError as error:
        sys.exit(f"scaling.py: {error}")
