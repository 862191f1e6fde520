"""`langadapt classify`, and what `langadapt eval --classify` does."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text
from typer import Argument, Option

from langadapt.cli import options as opt
from langadapt.cli.progress import (
    console,
    loaded_model,
    print_json,
    print_result,
    print_scores,
    progress_report,
    shown,
    write_report,
)
from langadapt.errors import DataError
from langadapt.files.paths import real_path
from langadapt.recipes import ClassificationRecipe, data_recipe, override
from langadapt.recipes.find import RecipeFile

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

    from langadapt.data.classification import ClassificationSet
    from langadapt.data.images import ImageFile
    from langadapt.evaluation.classification import ClassificationCard, LearnedScorer
    from langadapt.models import LanguageModel
    from langadapt.training.few_shot_run import FewShotReport


def classify_command(
    images: Annotated[list[Path], Argument(metavar="IMAGES...", help="Images, or folders with subfolders.")],
    prompts: opt.PromptFolder = None,
    model: Annotated[str | None, Option(help="Run folder; by default the prompts' own.")] = None,
    classes: opt.ClassNames = None,
    top: Annotated[int, Option(min=1, help="Classes shown per image.")] = 3,
    as_json: opt.AsJson = False,
    device: opt.Device = None,
) -> None:
    """Classify images, with learned prompts or with templates.

    Examples:
      langadapt classify photos/ --prompts prompts/birds
      langadapt classify photo.jpg --model runs/zh --classes classes.txt --json
    """
    if (prompts is None) == (classes is None):
        raise DataError("say which classes there are: one of --prompts DIR and --classes FILE")
    if prompts is None and model is None:
        raise DataError("--classes needs a language model: give --model RUN too")

    from langadapt.data.images import list_images
    from langadapt.models.prompts_artifact import read_facts

    files = [file for item in images for file in (list_images(item) if item.is_dir() else [item])]
    run = model or read_facts(prompts).run if prompts else model
    assert run is not None
    loaded = loaded_model(run, device)
    names, scores = _class_scores(loaded, files, prompts, classes)
    best = scores.topk(min(top, len(names)), dim=1)
    answers = [
        [(names[c], score) for score, c in zip(*row, strict=True)]
        for row in zip(best.values.tolist(), best.indices.tolist(), strict=True)
    ]
    if as_json:
        found = [
            {"path": file, "classes": [{"name": name, "score": round(score, 4)} for name, score in row]}
            for file, row in zip(files, answers, strict=True)
        ]
        print_json(found, indent=2)
        return
    table = Table(box=None, padding=(0, 1, 0, 0), pad_edge=False)
    for head in ("image", "class", "score"):
        table.add_column(head, overflow="fold")
    for file, row in zip(files, answers, strict=True):
        for rank, (name, score) in enumerate(row):
            table.add_row(Text("" if rank else str(file)), Text(name), f"{score:.3f}")
    print_result(table)


def _class_scores(
    model: "LanguageModel", files: list[Path], prompts: Path | None, classes: Path | None
) -> "tuple[list[str], Tensor]":
    """Class names and cosines `[images, classes]`."""
    from langadapt.data.classification import read_class_names
    from langadapt.models.caches import stored_images
    from langadapt.models.prompts import class_embeddings
    from langadapt.models.prompts_artifact import read_facts

    if prompts is not None:
        return read_facts(prompts).labels, _prompt_scores(prompts, model, files)
    assert classes is not None
    named, templates = read_class_names(classes), model.artifact.recipe.templates
    rows = class_embeddings([item.names for item in named], templates, model.encode_text)
    return [item.shown for item in named], stored_images(model.teacher, files) @ rows.T


def _prompt_scores(folder: Path, model: "LanguageModel", files: "Sequence[ImageFile]") -> "Tensor":
    """Cosines `[images, classes]` of learned prompts."""
    from langadapt.models.caches import stored_images, stored_patches
    from langadapt.models.prompts_artifact import load_prompts

    classifier = load_prompts(folder, model)
    patches = stored_patches(model.teacher, files) if classifier.sees_images else None
    return classifier.scores(stored_images(model.teacher, files), patches)


def _learned_scorer(folder: Path, data: "ClassificationSet", model: "LanguageModel") -> "LearnedScorer":
    """Learned prompts as a row of an evaluation; refuse those of other classes."""
    import torch

    from langadapt.evaluation.classification import LearnedScorer
    from langadapt.files.store import fingerprint
    from langadapt.models.prompts_artifact import read_facts

    facts = read_facts(folder)
    index = {item.folder: number for number, item in enumerate(facts.classes)}
    unknown = [item.folder for item in data.classes if item.folder not in index]
    if unknown:
        raise DataError(f"{folder}: was not learned for class '{unknown[0]}'; it knows {', '.join(index)}")
    columns = torch.tensor([index[item.folder] for item in data.classes])

    def scores(images: "ClassificationSet") -> "Tensor":
        return _prompt_scores(folder, model, images.images)[:, columns]

    digest = fingerprint((folder / "prompts.safetensors").read_bytes())[:8]
    return LearnedScorer(name="learned prompts", prompts=f"learned@{digest}", scores=scores)


def eval_classification(
    run: str,
    source: str,
    *,
    classes: Path | None,
    prompts: Path | None,
    json_file: Path | None,
    page: Path | None,
    as_json: bool,
    signatures: bool,
    device: str | None,
) -> "ClassificationCard":
    """Score a model on a classification set: print the table, write JSON, page and confusion matrix."""
    from langadapt.data.classification import classification_from_folder, load_classification
    from langadapt.errors import counted
    from langadapt.evaluation.classification import classification_json, evaluate_classification
    from langadapt.evaluation.page import Page, page_title, run_facts
    from langadapt.evaluation.plots import confusion_svg
    from langadapt.evaluation.tables import to_terminal
    from langadapt.files.atomic import write_text

    model = loaded_model(run, device)
    recipe = model.artifact.recipe
    if Path(source).is_dir() or classes is not None:
        data = classification_from_folder(Path(source), classes, language=recipe.code)
    else:
        data = load_classification(data_recipe(ClassificationRecipe, source), language=recipe.code)
    learned = [_learned_scorer(prompts, data, model)] if prompts else []
    with progress_report() as report:
        progress = counted(report, "images")
        card = evaluate_classification(data, model, learned=learned, progress=progress)
    text = classification_json([card])
    folder = Path(run)
    if (folder / "artifact.json").is_file():
        write_text(folder / "classification.json", text)
        confusion = confusion_svg(card.rows[0][1].confusion, card.classes, alone=True)
        write_text(folder / "confusion.svg", confusion)
    title = page_title(model.artifact, [f"classes of {data.name}"])
    content = Page(title=title, classifications=[card], facts=run_facts(model.artifact, folder))
    write_report(content, run, page, name="classification.html")
    tables = to_terminal([card.table(), card.class_table(most=30)], signatures=signatures)
    print_scores(Group(tables, Text(card.sentence, "bold")), text, as_json, json_file)
    named = f"--prompts {prompts}" if prompts else f"--model {run} --classes {classes or 'CLASSES.txt'}"
    console.print(f"next: langadapt classify PHOTOS {named}")
    return card


def prompts_command(
    model: opt.ModelName,
    images: Annotated[Path, Option(help="Folder with one folder of images per class.")],
    classes: opt.ClassNames = None,
    shots: Annotated[int, Option(min=1, help="Images of each class to learn from.")] = 16,
    out: Annotated[Path | None, opt.own_folder("Folder for the prompts; prompts/IMAGES by default.")] = None,
    tower: Annotated[
        Literal["student", "teacher"], Option(help="Text tower; the teacher's takes English names.")
    ] = "student",
    settings: opt.Settings = None,
    baselines: Annotated[bool, Option("--baselines/--no-baselines", help="Compare other methods.")] = True,
    novel: Annotated[bool, Option("--novel", help="Learn half of the classes; score both halves.")] = False,
    as_json: opt.AsJson = False,
    json_file: opt.JsonFile = None,
    device: opt.Device = None,
) -> None:
    """Learn prompts from a few images of each class: general, domain and instance context.

    Only a few KB of prompt train; `langadapt classify` uses them. The table compares it with zero-shot
    templates, a linear probe, Tip-Adapter, CoOp and the instance context alone, on the same shots.

    Examples:
      langadapt prompts --shots 16 --images birds/ --classes birds.txt \\
          --model runs/zh --out prompts/birds
      langadapt prompts --shots 4 --images birds/ --model runs/zh \\
          --set few_shot.instance=false --novel

    Images lie in one folder per class. With train/ and test/ inside, shots come from train/ and scores from
    test/; else a third of each class is held out for the scores. The number of steps is fixed: no image
    chooses between checkpoints. The recipe's few_shot section selects the contexts.
    """
    folder = out or Path("prompts") / real_path(images).name
    if (folder / "prompts.json").is_file() and (folder / "scores.json").is_file():
        raise DataError(f"{folder} holds learned prompts; choose another --out or remove it")

    from dataclasses import replace

    from langadapt.files.atomic import alone, remove_old, removed_if_refused, write_text
    from langadapt.training.few_shot_run import FewShotRun, run_few_shot

    loaded = loaded_model(model, device)
    found = RecipeFile(recipe=loaded.artifact.recipe, path=Path(model) / "recipe.yaml", shipped=False)
    loaded.artifact = replace(loaded.artifact, recipe=override(found, settings or []).recipe)
    run = FewShotRun(
        folder=images,
        classes=classes,
        shots=shots,
        out=folder,
        tower=tower,
        model=model,
        baselines=baselines,
        novel=novel,
    )
    refusal = f"{folder}: another process learns prompts there; wait for it, or choose another --out"
    tidy = removed_if_refused(folder, unless=folder / "prompts.json")
    with tidy, alone(folder / ".lock", refusal), progress_report() as report:
        remove_old(folder, seconds=0)
        result = run_few_shot(loaded, run, report=report)
        text = json.dumps(result.to_dict(), indent=2, ensure_ascii=False)
        write_text(folder / "scores.json", text)
    print_scores(_table(result), text, as_json, json_file)
    size = (folder / "prompts.safetensors").stat().st_size / 1e3
    console.print(f"prompts in {shown(folder)} ({size:.1f} KB)")
    console.print(f"next: langadapt classify PHOTOS --prompts {shown(folder)}")


def _table(result: "FewShotReport") -> RenderableType:
    from langadapt.evaluation.tables import Column, Row, ScoreTable, to_terminal

    columns = [Column(name=name, group=part) for part in result.parts for name in ("top-1", "95 %")]
    rows = []
    for row in result.rows:
        cells: list[str] = []
        for part in result.parts:
            scores = row.scores.get(part)
            cells += [f"{scores.top1:.1f}", str(scores.interval)] if scores else ["–", ""]
        rows.append(Row(name=row.name, cells=(*cells, f"{row.seconds:.1f}")))
    table = ScoreTable(
        unit="percent",
        columns=(*columns, Column(name="seconds")),
        rows=tuple(rows),
        title=result.name,
        pool=f"{result.shots} shots",
    )
    return to_terminal([table])
