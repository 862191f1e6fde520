"""`langadapt index`."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from langadapt.cli.options import Device
from langadapt.cli.progress import console, progress_report, shown

if TYPE_CHECKING:
    from langadapt.search.approximate import ApproximateFacts
    from langadapt.search.build import Update
    from langadapt.search.search import SearchSession

HELP = """Encode the images of a folder, once: later only new and changed ones.

The index depends on the image model alone, so the adapters of several languages share it. It lies in
LANGADAPT_CACHE unless --index says otherwise; nothing is written into the folder of images. Stop it at any
time: the same command goes on. Images that cannot be read are listed.

Examples:

  langadapt index photos/ --model runs/zh

  langadapt index photos/ --model runs/zh --index photos.index --export embeddings.parquet
"""
_LISTED = 20


def index_command(
    folder: Annotated[Path, typer.Argument(metavar="IMAGES_FOLDER", help="Indexed with all its subfolders.")],
    model: Annotated[str, typer.Option("--model", help="Run folder, or org/name on the Hub.")],
    place: Annotated[
        Path | None,
        typer.Option("--index", metavar="DIR", help="Where the index lies; the cache unless said."),
    ] = None,
    export: Annotated[
        Path | None,
        typer.Option("--export", metavar="FILE", help="Also write the embeddings, .parquet or .npy."),
    ] = None,
    rebuild: Annotated[
        bool, typer.Option("--rebuild", help="Throw the index away and make it anew.")
    ] = False,
    approximate_from: Annotated[
        int,
        typer.Option("--approximate-from", min=1, help="Images from which a FAISS index is built as well."),
    ] = 1_000_000,
    as_json: Annotated[bool, typer.Option("--json", help="Print what was done as JSON.")] = False,
    device: Device = None,
) -> None:
    if export is not None:
        from langadapt.search.export import check_suffix

        check_suffix(export, "--export")
    from langadapt.models import load
    from langadapt.models.device import chosen_device
    from langadapt.search.build import image_tower, update_index
    from langadapt.search.catalogue import scan_images
    from langadapt.search.index import open_index
    from langadapt.search.search import SearchSession

    scan_images(folder)  # a wrong folder is said before the model loads
    loaded = load(model, device=chosen_device(device))
    tower = image_tower(loaded)
    with progress_report() as report:
        update = update_index(folder, tower, report=report, place=place, rebuild=rebuild, verify=True)
    session = SearchSession(model=loaded, index=open_index(update.place, tower), update=update)
    facts, how = _approximate(session, approximate_from)
    if export is not None:
        from langadapt.search.export import export_index

        export_index(session.index, export)
    if as_json:
        typer.echo(json.dumps(_as_dict(update, facts), ensure_ascii=False, indent=2))
        return
    _print(update)
    console.print(how)
    if export is not None:
        console.print(
            f"{len(session.index)} embeddings of {session.index.meta.dim} numbers in {shown(export)}"
        )


def _approximate(session: "SearchSession", least: int) -> "tuple[ApproximateFacts | None, str]":
    """Builds the FAISS index where it is due; says how a search will work."""
    from langadapt.search.approximate import has_faiss
    from langadapt.search.build_approximate import build_approximate

    rows = len(session.index)
    if rows < least:
        return None, f"search is exact: {rows:,} images are fewer than {least:,}"
    if not has_faiss():
        return None, f"search is exact: for {rows:,} images `pip install 'langadapt[faiss]'` makes it faster"
    if session.index.approximate is not None:
        facts = session.index.approximate.facts
    else:
        console.print("building the FAISS index")
        facts = build_approximate(session.index, texts=session.example_rows())
    return facts, facts.summary()


def _as_dict(update: "Update", facts: "ApproximateFacts | None") -> dict[str, Any]:
    from langadapt.search.catalogue import shown_name

    return {
        "index": str(update.place),
        "folder": str(update.folder),
        "images": update.images,
        "encoded": update.encoded,
        "same": update.same,
        "removed": update.removed,
        "failed": [{"path": shown_name(item.name), "reason": item.reason} for item in update.failed],
        "search": "exact" if facts is None else "approximate",
        "approximate": None if facts is None else asdict(facts),
    }


def _print(update: "Update") -> None:
    from langadapt.search.catalogue import shown_name

    console.print(
        f"{update.images:,} images: {update.encoded:,} encoded, {update.same:,} known, "
        f"{update.removed:,} removed, {len(update.failed):,} failed"
    )
    for item in update.failed[:_LISTED]:
        console.print(f"failed: {shown_name(item.name)}: {item.reason}", markup=False)
    if len(update.failed) > _LISTED:
        console.print(f"and {len(update.failed) - _LISTED:,} more; --json lists all")
    console.print(f"index: {shown(update.place)}")
