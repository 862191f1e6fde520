"""Serve a model and an index over HTTP: a JSON interface and, if wanted, a demo page.

One thread runs the model. A request that would wait behind too many others is refused with 503 and
`Retry-After`, so the client knows at once and memory stays bounded.
"""

import ipaddress
import re
import socket
import time
from collections.abc import Awaitable, Callable, Collection, Coroutine, Iterator
from contextlib import contextmanager
from typing import Annotated, Any, cast
from urllib.parse import urlsplit

import uvicorn
from fastapi import APIRouter, FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from fastapi.routing import APIRoute
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4, generate_latest
from pydantic import BaseModel, ConfigDict, Field
from starlette.exceptions import HTTPException

from langadapt.errors import DataError, LangadaptError
from langadapt.search.page import demo_page
from langadapt.search.service import Limits, Service, read_body

_SITE = re.compile(r"https?://[A-Za-z0-9.*-]+(:[0-9]+)?", re.ASCII)
_HEADERS = {
    "Content-Security-Policy": "default-src 'none'; img-src 'self' data:; style-src 'unsafe-inline'; "
    "form-action 'self'; base-uri 'none'; frame-ancestors ",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
}


class EncodeQuestion(BaseModel):
    """Texts to embed."""

    model_config = ConfigDict(extra="forbid", strict=True)
    texts: Annotated[list[str], Field(min_length=1)]


class SearchQuestion(EncodeQuestion):
    """Texts to search for, and how many images are wanted for each."""

    count: Annotated[int, Field(ge=1)] = 10


def create_app(
    service: Service, *, hosts: Collection[str] = (), frames: Collection[str] = (), page_images: int = 0
) -> FastAPI:
    """Create the web application.

    Requests must name this machine by an address, as localhost, or by one of `hosts` (`*`: any name), so that
    no website can read the images through a host name that it points here. Pages of the sites `frames` may
    show the demo page in a frame. `page_images` per query are shown by it; 0 serves no page.
    """
    for site in frames:
        if not _SITE.fullmatch(site):
            raise DataError(f"--allow-frame {site!r}: write it as https://example.org, in ASCII")
    for host in hosts:
        if not host or (set(host) & set("/:@ ") and not is_address(host)):
            raise DataError(f"--allow-host {host!r}: give a name alone, without port and path")
    hosts = {host.lower() for host in hosts}
    policy = _HEADERS["Content-Security-Policy"] + " ".join(frames or ["'none'"])
    handlers: Any = {
        LangadaptError: lambda request, error: _error(400, str(error)),
        HTTPException: lambda request, error: _error(error.status_code, str(error.detail), error.headers),
    }
    app = FastAPI(title="langadapt", docs_url=None, redoc_url=None, exception_handlers=handlers)

    @app.middleware("http")
    async def guard(request: Request, call_next: Callable[[Request], Awaitable[Response]]) -> Response:
        started, status = time.perf_counter(), 500
        try:
            name = _host_name(request)
            allowed = is_address(name) or name in hosts or "*" in hosts
            refusal = "unknown host name; `--allow-host NAME` allows it"
            response = await call_next(request) if allowed else _error(403, refusal)
            response.headers.update({**_HEADERS, "Content-Security-Policy": policy})
            status = response.status_code
            return response
        finally:
            route = request.scope.get("route")
            path = route.path if isinstance(route, APIRoute) else "other"
            service.requests.labels(path, str(status)).inc()
            service.seconds.observe(time.perf_counter() - started)

    @app.exception_handler(RequestValidationError)
    async def on_invalid(request: Request, error: RequestValidationError) -> JSONResponse:
        first = error.errors()[0]
        field = ".".join(str(part) for part in first["loc"] if part != "body")
        return _error(422, f"{field or 'body'}: {first['msg']}")

    app.include_router(_api(service))
    if service.session is not None and page_images:
        app.include_router(demo_page(service, service.session, page_images))
    return app


def _error(status: int, line: str, headers: Any = None) -> JSONResponse:
    return JSONResponse({"error": _printable(line)}, status_code=status, headers=headers)


def _printable(line: str) -> str:
    """Replace what is not UTF-8; a path may hold such bytes."""
    return line.encode("utf-8", "replace").decode()


def is_address(host: str) -> bool:
    """Tell whether a host is an address or this machine's own name: no website can choose these."""
    try:
        return bool(ipaddress.ip_address(host))
    except ValueError:
        return host == "localhost"


def is_loopback(host: str) -> bool:
    """Tell whether an address or host name means this machine."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _host_name(request: Request) -> str:
    try:
        return urlsplit(f"//{request.headers.get('host', '')}").hostname or ""
    except ValueError:
        return ""


def _api(service: Service) -> APIRouter:
    """Build the JSON interface; sizes and speed of its request bodies are limited."""
    limits = service.limits

    class LimitedRequest(Request):
        async def body(self) -> bytes:
            if not hasattr(self, "_body"):
                self._body = await read_body(self, most_bytes=limits.body_bytes, seconds=limits.body_seconds)
            return self._body

    class LimitedRoute(APIRoute):
        def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
            handle = super().get_route_handler()

            async def handle_limited(request: Request) -> Response:
                return await handle(LimitedRequest(request.scope, request.receive))

            return handle_limited

    router = APIRouter(route_class=LimitedRoute)

    @router.post("/encode")
    async def encode(question: EncodeQuestion) -> JSONResponse:
        service.check(question.texts)
        rows = (await service.run(service.model.encode_text, question.texts)).tolist()
        service.texts.inc(len(question.texts))
        return JSONResponse({"model": service.model.label, "dim": service.model.dim, "embeddings": rows})

    @router.post("/search")
    async def search(question: SearchQuestion) -> JSONResponse:
        service.check(question.texts)
        if service.session is None:
            line = "no images are served here; start `langadapt serve` with a folder of images"
            raise HTTPException(404, line)
        count = min(question.count, service.limits.images_per_text)
        found = await service.run(service.session.by_text, question.texts, count=count)
        service.texts.inc(len(question.texts))
        results = [[{"image": hit.name, "score": round(hit.score, 6)} for hit in hits] for hits in found]
        return JSONResponse({"model": service.model.label, "results": results})

    @router.get("/health")
    async def health() -> JSONResponse:
        images = 0 if service.session is None else len(service.session.index)
        return JSONResponse({"status": "ok", "model": service.model.label, "images": images})

    @router.get("/metrics")
    async def metrics() -> Response:
        return Response(generate_latest(service.metrics), media_type=CONTENT_TYPE_PLAIN_0_0_4)

    return router


@contextmanager
def listen(host: str, port: int) -> Iterator[tuple[socket.socket, str]]:
    """Bind an address, port 0 a free one; yield socket and URL. Raise a DataError where that fails."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as bound:
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            bound.bind((host, port))
        except (OSError, OverflowError) as error:
            problem = f"{host}:{port}: cannot listen there ({error})"
            raise DataError(f"{problem}; choose another --port or --host") from error
        name = f"[{host}]" if ":" in host else host
        yield bound, f"http://{name}:{bound.getsockname()[1]}/"


def web_server(app: FastAPI, limits: Limits) -> uvicorn.Server:
    """Configure the HTTP server of an application; `run(sockets=[...])` serves until a signal comes."""
    config = uvicorn.Config(
        app,
        log_level="warning",
        access_log=False,  # queries are private
        lifespan="off",
        server_header=False,
        timeout_keep_alive=5,
        timeout_graceful_shutdown=20,
        limit_concurrency=limits.queue + 1000,  # the queue answers better, this is the last resort
        ws="none",
    )
    return _Server(config, limits.body_seconds)


class _Server(uvicorn.Server):
    """Closes connections that wait too long: for a header, or for a client that does not read its answer."""

    def __init__(self, config: uvicorn.Config, seconds: float) -> None:
        super().__init__(config)
        self._seconds, self._since = seconds, dict[Any, float]()

    async def on_tick(self, counter: int) -> bool:
        now, waiting = time.monotonic(), dict[Any, float]()
        for each in cast(set[Any], self.server_state.connections):
            if each.cycle is None or each.cycle.response_complete or each.flow.write_paused:
                waiting[each, each.cycle] = self._since.get((each, each.cycle), now)
        self._since = waiting
        for (each, _), began in waiting.items():
            if now - began > self._seconds:
                each.transport.abort()
        return await super().on_tick(counter)
