"""`langadapt data check`."""

import json
from typing import Annotated, Any

import typer

from langadapt.cli.options import AsJson, TableImages
from langadapt.cli.progress import console, progress_report
from langadapt.errors import DataError
from langadapt.recipes import RetrievalRecipe, data_recipe

HELP = """Open every image of some pairs and list all that cannot be read; exit code 2 if there are any.

With --against it also lists images that are test images, under whatever name (`tune` leaves those out).

Examples:

  langadapt data check captions.jsonl --images photos/

  langadapt data check captions.jsonl --against crossmodal-3600-sw

  langadapt data check shard-0.tar --json
"""


def check_command(
    pairs: Annotated[
        str, typer.Argument(metavar="PAIRS", help="Table, tar shard, or pair recipe by name or path.")
    ],
    images: TableImages = None,
    against: Annotated[
        list[str] | None, typer.Option("--against", metavar="SET", help="Test set by name or path.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    from langadapt.data.cleaning.pair_images import leaks
    from langadapt.data.image_check import broken_images
    from langadapt.data.pairs import load_pairs
    from langadapt.data.retrieval import load_retrieval
    from langadapt.progress import Progress

    tests = [load_retrieval(data_recipe(RetrievalRecipe, name)) for name in against or []]
    found = load_pairs(pairs, images=images)
    with progress_report() as report:
        leaked = leaks(found, tests, report)
        broken = broken_images(
            found.images,
            progress=lambda done, total: report(Progress(stage="images", done=done, total=total)),
        )
    copies = len(found.images) - len(set(found.image_digests))
    repeated = len(found.texts) - len(set(found.texts))
    facts: dict[str, Any] = {
        "images": len(found.images),
        "captions": len(found.texts),
        "copies_of_images": copies,
        "repeated_captions": repeated,
        "english_sides": found.english is not None,
        "broken": [item.reason for item in broken],
        "test_images": {str(found.images[int(item.train)]): item.test for item in leaked},
    }
    if as_json:
        typer.echo(json.dumps(facts, ensure_ascii=False, indent=2))
    else:
        for item in broken:
            typer.echo(item.reason)
        for own, theirs in facts["test_images"].items():
            typer.echo(f"{own}: is the test image {theirs}")
        console.print(
            f"{found.name}: {len(found.images):,} images, {len(found.texts):,} captions; {copies:,} images "
            f"are copies, {repeated:,} captions repeat"
        )
    if broken:
        raise DataError(f"{found.name}: {len(broken)} of {len(found.images)} images cannot be read")
