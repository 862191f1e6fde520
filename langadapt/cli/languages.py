"""`langadapt languages`: list, show, new, check, schema."""

import json
from collections.abc import Iterable
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.table import Table
from typer import Argument, Option

from langadapt.cli import options as opt
from langadapt.cli.progress import console, print_json, print_result, progress_report, shown
from langadapt.errors import Progress, RecipeError
from langadapt.recipes import DataCard, LanguageRecipe, ParallelRecipe, RetrievalRecipe, dump_recipe
from langadapt.recipes.authoring import Available, available
from langadapt.recipes.data import DATA_KINDS
from langadapt.recipes.find import (
    RecipeFile,
    all_data_recipes,
    data_recipe,
    find_language,
    shipped_languages,
    with_absolute_paths,
)

app = typer.Typer(no_args_is_help=True, add_completion=False, rich_markup_mode="rich")


@app.command("list")
def list_command(
    script: Annotated[str | None, Option(help="ISO 15924 code, e.g. Arab.")] = None,
    tier: Annotated[str | None, Option(help="captions, sentences or scarce.")] = None,
    text_model: Annotated[str | None, Option(help="Part of the text model's name.")] = None,
    images: Annotated[bool, Option("--images", help="Only those with a test set of images.")] = False,
    as_json: opt.AsJson = False,
) -> None:
    """List the shipped languages and what data there is for them.

    Examples:
      langadapt languages list
      langadapt languages list --tier scarce --script Latn
      langadapt languages list --text-model glot500 --json

    Tiers: `captions` have translated captions, `sentences` at least 100,000 counted sentences, `scarce`
    fewer or uncounted ones. Recipes: `checked` have prompts and sources that somebody wrote, `derived`
    follow from lists alone and embed class names bare. Tests: `images`, images whose captions a machine
    `translated`, or `sentences` only. Rows are rounded; --json has them exactly.
    """
    parallel = [file.recipe for file in all_data_recipes(ParallelRecipe)]
    retrieval = [file.recipe for file in all_data_recipes(RetrievalRecipe)]
    recipes = {name: find_language(name).recipe for name in shipped_languages()}
    every = [(name, recipe, available(recipe, parallel, retrieval)) for name, recipe in recipes.items()]
    _check_asked("--script", script, {name for recipe in recipes.values() for name in recipe.scripts})
    _check_asked("--tier", tier, {data.tier for _, _, data in every})
    chosen = [
        (name, recipe, data)
        for name, recipe, data in every
        if (script is None or script in recipe.scripts)
        and (tier is None or data.tier == tier)
        and (text_model is None or text_model.lower() in recipe.text_model.repo.lower())
        and (data.has_images or not images)
    ]
    if as_json:
        print_json([_row(*item) for item in chosen], indent=2)
        return
    table = Table(box=None, padding=(0, 1, 0, 0), pad_edge=False)
    for head in ("code", "name", "text model", "tier", "rows", "tests", "recipe"):
        table.add_column(head, justify="right" if head == "rows" else "left", no_wrap=head != "name")
    for name, recipe, data in chosen:
        model = recipe.text_model.repo.rpartition("/")[2]
        cells = (model, data.tier, _rounded(data.counted_rows), data.tests)
        table.add_row(name, recipe.name, *cells, _looked_at(recipe))
    print_result(table)
    console.print(f"{len(chosen)} of {len(every)} recipes; `langadapt languages list --help` explains tiers")


def _rounded(rows: int) -> str:
    """Thousands or millions: a table of 80 columns has no place for more."""
    return f"{rows / 1e6:.1f} M" if rows >= 999_500 else f"{rows / 1e3:.0f} k" if rows >= 1000 else str(rows)


def _looked_at(recipe: LanguageRecipe) -> str:
    return "checked" if recipe.prompts else "derived"


def _check_asked(flag: str, asked: str | None, known: Iterable[str]) -> None:
    there_are = sorted(known)
    if asked is not None and asked not in there_are:
        raise RecipeError(f"{flag} {asked}: there are {', '.join(there_are)}")


def _row(name: str, recipe: LanguageRecipe, data: Available) -> dict[str, Any]:
    plain = {"code", "name", "native_name", "iso639_3", "scripts", "direction", "evaluate"}
    return {
        "recipe": name,
        **recipe.model_dump(include=plain),
        "text_model": recipe.text_model.repo,
        "data": recipe.distill.data,
        "tier": data.tier,
        "counted_rows": data.counted_rows,
        "parallel": {corpus.name: corpus.expected_rows for corpus in data.parallel},
        "tests": [test.name for test in data.retrieval],
        "has_images": data.has_images,
        "scored_on": data.tests,
        "made": _looked_at(recipe),
    }


@app.command("show")
def show_command(
    name: Annotated[str, Argument(metavar="CODE", help="Code, or path of your own recipe.")],
    as_json: opt.AsJson = False,
) -> None:
    """Print one recipe with all its values.

    Example:
      langadapt languages show sw
    """
    recipe = find_language(name).recipe
    typer.echo(recipe.model_dump_json(indent=2) if as_json else dump_recipe(recipe), nl=as_json)


@app.command("new")
def new_command(
    name: Annotated[str, Argument(metavar="CODE", help="ISO 639-1, else ISO 639-3; zh-mine is a variant.")],
    out: Annotated[Path, opt.new_folder("Folder to write into.")] = Path(),
) -> None:
    """Start a language recipe: a commented file to fill in, and one for its sentences.

    Examples:
      langadapt languages new tig
      langadapt languages new tig --out my/

    For a shipped language the file is a copy of its recipe. Several recipes of one language may lie in one
    folder: `zh.yaml` and `zh-mine.yaml`, both with `code: zh`.
    """
    from langadapt.recipes.authoring import new_recipe_texts

    texts = new_recipe_texts(name)
    paths = {out / file_name: text for file_name, text in texts.items()}
    for path in paths:
        if path.exists():
            raise RecipeError(f"{path} is there already and stays; give another folder with --out")

    from langadapt.files.atomic import write_text

    for path, text in paths.items():
        write_text(path, text)
    console.print(f"wrote {', '.join(map(shown, paths))}")
    console.print(f"next: fill in what is empty, then langadapt languages check {shown(out / name)}.yaml")


@app.command("schema")
def schema_command(
    kind: Annotated[str | None, Option(help="language, parallel, pairs, retrieval, classification.")] = None,
    out: Annotated[Path | None, opt.new_folder("Folder to write all of them into.")] = None,
) -> None:
    """Write the JSON Schemas of all recipes, for editors that complete and check YAML.

    Examples:
      langadapt languages schema --out schemas/
      langadapt languages schema --kind language > language.schema.json

    In an editor with the YAML language server, begin a recipe with

      # yaml-language-server: $schema=schemas/language.schema.json
    """
    from langadapt.recipes.authoring import KINDS, recipe_schema

    if (kind is None) == (out is None):
        raise RecipeError("give one of --kind, to print a schema, and --out, to write all into a folder")
    _check_asked("--kind", kind, KINDS)
    if kind is not None:
        print_json(recipe_schema(kind), indent=2)
        return

    from langadapt.files.atomic import write_text

    folder = out or Path()
    for name in KINDS:
        write_text(folder / f"{name}.schema.json", json.dumps(recipe_schema(name), indent=2) + "\n")
    console.print(f"{len(KINDS)} schemas in {shown(folder)}")


@app.command("check")
def check_command(
    names: Annotated[list[str] | None, Argument(metavar="[CODE]...", help="Codes or your own paths.")] = None,
    as_json: opt.AsJson = False,
) -> None:
    """Compare recipes with the Hub: ids, revisions, configs, splits, columns, rows and licences.

    Examples:
      langadapt languages check
      langadapt languages check sw my/sn.yaml --json

    Without a code: all shipped languages and all shipped data recipes. It reports wrong facts, and where
    `unverified: true` may be removed. Facts about data elsewhere stay open. Exit code 0 if nothing is wrong,
    1 if something is, 2 if the Hub cannot be reached.
    """
    languages = [find_language(name) for name in names or shipped_languages()]
    shipped = [file for schema in DATA_KINDS.values() for file in all_data_recipes(schema)]
    data = _data_of(languages) if names else shipped

    from huggingface_hub import HfApi

    from langadapt.hub.check import Checked, check_data, check_language, hub_lookup

    look = hub_lookup(HfApi())
    checks = [partial(check_language, language, look) for language in languages]
    checks += [partial(check_data, card, look) for card in data]
    checked: list[Checked] = []
    with progress_report() as report:
        for number, check in enumerate(checks, start=1):
            checked += check()
            report(Progress(stage="recipes", done=number, total=len(checks)))

    if as_json:
        print_json([{**asdict(item), "mark_can_go": item.mark_can_go} for item in checked], indent=2)
    for item in checked:
        for fact in item.wrong:
            console.print(f"{shown(item.path)}: {item.name}: {fact.key}: says {fact.says}; {fact.hub}")
        if item.mark_can_go:
            console.print(f"{shown(item.path)}: {item.name}: confirmed; `unverified: true` may be removed")
    wrong = sum(bool(item.wrong) for item in checked)
    confirmed = sum(item.confirmed for item in checked)
    console.print(
        f"{confirmed} confirmed, {wrong} wrong, {len(checked) - confirmed - wrong} open (not on the Hub, or "
        "it does not say); --json lists every fact"
    )
    if wrong:
        raise typer.Exit(1)


def _data_of(languages: list[RecipeFile[LanguageRecipe]]) -> list[RecipeFile[DataCard]]:
    asked: dict[tuple[type[DataCard], str], RecipeFile[DataCard]] = {}
    for recipe in map(with_absolute_paths, languages):
        for name in recipe.distill.data:
            asked[ParallelRecipe, name] = data_recipe(ParallelRecipe, name)
        for name in recipe.evaluate:
            asked[RetrievalRecipe, name] = data_recipe(RetrievalRecipe, name)
    return list(asked.values())
