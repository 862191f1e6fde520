"""`langadapt languages check`."""

import json
from dataclasses import asdict
from typing import Annotated, Any

import typer

from langadapt.cli.progress import console, progress_report, shown
from langadapt.progress import Progress
from langadapt.recipes import (
    ClassificationRecipe,
    DataCard,
    PairsRecipe,
    ParallelRecipe,
    RetrievalRecipe,
    all_data_recipes,
    data_recipe,
    find_language,
    language_codes,
)
from langadapt.recipes.find import Found

HELP = """Compare recipes with the Hub: ids, revisions, configs, splits, columns, rows and licences.

Examples:

  langadapt languages check

  langadapt languages check sw my/sn.yaml --json

Without a code: all shipped languages and all shipped data recipes. It says which facts are wrong and which
`unverified: true` may be removed. What does not lie on the Hub stays open. Exit code 0: nothing is wrong; 1:
something is; 2: the Hub is out of reach.
"""


def check_command(
    names: Annotated[
        list[str] | None, typer.Argument(metavar="[CODE]...", help="Codes, or paths of your own recipes.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print every fact as JSON.")] = False,
) -> None:
    languages = [find_language(name) for name in names or language_codes()]
    data = _data_of(names, languages)

    from huggingface_hub import HfApi

    from langadapt.hub.recipe_check import Checked, check_data, check_language
    from langadapt.hub.repository_facts import hub_lookup

    look = hub_lookup(HfApi())
    checked: list[Checked] = []
    total = len(languages) + len(data)
    with progress_report() as report:
        for number, language in enumerate(languages, start=1):
            checked += check_language(language, look)
            report(Progress(stage="recipes", done=number, total=total))
        for number, card in enumerate(data, start=len(languages) + 1):
            checked.append(check_data(card, look))
            report(Progress(stage="recipes", done=number, total=total))

    if as_json:
        typer.echo(json.dumps([_row(item) for item in checked], ensure_ascii=False, indent=2))
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


def _data_of(names: list[str] | None, languages: list[Any]) -> list[Found[DataCard]]:
    """Every shipped data recipe, or those that the given languages name."""
    if not names:
        kinds = (ParallelRecipe, PairsRecipe, RetrievalRecipe, ClassificationRecipe)
        return [found for kind in kinds for found in all_data_recipes(kind)]
    asked: dict[tuple[str, str], Found[DataCard]] = {}
    for language in languages:
        folder = None if language.shipped else language.folder
        for name in language.recipe.distill.data:
            asked["parallel", f"{folder}/{name}"] = data_recipe(ParallelRecipe, name, folder=folder)
        for name in language.recipe.evaluate:
            asked["retrieval", f"{folder}/{name}"] = data_recipe(RetrievalRecipe, name, folder=folder)
    return list(asked.values())


def _row(item: Any) -> dict[str, Any]:
    return {
        "name": item.name,
        "path": str(item.path),
        "unverified": item.unverified,
        "mark_can_go": item.mark_can_go,
        "facts": [asdict(fact) for fact in item.facts],
    }
