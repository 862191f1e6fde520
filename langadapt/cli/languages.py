"""`langadapt languages`."""

import json
from typing import Annotated

import typer
from rich.table import Table

from langadapt.cli.progress import print_result
from langadapt.recipes import dump_recipe, find_language, language_codes

app = typer.Typer(no_args_is_help=True, pretty_exceptions_enable=False)


@app.command("list", help="List the shipped languages.\n\nExample:\n\n  langadapt languages list --json")
def list_command(
    as_json: Annotated[bool, typer.Option("--json", help="Print as JSON.")] = False,
) -> None:
    recipes = [find_language(code).recipe for code in language_codes()]
    if as_json:
        rows = [
            {
                "code": recipe.code,
                "name": recipe.name,
                "native_name": recipe.native_name,
                "scripts": list(recipe.scripts),
                "text_model": recipe.text_model.repo,
                "data": list(recipe.distill.data),
                "evaluate": list(recipe.evaluate),
            }
            for recipe in recipes
        ]
        typer.echo(json.dumps(rows, ensure_ascii=False, indent=2))
        return
    table = Table("code", "name", "native", "text model", "trains", "parallel data", box=None)
    for recipe in recipes:
        table.add_row(
            recipe.code,
            recipe.name,
            recipe.native_name,
            recipe.text_model.repo,
            str(recipe.text_model.trains),
            ", ".join(recipe.distill.data),
        )
    print_result(table)


@app.command(
    "show", help="Print one recipe with all its values.\n\nExample:\n\n  langadapt languages show sw"
)
def show_command(
    name: Annotated[str, typer.Argument(metavar="CODE", help="Code, or path of your own recipe.")],
    as_json: Annotated[bool, typer.Option("--json", help="Print as JSON.")] = False,
) -> None:
    recipe = find_language(name).recipe
    typer.echo(recipe.model_dump_json(indent=2) if as_json else dump_recipe(recipe), nl=as_json)
