"""`langadapt eval`."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from langadapt.cli.options import Device, RunName
from langadapt.cli.progress import console, print_result, progress_report, shown
from langadapt.errors import DataError, MissingDataError, RecipeError
from langadapt.recipes import LanguageRecipe, RetrievalRecipe, data_recipe

if TYPE_CHECKING:
    from langadapt.data.retrieval import RetrievalSet
    from langadapt.evaluation.cards import ScoreCard
    from langadapt.models import LanguageModel
    from langadapt.models.translator import Translator

HELP = """Score an adapter on retrieval or, with --classify, on zero-shot classification.

Retrieval: R@1/5/10 both ways, mR3_t2i, mR3_i2t, mR6, interval and signature.

Beside the student stand the ceiling (teacher on the English captions of the same images) and the floor
(teacher on the raw captions). Retention is student / ceiling.

Without --on all test sets of the recipe that are on this machine are scored; for the others it says how to
get them.

Examples:

  langadapt eval runs/zh

  langadapt eval runs/zh --on coco-cn-test --json scores.json

  langadapt eval runs/sw --captions mine.csv --images photos/

  langadapt eval runs/sw --captions dev.tsv --image-free

  langadapt eval runs/sw --translate-with facebook/nllb-200-distilled-600M --source-code swh_Latn

  langadapt eval runs/zh --classify animals/ --classes classes.txt

Classification takes the templates of the language recipe (prompts): top-1, top-5, every class, confusion.
"""


def eval_command(
    run: RunName,
    on: Annotated[
        list[str] | None,
        typer.Option("--on", help="Retrieval recipe, name or path; the recipe's own unless said."),
    ] = None,
    captions: Annotated[
        Path | None, typer.Option("--captions", help="Your own TSV, CSV or JSONL: image, caption, english.")
    ] = None,
    images: Annotated[Path | None, typer.Option("--images", help="Folder of your own images.")] = None,
    image_free: Annotated[
        bool, typer.Option("--image-free", help="Captions against their English sides, without images.")
    ] = False,
    classify: Annotated[
        str | None,
        typer.Option("--classify", metavar="FOLDER", help="Folder of classes, or a classification recipe."),
    ] = None,
    classes: Annotated[
        Path | None,
        typer.Option("--classes", metavar="FILE", help="Class names: .txt, .yaml, or a .json label list."),
    ] = None,
    prompts: Annotated[
        Path | None,
        typer.Option("--prompts", metavar="DIR", help="Learned prompts, beside the templates."),
    ] = None,
    translate_with: Annotated[
        str | None,
        typer.Option(
            "--translate-with", metavar="MODEL", help="Also: translate into English, then the teacher."
        ),
    ] = None,
    source_code: Annotated[
        str | None,
        typer.Option("--source-code", help="The captions' language as that model calls it: swh_Latn."),
    ] = None,
    json_file: Annotated[
        Path | None, typer.Option("--json", metavar="FILE", help="Also write the scores here; - prints them.")
    ] = None,
    page: Annotated[
        Path | None, typer.Option("--html", metavar="FILE", help="Report page; RUN/report.html unless said.")
    ] = None,
    device: Device = None,
) -> None:
    if classify is not None:
        if on or captions or images or image_free or translate_with:
            raise DataError(
                "--classify stands alone: leave out --on, --captions, --images, --image-free and "
                "--translate-with"
            )
        from langadapt.cli.classify import eval_classification

        eval_classification(
            run,
            classify,
            classes=classes,
            prompts=prompts,
            json_file=json_file,
            page=page,
            device=device,
        )
        return
    if classes is not None or prompts is not None:
        raise DataError("--classes and --prompts belong to a classification set: give --classify FOLDER too")
    if captions is None and (images is not None or image_free):
        raise DataError("--images and --image-free describe your own captions: give --captions FILE too")
    if source_code is not None and translate_with is None:
        raise DataError("--source-code belongs to --translate-with MODEL: give that too")
    if captions is not None and on:
        raise DataError("give one of --on and --captions")

    from langadapt.models import load
    from langadapt.models.device import chosen_device

    where = chosen_device(device)
    translator = None
    if translate_with is not None:
        from langadapt.models import resolve_model
        from langadapt.models.translator import load_translator, named_model

        source = resolve_model(named_model(translate_with))
        translator = load_translator(source, source_code=source_code, device=where)
    model = load(run, device=where)
    own = (captions, images, image_free)
    cards = score(model, on or [], own=own, run=run, page=page, translator=translator)

    from langadapt.evaluation.cards import score_json, score_report
    from langadapt.files.atomic import write_text

    text = score_json(cards)
    if json_file is not None and str(json_file) == "-":
        typer.echo(text)
        return
    print_result(score_report(cards))
    if json_file is not None:
        write_text(json_file, text)


def score(
    model: "LanguageModel",
    on: list[str],
    *,
    own: tuple[Path | None, Path | None, bool],
    run: str,
    page: Path | None,
    translator: "Translator | None" = None,
) -> "list[ScoreCard]":
    """Scores a model on several sets and writes the report page; shows progress.

    Where `run` is a folder, its scores.json keeps the newest card of every set that it was scored on.
    """
    from langadapt.errors import Progress
    from langadapt.evaluation.page import Page, example_searches, run_facts, write_page
    from langadapt.evaluation.plots import training_curve
    from langadapt.evaluation.retrieval import evaluate_retrieval
    from langadapt.models.artifact import SCORES

    sets = _sets(model, on, own)
    cards, searches = [], []
    with progress_report() as report:
        for retrieval in sets:

            def images_done(done: int, total: int) -> None:
                report(Progress(stage=f"images of {retrieval.name}", done=done, total=total))  # noqa: B023

            found = evaluate_retrieval(retrieval, model, progress=images_done, translator=translator)
            cards.append(found.card)
            searches += example_searches(retrieval, found)
    folder = Path(run)
    if folder.is_dir():
        _keep_scores(folder / SCORES, cards)
    target = page or (folder / "report.html" if folder.is_dir() else None)
    if target is not None:
        page_content = Page(
            title=f"{model.artifact.recipe.name} for {Path(model.artifact.teacher.repo).name}",
            cards=cards,
            curve=training_curve(folder),
            searches=searches,
            facts=run_facts(model.artifact, folder),
        )
        write_page(target, page_content)
        console.print(f"report page: {shown(target)}")
    return cards


def _keep_scores(path: Path, cards: "list[ScoreCard]") -> None:
    from langadapt.evaluation.cards import ScoreCard, score_json
    from langadapt.files.atomic import write_text

    earlier = json.loads(path.read_text(encoding="utf-8"))["cards"] if path.is_file() else []
    new = {(card.name, card.image_free) for card in cards}
    kept = [ScoreCard.from_dict(card) for card in earlier if (card["name"], card["image_free"]) not in new]
    write_text(path, score_json([*kept, *cards]))


def _sets(
    model: "LanguageModel", on: list[str], own: tuple[Path | None, Path | None, bool]
) -> "list[RetrievalSet]":
    from langadapt.data.retrieval import load_retrieval, retrieval_from_files

    captions, images, image_free = own
    recipe = model.artifact.recipe
    if captions is not None:
        return [retrieval_from_files(captions, images, language=recipe.code, image_free=image_free)]
    if on:
        return [load_retrieval(data_recipe(RetrievalRecipe, name)) for name in on]
    found = own_sets(recipe)
    if not found:
        raise RecipeError(
            f"none of the recipe's {len(recipe.evaluate)} test sets is here: fetch one, or score your own "
            "captions with --captions FILE --images FOLDER"
        )
    return found


def own_sets(recipe: LanguageRecipe) -> "list[RetrievalSet]":
    """The recipe's own test sets that are on this machine; says why the others are not scored."""
    from langadapt.data.retrieval import load_retrieval

    found, missing = [], []
    for name in recipe.evaluate:
        try:
            found.append(load_retrieval(data_recipe(RetrievalRecipe, name)))
        except (MissingDataError, RecipeError) as error:
            missing.append(str(error))
    for line in missing:
        console.print(f"not scored: {line}")
    return found
