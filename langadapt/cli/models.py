"""`langadapt models`: convert."""

from pathlib import Path
from typing import Annotated

import typer
from typer import Argument

from langadapt.cli import options as opt
from langadapt.cli.progress import console, print_json, shown
from langadapt.errors import ModelError
from langadapt.files.paths import user_path
from langadapt.recipes.find import is_local_name

app = typer.Typer(no_args_is_help=True, add_completion=False, rich_markup_mode="rich")
app.callback()(lambda: None)


@app.command("convert")
def convert_command(
    model: Annotated[str, Argument(metavar="MODEL", help="org/name, org/name@REVISION, or a folder.")],
    out: Annotated[Path, opt.new_folder("Folder to write.")],
    as_json: opt.AsJson = False,
) -> None:
    """Rewrite a model's pytorch_model.bin as safetensors, the one format that langadapt opens.

    Example:
      langadapt models convert facebook/nllb-200-distilled-600M --out models/nllb

    Then give the folder instead of the name. The weights are read by torch.load(weights_only=True) in a
    process of its own: only tensors, no code. Others do not have your folder: to publish, prefer a revision
    that has safetensors, if the message names one.
    """
    if is_local_name(model) and not user_path(model).is_dir():
        raise ModelError(f"{model}: no such folder; a model of the Hub is called org/name")

    from langadapt.models.convert import convert
    from langadapt.models.translator import named_model

    files = convert(named_model(model), out)
    if as_json:
        print_json({"out": str(out), "weights": files})
        return
    console.print(f"{len(files)} weight files in {shown(out)}")
    console.print(f"next: give {shown(out)} where a model is asked for")
