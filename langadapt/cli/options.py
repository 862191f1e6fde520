"""Options that several commands have, so that they read alike everywhere."""

from pathlib import Path
from typing import Annotated

import typer

from langadapt.errors import ModelError


def _existing(name: str | None) -> str | None:
    """Refuse a run folder that is not there, before torch is imported; `org/name` may be on the Hub."""
    local = name is not None and (name.startswith((".", "/", "~")) or name.count("/") != 1)
    if local and not Path(str(name)).expanduser().is_dir():
        raise ModelError(f"{name}: no such artifact folder")
    return name


AsJson = Annotated[bool, typer.Option("--json", help="Print the result as JSON.")]
Device = Annotated[str | None, typer.Option("--device", help="cpu, cuda, cuda:1, mps; the best by default.")]
LanguageCode = Annotated[
    str | None, typer.Option("--lang", help="Name of a shipped recipe: a language's code, or a variant.")
]
ModelName = Annotated[
    str, typer.Option("--model", callback=_existing, help="Run folder, or org/name on the Hub.")
]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Start again in a used folder.")]
RecipePath = Annotated[str | None, typer.Option("--recipe", help="Path of your own language recipe.")]
RunName = Annotated[
    str, typer.Argument(metavar="RUN", callback=_existing, help="Run folder, or org/name on the Hub.")
]
Settings = Annotated[
    list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Change a value of the recipe.")
]
TableImages = Annotated[
    Path | None, typer.Option("--images", help="Folder of a table's images; by default the table's folder.")
]
