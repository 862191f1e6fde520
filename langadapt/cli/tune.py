"""`langadapt tune`."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from langadapt.cli.curve import training_curve
from langadapt.cli.options import AsJson, Device, LanguageCode, Overwrite, TableImages
from langadapt.cli.pairs_stage import chosen_stage, chosen_student
from langadapt.cli.progress import console, progress_report, shown
from langadapt.errors import RecipeError
from langadapt.recipes import TuneStage

if TYPE_CHECKING:
    from langadapt.models import Artifact

HELP = """Tune a distilled student, and the image tower where asked, on images with captions.

Where no step is better than the distilled student on held-out images, the result is that student.

Examples:

  langadapt tune --lang sw --pairs captions.jsonl

  langadapt tune --from runs/sw --pairs captions.csv --images photos/ --out runs/sw-tuned

  langadapt tune --from runs/sw --pairs shard-0.tar --set "tune.text=[bitfit, projection]"

  langadapt tune --from runs/sw --pairs captions.tsv --pairs-fraction 0.1,0.3,1

The table has the columns image and caption, and english where you have it. An interrupted run goes on when
the same command is given again.
"""


def tune_command(
    lang: LanguageCode = None,
    recipe: Annotated[
        str | None,
        typer.Option("--recipe", help="Recipe with a tune stage; the run's own unless said."),
    ] = None,
    pairs: Annotated[
        list[str] | None,
        typer.Option("--pairs", help="Table, tar shard or pair recipe; the recipe's tune.pairs unless said."),
    ] = None,
    images: TableImages = None,
    start: Annotated[
        Path | None,
        typer.Option("--from", help="Run folder of the distilled student; runs/CODE unless said."),
    ] = None,
    out: Annotated[Path | None, typer.Option("--out", help="Run folder; FROM-tuned unless said.")] = None,
    settings: Annotated[
        list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Change a value: tune.epochs=5.")
    ] = None,
    fractions: Annotated[
        str, typer.Option("--pairs-fraction", help="Shares of the images, one run each: 0.1,0.3,1.")
    ] = "1",
    device: Device = None,
    overwrite: Overwrite = False,
    as_json: AsJson = False,
) -> None:
    shares = _shares(fractions)
    begin = chosen_student(start, lang)
    folder = out or begin.with_name(begin.name + "-tuned")

    from langadapt.evaluation.plots import save_svg
    from langadapt.models.device import chosen_device
    from langadapt.training import DistillOptions, tune

    _, stage = chosen_stage(TuneStage, begin, recipe or lang, pairs, settings)
    several = len(shares) > 1 and not overwrite
    options = DistillOptions(device=chosen_device(device), overwrite=overwrite, reuse_finished=several)
    made: dict[float, Artifact] = {}
    with progress_report() as report:
        for share in shares:
            place = folder if len(shares) == 1 else folder / f"pairs-{share:g}"
            made[share] = tune(
                begin, place, stage=stage, report=report, options=options, images=images, pairs_fraction=share
            )
            save_svg(place / "curve.svg", training_curve(place))
    if len(shares) > 1:
        _learning_curve(folder, made)
    if as_json:
        rows = [{"pairs_fraction": share, **artifact.training} for share, artifact in made.items()]
        typer.echo(json.dumps(rows if len(rows) > 1 else rows[0], ensure_ascii=False))
        return
    for share, artifact in made.items():
        facts = artifact.training
        gain = f"{facts['start_recall']:.1f} to {facts['held_out_recall']:.1f} %"
        verdict = "no better than the distilled student, which it stays" if facts["fell_back"] else gain
        console.print(
            f"{facts['rows']:,} captions of {facts['images']:,} images (share {share:g}): {verdict}"
        )
    scored = folder if len(shares) == 1 else folder / f"pairs-{shares[-1]:g}"
    console.print(f"next: langadapt eval {shown(scored)}")


def _shares(text: str) -> list[float]:
    try:
        shares = [float(part) for part in text.split(",")]
    except ValueError as error:
        raise RecipeError(f"--pairs-fraction {text}: expected numbers such as 0.1,0.3,1") from error
    if not all(0 < share <= 1 for share in shares):
        raise RecipeError(f"--pairs-fraction {text}: each share lies above 0 and is at most 1")
    return sorted(set(shares))


def _learning_curve(folder: Path, made: "dict[float, Artifact]") -> None:
    """Held-out recall against the number of captions, as SVG and JSON."""
    from langadapt.data.write_text import write_text
    from langadapt.evaluation.plots import save_learning_curve

    facts = [artifact.training for artifact in made.values()]
    points = [(float(item["rows"]), float(item["held_out_recall"])) for item in facts]
    start = float(facts[0]["start_recall"])
    save_learning_curve(folder / "learning-curve.svg", points, start=start)
    rows = [{"captions": int(x), "held_out_recall": y, "start_recall": start} for x, y in points]
    write_text(folder / "learning-curve.json", json.dumps(rows, indent=2) + "\n")
    console.print(f"learning curve: {shown(folder / 'learning-curve.svg')}")
