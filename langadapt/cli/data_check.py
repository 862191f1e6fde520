"""`langadapt data check`."""

import json
from pathlib import Path
from typing import Annotated

import typer

from langadapt.cli.progress import console, progress_report
from langadapt.errors import DataError

HELP = """Open every image of some pairs and list all that cannot be read; exit code 2 if there are any.

Examples:

  langadapt data check captions.jsonl --images photos/

  langadapt data check shard-0.tar --json
"""


def check_command(
    pairs: Annotated[
        str, typer.Argument(metavar="PAIRS", help="Table, tar shard, or pair recipe by name or path.")
    ],
    images: Annotated[
        Path | None, typer.Option("--images", help="Folder of a table's images; its own folder unless said.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print as JSON.")] = False,
) -> None:
    from langadapt.data.image_check import broken_images
    from langadapt.data.pairs import load_pairs
    from langadapt.progress import Progress

    found = load_pairs(pairs, images=images)
    with progress_report() as report:
        broken = broken_images(
            found.images,
            progress=lambda done, total: report(Progress(stage="images", done=done, total=total)),
        )
    copies = len(found.images) - len(set(found.image_digests))
    repeated = len(found.texts) - len(set(found.texts))
    facts = {
        "images": len(found.images),
        "captions": len(found.texts),
        "copies_of_images": copies,
        "repeated_captions": repeated,
        "english_sides": found.english is not None,
        "broken": [item.reason for item in broken],
    }
    if as_json:
        typer.echo(json.dumps(facts, ensure_ascii=False, indent=2))
    else:
        for item in broken:
            typer.echo(item.reason)
        console.print(
            f"{found.name}: {len(found.images):,} images, {len(found.texts):,} captions; {copies:,} images "
            f"are copies, {repeated:,} captions repeat"
        )
    if broken:
        raise DataError(f"{found.name}: {len(broken)} of {len(found.images)} images cannot be read")
