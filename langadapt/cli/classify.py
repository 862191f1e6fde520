"""`langadapt eval --classify`."""

from pathlib import Path
from typing import TYPE_CHECKING

import typer

from langadapt.cli.progress import console, print_result, progress_report, shown
from langadapt.recipes import ClassificationRecipe, data_recipe

if TYPE_CHECKING:
    from langadapt.data.classification import ClassificationSet


def eval_classification(
    run: str,
    source: str,
    *,
    classes: Path | None,
    json_file: Path | None,
    page: Path | None,
    device: str | None,
) -> None:
    """Scores a model on a classification set; prints the table, writes JSON, page and confusion picture."""
    from langadapt.data.write_text import write_text
    from langadapt.evaluation.classification import evaluate_classification
    from langadapt.evaluation.classification_report import classification_json, classification_report
    from langadapt.evaluation.confusion import save_confusion
    from langadapt.evaluation.page import Page, write_page
    from langadapt.evaluation.summary import run_facts
    from langadapt.models import load
    from langadapt.models.device import chosen_device
    from langadapt.progress import Progress

    model = load(run, device=chosen_device(device))
    recipe = model.artifact.recipe
    data = classification_set(source, classes, language=recipe.code)
    with progress_report() as report:
        card = evaluate_classification(
            data,
            model,
            progress=lambda done, total: report(Progress(stage="images", done=done, total=total)),
        )
    text = classification_json([card])
    folder = Path(run)
    if folder.is_dir():
        write_text(folder / "classification.json", text)
        save_confusion(folder / "confusion.svg", card.rows[0][1].confusion, card.classes)
    target = page or (folder / "classification.html" if folder.is_dir() else None)
    if target is not None:
        facts = run_facts(model.artifact, folder)
        title = f"{recipe.name} classes for {Path(model.artifact.teacher.repo).name}"
        write_page(target, Page(title=title, classifications=[card], facts=facts))
        console.print(f"report page: {shown(target)}")
    if json_file is not None and str(json_file) == "-":
        typer.echo(text)
        return
    print_result(classification_report([card]))
    if json_file is not None:
        write_text(json_file, text)


def classification_set(source: str, classes: Path | None, *, language: str) -> "ClassificationSet":
    """The set that `--classify` names: a folder, or a classification recipe by name or path."""
    from langadapt.data.classification import classification_from_folder, load_classification

    if Path(source).is_dir() or classes is not None:
        return classification_from_folder(Path(source), classes, language=language)
    return load_classification(data_recipe(ClassificationRecipe, source), language=language)
