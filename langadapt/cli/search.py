"""`langadapt search`."""

import json
from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from langadapt.cli.progress import console, print_result, progress_report, shown
from langadapt.errors import DataError

HELP = """Find images in a folder by a text in the language.

Examples:

  langadapt search photos/ "一只狗在沙滩上奔跑" --model runs/zh

  langadapt search photos/ "mbwa anakimbia ufukweni" --model runs/sw --top 20 --html found.html

The images are encoded once; later searches in the same folder answer at once.
"""


def search_command(
    folder: Annotated[
        Path, typer.Argument(metavar="IMAGES_FOLDER", help="Searched with all its subfolders.")
    ],
    queries: Annotated[list[str], typer.Argument(metavar="QUERY...", help="One or more texts.")],
    model: Annotated[str, typer.Option("--model", help="Run folder, or org/name on the Hub.")],
    top: Annotated[int, typer.Option("--top", min=1, help="How many images per query.")] = 5,
    page: Annotated[
        Path | None, typer.Option("--html", metavar="FILE", help="Write a page of pictures.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print as JSON.")] = False,
    device: Annotated[
        str | None, typer.Option("--device", help="cpu, cuda; the best one unless said.")
    ] = None,
) -> None:
    if not all(query.strip() for query in queries):
        raise DataError("a query is empty; write what the picture shows")

    from langadapt.data.images import list_images
    from langadapt.evaluation.retrieval import stored_images
    from langadapt.models import load
    from langadapt.models.device import chosen_device
    from langadapt.progress import Progress

    images = list_images(folder)
    loaded = load(model, device=chosen_device(device))
    with progress_report() as report:
        gallery = stored_images(
            loaded.teacher,
            images,
            progress=lambda done, total: report(Progress(stage="images", done=done, total=total)),
        )
    best = (loaded.encode_text(queries) @ gallery.T).topk(min(top, len(images)), dim=1)
    found = [
        {
            "query": query,
            "images": [{"path": str(images[i]), "score": round(s, 4)} for s, i in zip(*row, strict=True)],
        }
        for query, *row in zip(queries, best.values.tolist(), best.indices.tolist(), strict=True)
    ]
    if as_json:
        typer.echo(json.dumps(found, ensure_ascii=False, indent=2))
    else:
        _print_table(queries, images, best.values.tolist(), best.indices.tolist())
    if page is not None:
        from langadapt.evaluation.page import Page, Search, write_page
        from langadapt.evaluation.thumbnails import Thumbnail

        searches = [
            Search(
                query=query,
                english=None,
                language=loaded.artifact.recipe.code,
                images=[Thumbnail(path=images[i], label=images[i].name, correct=None) for i in places],
            )
            for query, places in zip(queries, best.indices.tolist(), strict=True)
        ]
        facts = {"Settings": {"folder": str(folder), "images": str(len(images)), "model": model}}
        write_page(page, Page(title="Search", searches=searches, facts=facts))
        console.print(f"page: {shown(page)}")


def _print_table(
    queries: list[str], images: list[Path], scores: list[list[float]], places: list[list[int]]
) -> None:
    table = Table("query", "score", "image", box=None)
    for query, row, order in zip(queries, scores, places, strict=True):
        for rank, (score, place) in enumerate(zip(row, order, strict=True)):
            table.add_row(query if rank == 0 else "", f"{score:.3f}", str(images[place]))
    print_result(table)
