"""`langadapt eval`."""

import json
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from typer import Argument, Option

from langadapt.cli import options as opt
from langadapt.cli.progress import console, print_scores, progress_report, write_report
from langadapt.errors import DataError, MissingDataError, RecipeError
from langadapt.files.paths import real_path
from langadapt.recipes import LanguageRecipe, RetrievalRecipe, data_recipe, find_language, with_absolute_paths

if TYPE_CHECKING:
    from collections.abc import Sequence

    from langadapt.data.retrieval import RetrievalSet
    from langadapt.evaluation.retrieval import Evaluation
    from langadapt.models import LanguageModel
    from langadapt.models.translator import Translator


def eval_command(
    run: opt.RunName,
    on: Annotated[list[str] | None, Option(help="Retrieval recipe; by default the recipe's own.")] = None,
    lang: Annotated[str | None, Option(help="Score one language of several, or another.")] = None,
    captions: Annotated[
        Path | None, Option(help="Your table: images and captions; --image-free: English and captions.")
    ] = None,
    images: Annotated[Path | None, Option(help="Folder of your images.")] = None,
    columns: opt.Columns = None,
    image_free: Annotated[bool, Option("--image-free", help="Captions against English sides.")] = False,
    classify: Annotated[str | None, Option(metavar="FOLDER", help="Folder of classes, or a recipe.")] = None,
    classes: opt.ClassNames = None,
    prompts: opt.PromptFolder = None,
    translate_with: Annotated[str | None, Option(metavar="MODEL", help="Also score translations.")] = None,
    source_code: Annotated[str | None, Option(help="The captions' language in that model: swh_Latn.")] = None,
    signatures: opt.Signatures = False,
    as_json: opt.AsJson = False,
    json_file: opt.JsonFile = None,
    page: Annotated[Path | None, opt.new_file("--html", "Report page; RUN/report.html by default.")] = None,
    device: opt.Device = None,
) -> None:
    """Score a model on retrieval or, with --classify, on zero-shot classification.

    Retrieval: recall@1, 5 and 10 in both directions, their means, interval and signature.

    The student is compared with the ceiling (the teacher on the English captions of the same images) and the
    floor (the teacher on the raw captions; a dual encoder is its own). Retention is student / ceiling.

    Without --on, all test sets of the recipe that are here are scored, and how to get the others is printed;
    with --lang those of that language: of a run of several languages, or any that the text model knows.

    Examples:
      langadapt eval runs/zh
      langadapt eval runs/zh --on coco-cn-test --json-file scores.json
      langadapt eval runs/universal --lang sw
      langadapt eval runs/sw --captions mine.csv --images photos/
      langadapt eval runs/sw --captions dev.tsv --image-free
      langadapt eval runs/sw --translate-with models/nllb --source-code swh_Latn
      langadapt eval runs/zh --classify animals/ --classes classes.txt

    Classification uses the templates of the recipe (prompts): top-1, top-5, recall of each class, confusion.
    """
    if classify is not None:
        if on or lang or captions or images or image_free or translate_with:
            others = "--on, --lang, --captions, --images, --image-free and --translate-with"
            raise DataError(f"--classify stands alone: leave out {others}")
        from langadapt.cli.classify import eval_classification

        files = {"classes": classes, "prompts": prompts, "json_file": json_file, "page": page}
        shown = {"as_json": as_json, "signatures": signatures, "device": device}
        eval_classification(run, classify, **files, **shown)  # type: ignore[arg-type]
        return
    if classes or prompts:
        raise DataError("--classes and --prompts belong to a classification set: give --classify FOLDER too")
    _check_captions(captions, on, described=images is not None or image_free or bool(columns))
    if source_code is not None and translate_with is None:
        raise DataError("--source-code belongs to --translate-with MODEL: give that too")

    from langadapt.data.retrieval import own_captions
    from langadapt.evaluation.retrieval import score_json, score_report
    from langadapt.models import load, resolve_model
    from langadapt.models.load import chosen_device
    from langadapt.models.translator import load_translator, named_model

    where, translator = chosen_device(device), None
    if translate_with is not None:
        translator = load_translator(
            resolve_model(named_model(translate_with)), source_code=source_code, device=where
        )
    model = load(run, device=where)
    recipe = model.artifact.recipe if lang is None else in_language(model.artifact.recipe, lang)
    if captions is not None:
        sets = [own_captions(recipe, captions, images, opt.parsed_columns(columns), image_free=image_free)]
    else:
        sets = _named_sets(recipe, on or [])
    evaluations = score(model, sets, run=run, page=page, translator=translator)
    cards = [evaluation.card for evaluation in evaluations]
    print_scores(score_report(cards, signatures=signatures), score_json(cards), as_json, json_file)
    for query in recipe.examples[:1]:
        console.print(f'next: langadapt search {images or "PHOTOS"} "{query}" --model {run}')


def _check_captions(captions: Path | None, on: list[str] | None, *, described: bool) -> None:
    if captions is None and described:
        raise DataError("--images, --image-free and --column describe captions: give --captions FILE too")
    if captions is not None and not captions.is_file():
        raise DataError(f"--captions {captions}: no such file")
    if captions is not None and on:
        raise DataError("give one of --on and --captions")


def in_language(recipe: LanguageRecipe, lang: str) -> LanguageRecipe:
    """Return the recipe as that of one of its languages, or of another one, with the test sets of that."""
    sets = [(name, data_recipe(RetrievalRecipe, name).recipe.language) for name in recipe.evaluate]
    codes = recipe.codes
    lang = codes.get(lang, lang)
    own = tuple(name for name, language in sets if codes.get(language, language) == lang)
    if not own and lang not in codes:
        own = with_absolute_paths(find_language(lang)).evaluate
    return recipe.model_copy(update={"code": lang, "evaluate": own})


def _named_sets(recipe: LanguageRecipe, names: list[str]) -> "list[RetrievalSet]":
    from langadapt.data.retrieval import load_retrieval

    sets = [load_retrieval(data_recipe(RetrievalRecipe, name)) for name in names] or available_sets(recipe)
    if not sets:
        raise RecipeError(
            f"none of the {len(recipe.evaluate)} test sets of '{recipe.code}' is here: fetch one, or score "
            "your own captions with --captions FILE --images FOLDER"
        )
    return sets


def score(
    model: "LanguageModel",
    sets: "Sequence[RetrievalSet]",
    *,
    run: str,
    page: Path | None = None,
    translator: "Translator | None" = None,
) -> "list[Evaluation]":
    """Score a model on some sets, with a progress bar, and write the report page.

    Where `run` is a folder, its scores.json keeps the newest card of every set that it was scored on, and the
    page is its report.html unless `page` says otherwise.
    """
    from langadapt.evaluation.page import Page, example_searches, page_title, run_facts, training_summary
    from langadapt.evaluation.plots import training_curve
    from langadapt.evaluation.retrieval import evaluate_retrieval, keep_scores
    from langadapt.models.artifact import FACTS, SCORES

    with progress_report() as report:
        scored = partial(evaluate_retrieval, model=model, report=report, translator=translator)
        evaluations = list(map(scored, sets))
    cards = [evaluation.card for evaluation in evaluations]
    folder = Path(run)
    if (folder / FACTS).is_file():
        keep_scores(folder / SCORES, cards, report=lambda progress: console.print(progress.stage))
    searches = [search for pair in zip(sets, evaluations, strict=True) for search in example_searches(*pair)]
    content = Page(
        title=page_title(model.artifact, [item.title or item.name for item in sets]),
        summary=training_summary(model.artifact),
        cards=cards,
        curve=training_curve(folder),
        searches=searches,
        facts=run_facts(model.artifact, folder),
    )
    write_report(content, run, page, name="report.html")
    return evaluations


def available_sets(recipe: LanguageRecipe) -> "list[RetrievalSet]":
    """Load the recipe's test sets that are on this machine; print why the others are not scored."""
    from langadapt.data.retrieval import load_retrieval

    available = []
    for name in recipe.evaluate:
        try:
            available.append(load_retrieval(data_recipe(RetrievalRecipe, name)))
        except (MissingDataError, RecipeError) as error:
            console.print(f"not scored: {error}")
    return available


def compare_command(
    runs: Annotated[list[Path], Argument(metavar="RUN...", help="Scored runs; the first is the base.")],
    signatures: opt.Signatures = False,
    as_json: opt.AsJson = False,
    json_file: opt.JsonFile = None,
    page: Annotated[Path | None, opt.new_file("--html", "Also write a page.")] = None,
) -> None:
    """Compare scored runs: scores, gains over the first run with intervals over the same images, cost.

    Examples:
      langadapt compare runs/zh runs/zh-e5
      langadapt compare runs/* --html compare.html
    """
    for run in runs:
        opt.existing(str(run))
    if len({real_path(run) for run in runs}) < 2:
        raise DataError("give two runs or more; the first is what the others are compared with")

    from langadapt.evaluation.compare import compare_runs, comparison_facts, comparison_tables
    from langadapt.evaluation.page import Page, write_page
    from langadapt.evaluation.tables import to_terminal

    compared = compare_runs(runs)
    tables = list(comparison_tables(compared))
    print_scores(
        to_terminal(tables, signatures=signatures), json.dumps(comparison_facts(compared)), as_json, json_file
    )
    if page is not None:
        write_page(page, Page(title="Runs compared", tables=tables))
        console.print(f"page: {page}")
