"""`langadapt index`, `search`, `serve` and `demo`."""

import shlex
import webbrowser
from dataclasses import asdict
from pathlib import Path
from threading import Thread
from typing import TYPE_CHECKING, Annotated

import typer
from typer import Argument, Option

from langadapt.cli import options as opt
from langadapt.cli.progress import console, loaded_model, print_json, progress_report, shown
from langadapt.errors import DataError, Stopped

if TYPE_CHECKING:
    from langadapt.models import LanguageModel
    from langadapt.search.index import Hit, SearchSession
    from langadapt.search.nearest import ApproximateFacts

IndexFolder = Annotated[Path | None, Option(metavar="DIR", help="Folder of the index; else in the cache.")]
Images = Annotated[Path, Argument(metavar="IMAGES_FOLDER", help="A folder of images, or an index.")]
Host = Annotated[str, Option("--host", help="Address to listen on.")]
Port = Annotated[int, Option("--port", min=0, max=65535, help="0 takes a free one.")]
OpenPage = Annotated[bool, Option("--open", help="Open the page in the browser.")]
Hosts = Annotated[
    list[str] | None, Option("--allow-host", metavar="NAME", help="Host name to answer to; * is any.")
]
Frames = Annotated[
    list[str] | None, Option("--allow-frame", metavar="URL", help="Site that may show the page in a frame.")
]
PageImages = Annotated[int, Option("--top-k", min=1, max=500, help="Images per query on the page.")]


_MOST_LISTED = 20


def index_command(
    folder: Annotated[Path, Argument(metavar="IMAGES_FOLDER", help="Indexed with all its subfolders.")],
    model: opt.ModelName,
    index: IndexFolder = None,
    export: Annotated[Path | None, opt.new_file("--export", "Also write embeddings: .parquet, .npy.")] = None,
    rebuild: Annotated[bool, Option("--rebuild", help="Replace an existing index.")] = False,
    approximate_from: Annotated[int, Option(min=1, help="Images from which FAISS is used.")] = 1_000_000,
    as_json: opt.AsJson = False,
    device: opt.Device = None,
) -> None:
    """Encode the images of a folder once; later only new and changed ones.

    The index depends on the image model alone, so the adapters of several languages share it. It lies in
    LANGADAPT_CACHE unless --index says otherwise; nothing is written into the folder of images. Stop it at
    any time; repeat the command to continue. Images that cannot be read are listed.

    Examples:
      langadapt index photos/ --model runs/zh
      langadapt index photos/ --model runs/zh --index photos.index \\
          --export embeddings.parquet
    """
    if export is not None:
        opt.check_suffix(export, "--export")
    from langadapt.search.catalogue import display_name
    from langadapt.search.index import SearchSession, export_index, open_index
    from langadapt.search.update import image_tower, scan_images, update_index

    scan_images(folder)  # report a wrong folder before the model loads

    loaded = loaded_model(model, device)
    tower = image_tower(loaded)
    with progress_report() as report:
        update = update_index(folder, tower, report=report, index=index, rebuild=rebuild, verify=True)
    session = SearchSession(model=loaded, index=open_index(update.index, tower))
    facts, method = _build_approximate(session, approximate_from)
    if export is not None:
        export_index(session.index, export)
    failed = [{"path": display_name(file.name), "reason": file.reason} for file in update.failed]
    if as_json:
        how = {"search": "approximate", "approximate": asdict(facts)} if facts else {"search": "exact"}
        print_json({**asdict(update), "failed": failed, "approximate": None, **how}, indent=2)
        return
    console.print(
        f"{update.images:,} images: {update.encoded:,} encoded, {update.same:,} known, "
        f"{update.removed:,} removed, {len(failed):,} failed"
    )
    if update.skipped:
        kinds = ", ".join(f"{count:,} {kind}" for kind, count in update.skipped.items())
        console.print(f"skipped, as not named like images: {kinds}")
    for item in failed[:_MOST_LISTED]:
        console.print(f"failed: {item['path']}: {item['reason']}")
    if len(failed) > _MOST_LISTED:
        console.print(f"and {len(failed) - _MOST_LISTED:,} more; --json lists all")
    console.print(f"index: {shown(update.index)}")
    console.print(method)
    if export is not None:
        console.print(f"{len(session.index)} embeddings of {tower.dim} numbers in {shown(export)}")


def _build_approximate(session: "SearchSession", least: int) -> "tuple[ApproximateFacts | None, str]":
    """Build the FAISS index where it is due; return its facts and a line on how a search works."""
    from langadapt.search.nearest import has_faiss

    images = len(session.index)
    if images < least:
        return None, f"search is exact: {images:,} images are fewer than {least:,}"
    if not has_faiss():
        return None, "search is exact: `pip install 'langadapt[faiss]'` makes it faster for so many images"
    if session.index.approximate is not None:
        facts = session.index.approximate.facts
    else:
        console.print("building the FAISS index")
        facts = session.build_approximate()
    return facts, facts.summary()


def search_command(
    folder: Images,
    model: opt.ModelName,
    texts: Annotated[list[str] | None, Argument(metavar="[QUERY]...", help="Texts.")] = None,
    images: Annotated[
        list[Path] | None, Option("--image", metavar="FILE", help="Find images that look like this one.")
    ] = None,
    count: Annotated[int, Option("--top-k", "--top", min=1, help="How many images per query.")] = 5,
    index: IndexFolder = None,
    exact: Annotated[bool, Option("--exact", help="Compare with every image; ignore FAISS.")] = False,
    page: Annotated[Path | None, opt.new_file("--html", "Write a page with the images found.")] = None,
    as_json: opt.AsJson = False,
    device: opt.Device = None,
) -> None:
    """Find images by a text in the language, or by an image.

    Examples:
      langadapt search photos/ "一只狗在沙滩上奔跑" --model ORG/NAME
      langadapt search photos/ "一只狗在沙滩上奔跑" --model runs/zh
      langadapt search photos/ "mbwa anakimbia ufukweni" --model runs/sw \\
          --top-k 20 --html found.html
      langadapt search photos/ --image dog.jpg --model runs/sw

    The images are encoded once; later searches in the same folder are fast. `langadapt index` does this
    ahead of time. You can name an index instead of the folder: it is searched as it is.
    """
    queries: list[str | Path] = [*(texts or []), *(images or [])]
    if not queries:
        raise DataError("nothing to look for: write a query, or name an image with --image")
    if not all(str(query).strip() for query in queries):
        raise DataError("a query is empty; write what the picture shows")

    session = _open_session(folder, loaded_model(model, device), index)
    found = session.by_text(texts, count=count, approximate=not exact) if texts else []
    found += [session.by_image(image, count=count, approximate=not exact) for image in images or []]
    if as_json:
        print_json(_hit_list(queries, found), indent=2)
    else:
        _print_hits(queries, found)
    images_here, approximate = len(session.index), session.index.approximate
    if images_here < count:
        console.print(f"all {images_here:,} images are shown, {count:,} were requested")
    if approximate is not None and not exact:
        console.print(approximate.facts.summary())
    elif session.index.has_stale_approximate:
        console.print("search was exact: the FAISS index is stale or FAISS is missing; run `langadapt index`")
    if page is not None:
        from langadapt.evaluation.page import write_page
        from langadapt.search.index import search_page

        write_page(page, search_page(session, queries, found))
        console.print(f"page: {shown(page)}")
    elif not as_json:
        demo = shlex.join(["langadapt", "demo", shown(folder), "--model", model, "--open"])
        console.print(f"to see them: --html found.html, or {demo}")


def _open_session(folder: Path, model: "LanguageModel", index: Path | None) -> "SearchSession":
    from langadapt.search.index import open_session

    with progress_report() as report:
        session = open_session(folder, model, report=report, index=index)
    if session.encoded:
        console.print(f"new images encoded: {session.encoded:,}; kept in {shown(session.index.index)}")
    if session.index.failed:
        console.print(f"{session.index.failed:,} images failed; `langadapt index` lists them with reasons")
    return session


def _hit_list(queries: list[str | Path], found: "list[list[Hit]]") -> list[dict[str, object]]:
    return [
        {
            "image" if isinstance(query, Path) else "query": str(query),
            "images": [{"path": _path_text(hit.path), "score": round(hit.score, 4)} for hit in hits],
        }
        for query, hits in zip(queries, found, strict=True)
    ]


def _print_hits(queries: list[str | Path], found: "list[list[Hit]]") -> None:
    """Print a line per image: a path that is cut off or broken cannot be opened."""
    for query, hits in zip(queries, found, strict=True):
        typer.echo(query)
        for hit in hits:
            typer.echo(f"{hit.score:7.3f}  {_path_text(Path(shown(hit.path)))}")


def _path_text(path: Path) -> str:
    return str(path).encode("utf-8", "surrogateescape").decode("utf-8", "replace")


def serve_command(
    model: opt.ModelName,
    folder: Annotated[
        Path | None, Argument(metavar="[IMAGES_FOLDER]", help="A folder of images, or an index.")
    ] = None,
    host: Host = "127.0.0.1",
    port: Port = 7861,
    index: IndexFolder = None,
    page: Annotated[bool, Option("--page", help="Serve the demo page at / as well.")] = False,
    count: PageImages = 24,
    open_page: OpenPage = False,
    queue: Annotated[int, Option(min=1, help="Requests that may wait.")] = 32,
    texts: Annotated[int, Option("--most-texts", min=1, help="Texts in one request.")] = 64,
    body: Annotated[int, Option("--most-bytes", min=100, help="Bytes of one request.")] = 1_000_000,
    hosts: Hosts = None,
    frames: Frames = None,
    device: opt.Device = None,
) -> None:
    """Encode and search over HTTP, for other programs on this machine, and for people with --page.

    Examples:
      langadapt serve --model runs/zh
      langadapt serve photos/ --model runs/zh --port 8000 --page
      curl -s localhost:7861/search -H 'content-type: application/json' \\
          -d '{"texts": ["一只狗"], "count": 5}'

    POST /encode and /search take {"texts": [...]}; GET /health and /metrics (Prometheus). If too many
    requests wait, it answers 503 with Retry-After. Only this machine can reach it unless --host says
    otherwise; it has no passwords. Requests to another name than localhost or an address are refused unless
    --allow-host gives it: else a website could point its own name here.
    """
    if page and folder is None:
        raise DataError("--page shows images: name their folder")
    if open_page and not page:
        raise DataError("--open opens the demo page: add --page")
    from langadapt.search.server import create_app, is_loopback, listen, web_server
    from langadapt.search.service import Limits, Service

    limits = Limits(queue=queue, batch_texts=texts, body_bytes=body)
    with listen(host, port) as (bound, url):  # report a port in use before the model loads
        loaded = loaded_model(model, device)
        session = None if folder is None else _open_session(folder, loaded, index)
        service = Service(loaded, session, limits)
        images = "" if session is None else f", {len(session.index):,} images"
        console.print(f"{loaded.label}{images} at {url} (Ctrl-C stops)")
        if not is_loopback(host):
            console.print(f"everybody who reaches {host} on the network can ask; there are no passwords")
        if open_page:
            bound.listen()  # the browser may come before the server accepts
            Thread(target=webbrowser.open, args=(url,), daemon=True).start()
        names, sites = [host, *(hosts or ())], frames or ()
        app = create_app(service, hosts=names, frames=sites, page_images=count if page else 0)
        try:
            web_server(app, limits).run(sockets=[bound])
        except Stopped:
            console.print("stopped; running requests were answered")
        finally:
            service.close()


def demo_command(
    folder: Images,
    model: opt.ModelName,
    host: Host = "127.0.0.1",
    port: Port = 7860,
    index: IndexFolder = None,
    count: PageImages = 24,
    open_page: OpenPage = False,
    hosts: Hosts = None,
    frames: Frames = None,
    device: opt.Device = None,
) -> None:
    """Serve a search page on this machine: by a text in the language, or by an image of yours.

    Examples:
      langadapt demo photos/ --model runs/zh --open
      langadapt demo photos/ --model runs/ar --port 8000

    Short for `langadapt serve --page`. The page loads nothing from outside. Only this machine can open it
    unless --host says otherwise.
    """
    serve_command(
        model, folder, host, port, index,
        page=True, count=count, open_page=open_page, hosts=hosts, frames=frames, device=device,
    )  # fmt: skip
