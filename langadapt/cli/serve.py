"""`langadapt serve`."""

from pathlib import Path
from typing import Annotated

import typer

from langadapt.cli.options import Device
from langadapt.cli.progress import console, progress_report
from langadapt.errors import DataError
from langadapt.stopping import Stopped

HELP = """Encode and search over HTTP, for other programs on this machine.

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
    from langadapt.search.demo_server import is_loopback
    from langadapt.search.listening import listening, serve
    from langadapt.search.service import Service, ServiceLimits
    from langadapt.search.session import open_session

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
