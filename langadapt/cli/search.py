"""`langadapt search`."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table

from langadapt.cli.options import AsJson, Device
from langadapt.cli.progress import console, print_result, progress_report, shown
from langadapt.errors import DataError

if TYPE_CHECKING:
    from langadapt.search.index import Hit
    from langadapt.search.search import SearchSession
from langadapt.errors import Stopped

SEARCH_HELP = """Find images by a text in the language, or by a picture.

Examples:

  langadapt search photos/ "一只狗在沙滩上奔跑" --model runs/zh

  langadapt search photos/ "mbwa anakimbia ufukweni" --model runs/sw --top-k 20 --html found.html

  langadapt search photos/ --image dog.jpg --model runs/sw

The images are encoded once; later searches in the same folder answer at once. `langadapt index` does that
ahead of time. An index may stand in the place of the folder: it is then searched as it is.
"""


def search_command(
    where: Annotated[
        Path, typer.Argument(metavar="IMAGES_FOLDER", help="Searched with all its subfolders; or an index.")
    ],
    model: Annotated[str, typer.Option("--model", help="Run folder, or org/name on the Hub.")],
    queries: Annotated[list[str] | None, typer.Argument(metavar="[QUERY]...", help="Texts.")] = None,
    pictures: Annotated[
        list[Path] | None,
        typer.Option("--image", metavar="FILE", help="Find images that look like this one."),
    ] = None,
    top: Annotated[int, typer.Option("--top-k", "--top", min=1, help="How many images per query.")] = 5,
    place: Annotated[
        Path | None,
        typer.Option("--index", metavar="DIR", help="Where the index lies; the cache unless said."),
    ] = None,
    exact: Annotated[bool, typer.Option("--exact", help="Compare with every image, FAISS or not.")] = False,
    page: Annotated[
        Path | None, typer.Option("--html", metavar="FILE", help="Write a page of pictures.")
    ] = None,
    as_json: AsJson = False,
    device: Device = None,
) -> None:
    texts, images = queries or [], pictures or []
    if not texts and not images:
        raise DataError("nothing to look for: write a query, or name a picture with --image")
    if not all(text.strip() for text in texts):
        raise DataError("a query is empty; write what the picture shows")

    from langadapt.models import load
    from langadapt.models.device import chosen_device
    from langadapt.search.search import open_session

    loaded = load(model, device=chosen_device(device))
    with progress_report() as report:
        session = open_session(where, loaded, report=report, place=place)
    found = session.by_text(texts, count=top, approximate=not exact) if texts else []
    found += [session.by_picture(image, count=top, approximate=not exact) for image in images]
    if as_json:
        typer.echo(json.dumps(_as_list(texts, images, found), ensure_ascii=False, indent=2))
    else:
        print_result(_table([*texts, *map(str, images)], found))
    _remarks(session, top=top, exact=exact, folder=where)
    if page is not None:
        from langadapt.evaluation.page import write_page
        from langadapt.search.demo_page import search_page

        write_page(page, search_page(session, texts, images, found))
        console.print(f"page: {shown(page)}")


def _as_list(texts: list[str], pictures: list[Path], found: "list[list[Hit]]") -> list[dict[str, object]]:
    asked = [{"query": text} for text in texts] + [{"image": str(picture)} for picture in pictures]
    return [
        {**question, "images": [{"path": _text(hit.path), "score": round(hit.score, 4)} for hit in hits]}
        for question, hits in zip(asked, found, strict=True)
    ]


def _table(asked: list[str], found: "list[list[Hit]]") -> Table:
    table = Table("query", "score", "image", box=None)
    for question, hits in zip(asked, found, strict=True):
        for rank, hit in enumerate(hits):
            table.add_row(question if rank == 0 else "", f"{hit.score:.3f}", _text(hit.path))
    return table


def _remarks(session: "SearchSession", *, top: int, exact: bool, folder: Path) -> None:
    index = session.index
    if len(index) < top:
        console.print(f"all {len(index):,} images are shown, {top:,} were asked for")
    if index.failed:
        console.print(f"{index.failed:,} images failed; `langadapt index` lists them with reasons")
    if index.approximate is not None and not exact:
        console.print(index.approximate.facts.summary())
    elif index.stale_approximate:
        console.print(
            "search was exact: the FAISS index is stale or FAISS is not installed; run `langadapt index`"
        )


def _text(path: Path) -> str:
    return str(path).encode("utf-8", "surrogateescape").decode("utf-8", "replace")


DEMO_HELP = """A small web page on this machine: a search box in the language, examples, a grid of pictures.

Examples:

  langadapt demo photos/ --model runs/zh

  langadapt demo photos/ --model runs/ar --port 8000

The page loads nothing from outside. Only this machine can open it unless --host says otherwise.
"""


def demo_command(
    where: Annotated[Path, typer.Argument(metavar="IMAGES_FOLDER", help="A folder of images, or an index.")],
    model: Annotated[str, typer.Option("--model", help="Run folder, or org/name on the Hub.")],
    host: Annotated[str, typer.Option("--host", help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option("--port", min=0, max=65535, help="0 takes a free one.")] = 7860,
    place: Annotated[
        Path | None,
        typer.Option("--index", metavar="DIR", help="Where the index lies; the cache unless said."),
    ] = None,
    top: Annotated[int, typer.Option("--top-k", min=1, max=500, help="How many images per query.")] = 24,
    device: Device = None,
) -> None:
    from langadapt.models import load
    from langadapt.models.device import chosen_device
    from langadapt.search.search import open_session
    from langadapt.search.server import DemoServer

    loaded = load(model, device=chosen_device(device))
    with progress_report() as report:
        session = open_session(where, loaded, report=report, place=place)
    with DemoServer(session, host=host, port=port, count=top) as server:
        console.print(f"{len(session.index):,} images at {server.url} (Ctrl-C stops)")
        if session.index.failed:
            console.print(
                f"{session.index.failed:,} images failed; `langadapt index` lists them with reasons"
            )
        if not server.is_private:
            console.print(f"everybody who reaches {host} on the network can see these images")
        try:
            server.serve_forever()
        except (KeyboardInterrupt, Stopped):
            console.print("stopped")


SERVE_HELP = """Encode and search over HTTP, for other programs on this machine.

Examples:

  langadapt serve --model runs/zh

  langadapt serve photos/ --model runs/zh --port 8000

  curl -s localhost:7861/search -H 'content-type: application/json' -d '{"texts": ["一只狗"], "count": 5}'

POST /encode and /search take {"texts": [...]}; GET /health and /metrics (Prometheus). When too many requests
wait it answers 503 with Retry-After. Only this machine can reach it unless --host says otherwise; it has no
passwords. Needs `pip install 'langadapt[serve]'`.
"""


def serve_command(
    model: Annotated[str, typer.Option("--model", help="Run folder, or org/name on the Hub.")],
    where: Annotated[
        Path | None, typer.Argument(metavar="[IMAGES_FOLDER]", help="A folder of images, or an index.")
    ] = None,
    host: Annotated[str, typer.Option("--host", help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option("--port", min=0, max=65535, help="0 takes a free one.")] = 7861,
    place: Annotated[
        Path | None,
        typer.Option("--index", metavar="DIR", help="Where the index lies; the cache unless said."),
    ] = None,
    queue: Annotated[int, typer.Option("--queue", min=1, help="Requests that may wait.")] = 32,
    batch: Annotated[int, typer.Option("--most-texts", min=1, help="Texts in one request.")] = 64,
    body: Annotated[int, typer.Option("--most-bytes", min=100, help="Bytes of one request.")] = 1_000_000,
    device: Device = None,
) -> None:
    try:
        import fastapi  # noqa: F401
        import uvicorn  # noqa: F401
    except ImportError as error:
        raise DataError("serve needs two more packages: `pip install 'langadapt[serve]'`") from error

    from langadapt.models import load
    from langadapt.models.device import chosen_device
    from langadapt.search.search import open_session
    from langadapt.search.server import Service, ServiceLimits, is_loopback, listening, serve

    with listening(host, port) as door:  # a port that is taken is said before the model loads
        loaded = load(model, device=chosen_device(device))
        session = None
        if where is not None:
            with progress_report() as report:
                session = open_session(where, loaded, report=report, place=place)
        limits = ServiceLimits(queue=queue, batch_texts=batch, body_bytes=body)
        service = Service(loaded, session, limits)
        images = "" if session is None else f", {len(session.index):,} images"
        console.print(f"{loaded.label}{images} at {door.url} (Ctrl-C stops)")
        if not is_loopback(host):
            console.print(f"everybody who reaches {host} on the network can ask; there are no passwords")
        try:
            serve(service, door, private=is_loopback(host))
        except Stopped:
            console.print("stopped; what was begun is answered")
