"""Options that several commands have, so that they read alike everywhere."""

from pathlib import Path
from typing import Annotated

import typer

AsJson = Annotated[bool, typer.Option("--json", help="Print the result as JSON.")]
Device = Annotated[
    str | None, typer.Option("--device", help="cpu, cuda, cuda:1, mps; the best one unless said.")
]
LanguageCode = Annotated[
    str | None, typer.Option("--lang", help="A shipped language's code, or a variant's name.")
]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Start again in a used folder.")]
RecipePath = Annotated[str | None, typer.Option("--recipe", help="Path of your own language recipe.")]
Settings = Annotated[
    list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Change a value of the recipe.")
]
TableImages = Annotated[
    Path | None, typer.Option("--images", help="Folder of a table's images; its own folder unless said.")
]
