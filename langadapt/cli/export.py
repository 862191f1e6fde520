"""`langadapt export`."""

import json
from pathlib import Path
from typing import Annotated, Literal

import typer

from langadapt.cli.encode import text_lines
from langadapt.cli.options import RunName
from langadapt.cli.progress import console, shown
from langadapt.errors import DataError, ModelError

HELP = """Write a model in the form that another tool loads, checked against langadapt's own embeddings.

Examples:

  langadapt export runs/zh --format sentence-transformers --out zh-st

  langadapt export runs/zh --format onnx --out zh-onnx

  langadapt export runs/zh --format onnx --int8 --texts captions.txt --out zh-onnx

sentence-transformers: texts and images, both base models inside, langadapt not needed where it is loaded.
onnx: text tower and image tower, tokenizer and preprocessing beside them; --int8 adds a text tower with
8-bit weights and measures on --texts how far its embeddings move.
"""

Format = Literal["sentence-transformers", "onnx", "open-clip"]


def export_command(
    run: RunName,
    form: Annotated[Format, typer.Option("--format", help="What it is for.")],
    out: Annotated[Path, typer.Option("--out", help="The folder to write.")],
    int8: Annotated[bool, typer.Option("--int8", help="onnx: also a text tower with 8-bit weights.")] = False,
    texts: Annotated[
        Path | None,
        typer.Option("--texts", help="Texts to compare on, one per line; the artifact's own unless said."),
    ] = None,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace a folder that is not empty.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print what was compared as JSON.")] = False,
) -> None:
    if form == "open-clip":
        raise ModelError(
            "--format open-clip: open_clip has no text tower that could hold the adapter (one pooler and one "
            "projection follow its text model); take sentence-transformers or onnx for the texts, and "
            "open_clip's own image tower for the images where the teacher is a CLIP that it has"
        )
    if int8 and form != "onnx":
        raise DataError("--int8 is for --format onnx")
    given = None if texts is None else text_lines(texts)

    from langadapt.export import default_probes, export_onnx, export_sentence_transformers
    from langadapt.models import load

    model = load(run)
    probes = default_probes(model, texts=given)
    if form == "onnx":
        facts = export_onnx(model, out, probes=probes, int8=int8, overwrite=overwrite)
    else:
        facts = export_sentence_transformers(model, out, probes=probes, overwrite=overwrite)
    if as_json:
        typer.echo(json.dumps({"out": str(out), **facts}, ensure_ascii=False))
        return
    found = facts["agreement"]
    console.print(
        f"{form} in {shown(out)}; largest difference from the model {found['text_difference']:.1e} on "
        f"{found['texts']} texts, {found['image_difference']:.1e} on {found['images']} images"
    )
    if "int8" in facts:
        cost = facts["int8"]
        console.print(
            f"8-bit text tower: {cost['bytes'] / 1e6:.1f} MB instead of {cost['float_bytes'] / 1e6:.1f} MB; "
            f"cosine with the float model on {cost['texts']} texts: mean {cost['mean_cosine']:.4f}, "
            f"lowest {cost['lowest_cosine']:.4f}"
        )
    console.print(f"how to use it: {shown(out)}/README.md")
