"""`langadapt data`: build, check, fetch; `translate` has its own module."""

import os
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer
from rich.table import Table
from typer import Argument, Option

from langadapt.cli import options as opt
from langadapt.cli import translate
from langadapt.cli.distill import chosen_recipe
from langadapt.cli.progress import console, print_json, print_result, progress_report, shown
from langadapt.errors import DataError, MissingDataError, RecipeError
from langadapt.files.paths import real_path, user_path
from langadapt.recipes import LanguageRecipe, PairsRecipe, ParallelRecipe, RetrievalRecipe
from langadapt.recipes.find import RecipeFile, data_recipe, find_language, with_absolute_paths

if TYPE_CHECKING:
    from langadapt.cleaning.chunks import Source
    from langadapt.cleaning.rules import BuildReport


def build_command(
    corpora: Annotated[
        list[str] | None,
        Argument(metavar="CORPUS", help="Parallel data recipes; by default all of the language."),
    ] = None,
    lang: Annotated[str, Option(help="Language: a shipped code or a recipe's path.")] = "",
    out: Annotated[Path | None, opt.own_folder("Folder of the result.")] = None,
    weights: Annotated[
        list[str] | None,
        Option("--weight", metavar="NAME=W", help="Share of a corpus to keep; 2 writes it twice."),
    ] = None,
    against: Annotated[list[str] | None, Option(help="Test sets; by default the language's own.")] = None,
    keep_contaminated: Annotated[
        bool, Option("--keep-contaminated", help="Keep test captions; every later score says so.")
    ] = False,
    off: Annotated[list[str] | None, Option(metavar="RULE", help="Turn a rule off.")] = None,
    near_share: Annotated[
        float, Option("--near", help="Share of words in which near duplicates differ; 0 keeps them.")
    ] = 0.15,
    drop_swapped: Annotated[bool, Option("--drop-swapped", help="Drop rows with swapped sides.")] = False,
    agreement: Annotated[str | None, Option(metavar="MODEL", help="Text encoder that scores pairs.")] = None,
    least_agreement: Annotated[float, Option(min=-1, max=1, help="Lowest cosine of the two sides.")] = 0.5,
    workers: Annotated[int | None, Option(min=1, help="Processes; by default one per core.")] = None,
    as_json: opt.AsJson = False,
) -> None:
    """Clean parallel sentences and check them for test captions.

    The folder OUT gets pairs.parquet (with source, licence and row of each pair), a recipe to train on,
    report.json and report.md. To resume an interrupted build, repeat the command.

    Examples:
      langadapt data build --lang sw --out data/sw-clean
      langadapt data build mafand-en-sw my/news.yaml --lang sw --weight news=0.5

    Then put ./data/sw-clean/sw-clean.yaml under distill.data of your language recipe.
    """
    if not lang:
        raise RecipeError("give --lang CODE; `langadapt languages list` shows the codes, your own is a path")
    language = chosen_recipe(lang, None)
    folder = out or Path("data") / f"{language.recipe.code}-clean"

    from langadapt.cleaning.build import BuildPlan, build_parallel
    from langadapt.cleaning.contamination import captions_of, test_captions
    from langadapt.cleaning.rules import CleaningRules
    from langadapt.models.translator import load_agreement

    sources = _sources(language, corpora or [], weights or [])
    rules = CleaningRules(
        near_share=near_share,
        swapped="drop" if drop_swapped else "exchange",
        keep_contaminated=keep_contaminated,
        least_agreement=least_agreement,
        off=tuple(off or ()),
    )
    named = [data_recipe(RetrievalRecipe, name) for name in against or []]
    tests, missing = [side for recipe in named for side in captions_of(recipe)], list[str]()
    if not named:
        tests, missing = test_captions(language)
    for line in missing:
        console.print(f"contamination not checked: {line}")
    plan = BuildPlan(
        sources=sources,
        language=language.recipe.code,
        codes=(language.recipe.code, language.recipe.iso639_3),
        scripts=language.recipe.scripts,
        rules=rules,
        tests=tests or None,
        missing_tests=tuple(missing),
        agreement=None if agreement is None else load_agreement(agreement),
        agreement_name=agreement or "",
        workers=workers or os.cpu_count() or 1,
    )
    with progress_report() as report:
        result = build_parallel(plan, folder, report)
    if as_json:
        print_json(asdict(result))
        return
    _print(result)
    console.print(f"report: {shown(folder / 'report.md')}")
    console.print(f"next: put {shown(folder / (real_path(folder).name + '.yaml'))} under distill.data")


def _sources(language: RecipeFile[LanguageRecipe], named: list[str], weights: list[str]) -> "list[Source]":
    from langadapt.cleaning.chunks import Source

    weight_of = {}
    for setting in weights:
        name, _, value = setting.partition("=")
        try:
            weight_of[name] = float(value)
        except ValueError as error:
            raise RecipeError(f"--weight {setting}: expected NAME=NUMBER, for example news=0.5") from error
    own = with_absolute_paths(language).distill.data
    found = [data_recipe(ParallelRecipe, name) for name in named or own]
    recipe, names = language.recipe, [item.recipe.name for item in found]
    for item in found:
        name = item.recipe.name
        if item.recipe.language not in (recipe.code, recipe.iso639_3):
            raise RecipeError(f"{name} is in '{item.recipe.language}', --lang is '{recipe.code}'")
        if names.count(name) > 1:
            raise RecipeError(f"{name}: the corpus is named twice; name it once and use --weight {name}=2")
    for name in sorted(set(weight_of) - set(names)):
        raise RecipeError(f"--weight {name}: no such corpus here; there are: {', '.join(names)}")
    return [Source(found=item, weight=weight_of.get(item.recipe.name, 1.0)) for item in found]


def _print(result: "BuildReport") -> None:
    from langadapt.cleaning.rules import contamination_lines

    table = Table("rule", "rows", "%", "", box=None)
    for name, count, percent, text in result.lines():
        table.add_row(name, count, percent, text, style="dim" if count in ("0", "off") else None)
    print_result(table)
    print_result(result.summary())
    for line in (*contamination_lines(result.contamination), *result.notes):
        print_result(line)


def check_command(
    pairs: Annotated[str, Argument(metavar="PAIRS", help="Table, tar shard or pair recipe.")],
    images: opt.TableImages = None,
    against: Annotated[list[str] | None, Option(metavar="SET", help="Test set by name or path.")] = None,
    as_json: opt.AsJson = False,
) -> None:
    """Open the images of a set of pairs and list those that cannot be read.

    With --against it also lists copies of test images (`tune` leaves those out). The exit code is 2 if an
    image cannot be read.

    Examples:
      langadapt data check captions.jsonl --images photos/
      langadapt data check captions.jsonl --against crossmodal-3600-sw
      langadapt data check shard-0.tar --json
    """
    if not user_path(pairs).is_file():
        data_recipe(PairsRecipe, pairs)

    from langadapt.cleaning.contamination import leaks
    from langadapt.data.images import broken_images
    from langadapt.data.pairs import load_pairs
    from langadapt.data.retrieval import load_retrieval
    from langadapt.errors import counted

    tests = [load_retrieval(data_recipe(RetrievalRecipe, name)) for name in against or []]
    found = load_pairs(pairs, images=images)
    with progress_report() as report:
        leaked = leaks(found, tests, report)
        broken = broken_images(found.images, progress=counted(report, "images"))
    copies = len(found.images) - len(set(found.image_digests))
    repeated = len(found.texts) - len(set(found.texts))
    facts: dict[str, Any] = {
        "images": len(found.images),
        "captions": len(found.texts),
        "copies_of_images": copies,
        "repeated_captions": repeated,
        "english_sides": found.english is not None,
        "broken": [item.reason for item in broken],
        "test_images": {str(found.images[number]): test for number, test in leaked.items()},
    }
    if as_json:
        print_json(facts, indent=2)
    else:
        for item in broken:
            typer.echo(item.reason)
        for own, theirs in facts["test_images"].items():
            typer.echo(f"{own}: is the test image {theirs}")
        console.print(
            f"{found.name}: {len(found.images):,} images, {len(found.texts):,} captions; {copies:,} images "
            f"are copies, {repeated:,} captions repeat"
        )
    if broken:
        raise DataError(f"{found.name}: {len(broken)} of {len(found.images)} images cannot be read")


def fetch_command(
    lang: Annotated[str, Option(help="Language: a shipped code or a recipe's path.")],
    only: Annotated[Literal["train", "eval"] | None, Option(help="Corpora or test sets, else both.")] = None,
) -> None:
    """Download a language's corpora and test sets ahead, to train and score without a network later.

    What is here already is not fetched again; an interrupted download goes on. What must be requested
    is named.

    Examples:
      langadapt data fetch --lang sw
      langadapt data fetch --lang sw --only eval
    """
    from langadapt.data.parallel import parallel_rows
    from langadapt.data.retrieval import load_retrieval

    language = with_absolute_paths(find_language(lang))
    files: list[RecipeFile[Any]] = []
    if only != "eval":
        files += [data_recipe(ParallelRecipe, name) for name in language.distill.data]
    if only != "train":
        files += [data_recipe(RetrievalRecipe, name) for name in language.evaluate]
    missing = 0
    for file in files:
        try:
            if isinstance(file.recipe, RetrievalRecipe):
                load_retrieval(file)
            else:
                next(iter(parallel_rows(file)))
            console.print(f"here: {file.recipe.name}")
        except MissingDataError as error:
            missing += 1
            console.print(f"not here: {error}")
    if missing == len(files):
        raise DataError(f"{language.code}: none of {missing} could be fetched")


app = typer.Typer(no_args_is_help=True, add_completion=False, rich_markup_mode="rich")
app.callback()(lambda: None)
app.command("build")(build_command)
app.command("check")(check_command)
app.command("fetch")(fetch_command)
app.command("translate")(translate.translate_command)
