"""`langadapt encode`."""

import json
import sys
from pathlib import Path
from typing import Annotated

import typer

from langadapt.cli.options import Device, RunName
from langadapt.cli.progress import console, shown
from langadapt.errors import DataError

HELP = """Encode texts, one per line, into the teacher's embedding space.

Examples:

  langadapt encode runs/zh captions.txt --out captions.npy

  langadapt encode runs/zh captions.txt --out captions.parquet

  echo 一只狗 | langadapt encode runs/zh - --json

  langadapt encode runs/zh queries.txt --also runs/de --also runs/sw --out queries.npy

With --also the texts may be in several languages; each is told from the text, unless --language says it.
"""


def encode_command(
    model: RunName,
    texts: Annotated[
        Path, typer.Argument(metavar="FILE", help="UTF-8 text file, one text per line; - is stdin.")
    ],
    out: Annotated[
        Path | None,
        typer.Option("--out", help="Float32 unit rows: .npy, or .parquet with id, text, embedding."),
    ] = None,
    also: Annotated[
        list[str] | None,
        typer.Option("--also", metavar="RUN", help="A model of another language with the same teacher."),
    ] = None,
    language: Annotated[
        str | None,
        typer.Option("--language", help="Code of the texts' language; told from each unless said."),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON list per text.")] = False,
    device: Device = None,
) -> None:
    if (out is None) == (not as_json):
        raise DataError("say where the embeddings go: one of --out FILE.npy, FILE.parquet and --json")
    lines = text_lines(texts)

    if out is not None:
        from langadapt.search.export import check_suffix

        check_suffix(out, "--out")
        out.parent.mkdir(parents=True, exist_ok=True)

    from langadapt.models import load_set
    from langadapt.models.device import chosen_device

    loaded = load_set([model, *(also or [])], device=chosen_device(device))
    embedded = loaded.encode_text(lines, language=language).numpy()
    if out is None:
        for row in embedded:
            typer.echo(json.dumps([round(float(value), 7) for value in row]))
        return
    from langadapt.search.export import export_texts

    export_texts(lines, embedded, out)
    console.print(f"{len(embedded)} texts, {embedded.shape[1]} dimensions in {shown(out)}")


def text_lines(path: Path) -> list[str]:
    """Texts of a UTF-8 file, or of stdin for `-`, one per line; an empty line is refused."""
    try:
        raw = sys.stdin.buffer.read() if str(path) == "-" else path.read_bytes()
        text = raw.decode("utf-8-sig")
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        line = raw[: error.start].count(b"\n") + 1
        raise DataError(f"{path}: line {line} is not UTF-8; save the file as UTF-8") from error
    lines = [line.rstrip("\r") for line in text.removesuffix("\n").split("\n")]
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            raise DataError(f"{path}: line {number} is empty; each line is one text")
    return lines
