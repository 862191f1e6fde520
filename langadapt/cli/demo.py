"""`langadapt demo`."""

from pathlib import Path
from typing import Annotated

import typer

from langadapt.cli.options import Device
from langadapt.cli.progress import console, progress_report
from langadapt.stopping import Stopped

HELP = """A small web page on this machine: a search box in the language, examples, a grid of pictures.

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
    from langadapt.search.demo_server import DemoServer
    from langadapt.search.session import open_session

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
