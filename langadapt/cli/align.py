"""`langadapt align`."""

import json
from pathlib import Path
from typing import Annotated

import typer

from langadapt.cli.options import AsJson, Device, Overwrite, TableImages
from langadapt.cli.pairs_stage import named_pairs
from langadapt.cli.progress import console, progress_report, shown
from langadapt.errors import RecipeError
from langadapt.recipes import AlignStage, ModelRef, with_values

HELP = """Make a new image-text model from an image encoder, a text encoder and images with captions.

Examples:

  langadapt align --image-model google/vit-base-patch16-224-in21k --pairs captions.tsv --images photos/ \\
      --text-model google-bert/bert-base-uncased --out models/mine

  langadapt align --image-model models/mobilenet --text-model models/minilm --pairs captions.tsv \\
      --out models/mine --set text=full --set image=locked

The result is a VisionTextDualEncoderModel in transformers' own format; a language recipe can name it as its
teacher. An interrupted run goes on when the same command is given again.
"""


def align_command(
    image_model: Annotated[str, typer.Option("--image-model", help="Vision encoder: folder, or org/name.")],
    text_model: Annotated[str, typer.Option("--text-model", help="Text encoder: folder, or org/name.")],
    pairs: Annotated[list[str], typer.Option("--pairs", help="Table, tar shard or pair recipe.")],
    out: Annotated[Path, typer.Option("--out", help="Folder of the model.")],
    images: TableImages = None,
    settings: Annotated[
        list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Change a value: epochs=5.")
    ] = None,
    device: Device = None,
    overwrite: Overwrite = False,
    as_json: AsJson = False,
) -> None:
    if not pairs:
        raise RecipeError("name your images and captions: --pairs FILE")
    stage = with_values(AlignStage, AlignStage(pairs=named_pairs(pairs)), settings or [])

    from langadapt.models.device import chosen_device
    from langadapt.training import DistillOptions, align

    options = DistillOptions(device=chosen_device(device), overwrite=overwrite)
    with progress_report() as report:
        facts = align(
            ModelRef(repo=image_model),
            ModelRef(repo=text_model),
            out,
            stage=stage,
            report=report,
            options=options,
            images=images,
        )
    if as_json:
        typer.echo(json.dumps(facts, ensure_ascii=False))
        return
    console.print(f"model in {shown(out)}, held-out recall (mR6) {facts['held_out_recall']:.1f} %")
    console.print(f"next: name it in a language recipe, teacher: {{repo: {shown(out)}}}")
