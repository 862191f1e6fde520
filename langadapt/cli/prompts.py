"""`langadapt prompts`."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table

from langadapt.cli.options import Device, Settings
from langadapt.cli.progress import console, print_result, progress_report, shown
from langadapt.errors import DataError, RecipeError
from langadapt.recipes import override
from langadapt.recipes.find import Found

if TYPE_CHECKING:
    from langadapt.cli.few_shot_run import FewShotReport

HELP = """Learn prompts from a few images of each class: [general][domain][instance][class name].

Everything stays frozen but a few KB of prompt, which `langadapt classify` then uses. Beside it stand, learned
from the same shots: zero-shot templates, a linear probe, Tip-Adapter, CoOp, and each context alone.

Examples:

  langadapt prompts --shots 16 --images birds/ --classes birds.txt --model runs/zh --out prompts/birds

  langadapt prompts --shots 4 --images birds/ --model runs/zh --set few_shot.instance=false --novel

Images lie in one folder per class. With train/ and test/ inside, shots come from train/ and scores from
test/; else a third of each class is put aside for the scores. The number of steps is fixed: no image chooses
among checkpoints. The recipe says which contexts are learned: few_shot.general, .domain and .instance.
"""


def prompts_command(
    model: Annotated[str, typer.Option("--model", help="Run folder, or org/name on the Hub.")],
    images: Annotated[Path, typer.Option("--images", help="Folder with one folder of images per class.")],
    classes: Annotated[
        Path | None, typer.Option("--classes", metavar="FILE", help="Class names, .txt or .yaml.")
    ] = None,
    shots: Annotated[int, typer.Option("--shots", min=1, help="Images of each class to learn from.")] = 16,
    out: Annotated[
        Path | None, typer.Option("--out", help="Folder for the prompts; prompts/IMAGES unless said.")
    ] = None,
    tower: Annotated[str, typer.Option("--tower", help="student, or teacher for English names.")] = "student",
    settings: Settings = None,
    baselines: Annotated[
        bool, typer.Option("--baselines/--no-baselines", help="Learn the other methods too.")
    ] = True,
    novel: Annotated[
        bool, typer.Option("--novel", help="Learn the first half of the classes; score both halves.")
    ] = False,
    json_file: Annotated[
        Path | None, typer.Option("--json", metavar="FILE", help="Also write the scores here; - prints them.")
    ] = None,
    device: Device = None,
) -> None:
    if tower not in ("student", "teacher"):
        raise RecipeError(f"--tower {tower}: expected student or teacher")
    folder = out or Path("prompts") / images.resolve().name
    if (folder / "prompts.json").is_file() and (folder / "scores.json").is_file():
        raise DataError(f"{folder} holds learned prompts; choose another --out or remove it")

    from dataclasses import replace

    from langadapt.cli.few_shot_run import run_few_shot
    from langadapt.data.write_text import write_text
    from langadapt.models import load
    from langadapt.models.device import chosen_device

    loaded = load(model, device=chosen_device(device))
    found = Found(recipe=loaded.artifact.recipe, path=Path(model) / "recipe.yaml", shipped=False)
    loaded.artifact = replace(loaded.artifact, recipe=override(found, settings or []).recipe)
    with progress_report() as report:
        result = run_few_shot(
            loaded,
            images,
            classes,
            shots=shots,
            out=folder,
            tower=tower,
            run=model,
            baselines=baselines,
            novel=novel,
            report=report,
        )
    text = json.dumps(result.to_dict(), indent=2, ensure_ascii=False)
    write_text(folder / "scores.json", text)
    if json_file is not None and str(json_file) == "-":
        typer.echo(text)
        return
    if json_file is not None:
        write_text(json_file, text)
    print_result(_table(result))
    size = (folder / "prompts.safetensors").stat().st_size / 1e3
    console.print(f"prompts in {shown(folder)} ({size:.1f} KB)")
    console.print(f"next: langadapt classify PHOTOS --prompts {shown(folder)}")


def _table(result: "FewShotReport") -> Table:
    from langadapt.evaluation.report import interval_text

    table = Table(title=f"{result.name}: {result.shots} shots", box=None, title_justify="left")
    table.add_column("", no_wrap=True)
    for part in result.parts:
        for header in (f"{part} top-1", "95 %"):
            table.add_column(header, justify="right", no_wrap=True)
    table.add_column("seconds", justify="right")
    for row in result.rows:
        cells = []
        for part in result.parts:
            scores = row.scores.get(part)
            cells += [f"{scores.top1:.1f}", interval_text(scores.interval)] if scores else ["–", ""]
        table.add_row(row.name, *cells, f"{row.seconds:.1f}")
    return table
