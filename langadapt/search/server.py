"""Serve a model and an index over HTTP: a JSON interface and, if wanted, a demo page.

One thread runs the model. A request that would wait behind too many others is refused with 503 and
`Retry-After`, so the client knows at once and memory stays bounded.
"""

import asyncio
import ipaddress
import socket
import time
from collections.abc import Awaitable, Callable, Coroutine, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Annotated, Any, TypeVar, cast
from urllib.parse import urlsplit

import uvicorn
from fastapi import APIRouter, FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import HTMLResponse, JSONResponse
from fastapi.routing import APIRoute
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4, generate_latest
from pydantic import BaseModel, ConfigDict, Field
from starlette.exceptions import HTTPException

from langadapt.errors import DataError, LangadaptError
from langadapt.evaluation.page import small_jpeg
from langadapt.files.templates import templates
from langadapt.models import LanguageModel
from langadapt.search.catalogue import display_name
from langadapt.search.index import Hit, SearchSession

_SIZES_PIXELS = {"small": 400, "large": 1600}
_HEADERS = {
    "Content-Security-Policy": "default-src 'none'; img-src 'self' data:; style-src 'unsafe-inline'; "
    "form-action 'self'; base-uri 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
}
_BUCKETS_SECONDS = (0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0)

T = TypeVar("T")


@dataclass(frozen=True, kw_only=True)
class Limits:
    """What one client, and all of them together, may request."""

    body_bytes: int = 1_000_000
    batch_texts: int = 64
    text_characters: int = 1000
    images_per_text: int = 500
    queue: int = 32
    """Requests that may wait for the model, including the running one."""
    body_seconds: float = 10.0
    """A client that sends its request more slowly is cut off."""


class EncodeQuestion(BaseModel):
    """Texts to embed."""

    model_config = ConfigDict(extra="forbid", strict=True)
    texts: Annotated[list[str], Field(min_length=1)]


class SearchQuestion(EncodeQuestion):
    """Texts to search for, and how many images are wanted for each."""

    count: Annotated[int, Field(ge=1)] = 10


class Service:
    """A model, perhaps a search session, and the one thread that uses them."""

    def __init__(self, model: LanguageModel, session: SearchSession | None, limits: Limits) -> None:
        self.model, self.session, self.limits = model, session, limits
        self._waiting = 0
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="model")
        self.metrics = CollectorRegistry()
        ProcessCollector(registry=self.metrics)
        options: Any = {"namespace": "langadapt", "registry": self.metrics}
        self.requests = Counter("requests", "Requests", ["path", "status"], **options)
        self.seconds = Histogram("request_seconds", "Duration", buckets=_BUCKETS_SECONDS, **options)
        self.texts = Counter("texts", "Texts that were encoded", **options)
        self.refused = Counter("refused", "Requests refused by the full queue", **options)
        Gauge("waiting_requests", "Requests in the queue", **options).set_function(lambda: self._waiting)

    async def run(self, function: Callable[..., T], *arguments: Any, **options: Any) -> T:
        """Call a function in the model's thread, or refuse with 503 where too many requests wait."""
        if self._waiting >= self.limits.queue:
            self.refused.inc()
            busy = f"busy: {self._waiting} requests wait already; try again"
            raise HTTPException(503, busy, headers={"Retry-After": "1"})
        self._waiting += 1
        try:
            return await asyncio.wrap_future(self._thread.submit(function, *arguments, **options))
        finally:
            self._waiting -= 1

    def check(self, texts: list[str]) -> None:
        """Refuse too many or too long texts; the model itself refuses empty ones."""
        _check_limit("{} texts in one request", len(texts), self.limits.batch_texts)
        _check_limit("a text of {} characters", max(map(len, texts)), self.limits.text_characters)

    def close(self) -> None:
        """Let the model's thread finish what it began."""
        self._thread.shutdown(wait=True, cancel_futures=True)


def _check_limit(what: str, number: int, most: int) -> None:
    if number > most:
        raise HTTPException(413, f"{what.format(number)}, {most:,} are allowed")


def create_app(service: Service, *, private: bool = True, page_images: int = 0) -> FastAPI:
    """Create the web application.

    `private` answers only requests that name this machine, so that no website can read the images through a
    host name that it points here. `page_images` per query are shown by the demo page; 0 serves no page.
    """
    handlers: Any = {
        LangadaptError: lambda request, error: _error(400, str(error)),
        HTTPException: lambda request, error: _error(error.status_code, str(error.detail), error.headers),
    }
    app = FastAPI(title="langadapt", docs_url=None, redoc_url=None, exception_handlers=handlers)

    @app.middleware("http")
    async def guard(request: Request, call_next: Callable[[Request], Awaitable[Response]]) -> Response:
        started, status = time.perf_counter(), 500
        try:
            allowed = not private or is_loopback(_host_name(request))
            response = await call_next(request) if allowed else _error(403, "unknown host")
            response.headers.update(_HEADERS)
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
        app.include_router(_page(service, service.session, page_images))
    return app


def _error(status: int, line: str, headers: Any = None) -> JSONResponse:
    return JSONResponse({"error": _printable(line)}, status_code=status, headers=headers)


def _printable(line: str) -> str:
    """Replace what is not UTF-8; a path may hold such bytes."""
    return line.encode("utf-8", "replace").decode()


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

    class LimitedRequest(Request):
        async def body(self) -> bytes:
            if not hasattr(self, "_body"):
                self._body = await _read_body(self, service.limits)
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


async def _read_body(request: Request, limits: Limits) -> bytes:
    announced = request.headers.get("content-length", "")
    if announced.isdigit():
        _check_limit("a body of {:,} bytes", int(announced), limits.body_bytes)
    body = bytearray()
    try:
        async with asyncio.timeout(limits.body_seconds):
            async for chunk in request.stream():
                body += chunk
                _check_limit("a body of at least {:,} bytes", len(body), limits.body_bytes)
    except TimeoutError:
        raise HTTPException(408, "the request came too slowly") from None
    return bytes(body)


def _page(service: Service, session: SearchSession, count: int) -> APIRouter:
    """Build the demo page: plain HTML without scripts that loads nothing from elsewhere."""
    router = APIRouter()
    template = templates("langadapt.search", escape_html=True).get_template("demo.html")

    def image_number(text: str) -> int:
        if text.isascii() and text.isdigit() and len(text) < 12 and int(text) < len(session.index):
            return int(text)
        raise DataError("there is no image of that number; search again")

    async def find(query: str | None, like: str | None) -> tuple[list[Hit] | None, str]:
        if like:
            number = image_number(like)
            hits = await service.run(session.similar, number, count=count)
            return hits, f"images like {display_name(session.index.names[number])}"
        if query is None:
            return None, ""
        if not query.strip():
            raise DataError("the query is empty; write what the image shows")
        service.check([query])
        (hits,) = await service.run(session.by_text, [query], count=count)
        return hits, "best images first"

    @router.api_route("/", methods=["GET", "HEAD"])
    async def page(q: str | None = None, like: str | None = None) -> HTMLResponse:
        started, status, hits, heading, problem = time.perf_counter(), 200, None, "", ""
        try:
            hits, heading = await find(q, like)
        except LangadaptError as error:
            problem = _printable(str(error))
        except HTTPException as error:
            problem, status = error.detail, error.status_code
        text = template.render(
            recipe=session.model.artifact.recipe,
            images=len(session.index),
            query=q or "",
            hits=hits,
            heading=heading,
            problem=problem,
            milliseconds=1000 * (time.perf_counter() - started),
        )
        return HTMLResponse(text, status_code=status)

    @router.api_route("/{size}/{number}", methods=["GET", "HEAD"])
    def image(size: str, number: str) -> Response:
        if size not in _SIZES_PIXELS:
            raise HTTPException(404, "Not Found")
        try:
            raw = small_jpeg(session.index.path(image_number(number)), long_side_pixels=_SIZES_PIXELS[size])
        except DataError as error:
            raise HTTPException(404, str(error)) from error
        return Response(raw, media_type="image/jpeg")

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
