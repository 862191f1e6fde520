"""`langadapt quickstart`."""

from pathlib import Path
from typing import Annotated

import typer
from typer import Option

from langadapt.cli import options as opt
from langadapt.cli.progress import console, print_result, progress_report, shown
from langadapt.errors import RecipeError
from langadapt.recipes import find_language

HELP = """Teach the embedded world's tiny CLIP a language, score it and search with it: minutes on two cores.

Examples:
  langadapt quickstart
  langadapt quickstart --lang sw
  langadapt quickstart --prepare

The folder gets ordinary recipes, data and models. After --prepare, these commands do the same steps:

  langadapt distill --recipe quickstart/zh
  langadapt eval runs/zh
"""


def quickstart_command(
    lang: Annotated[str, Option(help="One of zh, de, sw, ar.")] = "zh",
    folder: Annotated[Path, Option(help="Folder of the drawn world.")] = Path("quickstart"),
    prepare: Annotated[bool, Option("--prepare", help="Draw the world only; train nothing.")] = False,
    as_json: opt.AsJson = False,
) -> None:
    from langadapt.quickstart.world import TARGETS, write_world

    if lang not in TARGETS:
        raise RecipeError(f"--lang {lang}: the embedded world speaks {', '.join(sorted(TARGETS))}")
    console.print(f"drawing the world in {shown(folder)}")
    write_world(folder)
    recipe_file = find_language(str(folder / lang))
    if prepare:
        console.print(f"next: langadapt distill --recipe {shown(folder)}/{lang}")
        return

    from langadapt.cli.evaluate import available_sets, score
    from langadapt.evaluation.cards import score_json, score_report
    from langadapt.evaluation.plots import save_curve
    from langadapt.models import load
    from langadapt.training import RunOptions, distill

    run = folder / "runs" / lang
    if not (run / "curve.svg").is_file():
        console.print(f"langadapt distill --recipe {shown(folder)}/{lang} --out {shown(run)}")
        with progress_report() as report:
            distill(recipe_file, run, report=report, options=RunOptions(reuse_finished=True))
        save_curve(run)
    console.print(f"langadapt eval {shown(run)}")
    model = load(run)
    cards = score(model, available_sets(model.artifact.recipe), run=str(run))
    if as_json:
        typer.echo(score_json(cards))
        return
    print_result(score_report(cards))
    query = recipe_file.recipe.examples[0]
    console.print(
        f'try: langadapt search {shown(folder)}/photos "{query}" --model {shown(run)} --html found.html'
    )
