"""The service's socket and its web server; it stops gracefully."""

import socket
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import uvicorn

from langadapt.errors import DataError
from langadapt.search.service import Service, service_app

_GRACE_SECONDS = 20
_CONNECTIONS = 1000


@dataclass(frozen=True, kw_only=True)
class Door:
    """A socket that listens, and where it is."""

    socket: socket.socket
    url: str


@contextmanager
def listening(host: str, port: int) -> Iterator[Door]:
    """Takes an address.

    Raises:
        DataError: it cannot be had.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    door = socket.socket(family, socket.SOCK_STREAM)
    door.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        door.bind((host, port))
    except (OSError, OverflowError) as error:
        door.close()
        raise DataError(
            f"{host}:{port}: cannot listen there ({error}); choose another --port or --host"
        ) from error
    with door:
        shown = f"[{host}]" if ":" in host else host
        yield Door(socket=door, url=f"http://{shown}:{door.getsockname()[1]}/")


def serve(service: Service, door: Door, *, private: bool) -> None:
    """Answers until a signal comes; then lets running requests end, and raises what the signal means."""
    config = uvicorn.Config(
        service_app(service, private=private),
        log_level="warning",
        access_log=False,  # what is asked is the user's own affair
        lifespan="off",
        server_header=False,
        timeout_keep_alive=5,
        timeout_graceful_shutdown=_GRACE_SECONDS,
        limit_concurrency=service.limits.queue + _CONNECTIONS,  # the last fence; the queue answers better
    )
    try:
        uvicorn.Server(config).run(sockets=[door.socket])
    finally:
        service.close()
