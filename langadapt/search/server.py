"""Encode and search over HTTP: JSON in, JSON out, bounded in every direction.

One thread runs the model. Requests that would wait behind too many others are turned away with 503 and
`Retry-After`, so that a client is told at once and memory stays what it is.
"""

import asyncio
import ipaddress
import resource
import socket
import threading
import time
from bisect import bisect_left
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from socket import AF_INET6
from typing import Annotated, Any, TypeVar
from urllib.parse import parse_qs, urlsplit

import uvicorn
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, PlainTextResponse
from pydantic import BaseModel, ConfigDict, Field
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from langadapt.errors import DataError, LangadaptError
from langadapt.evaluation.page import small_jpeg
from langadapt.models import LanguageModel
from langadapt.search.demo_page import demo_page
from langadapt.search.search import SearchSession

PATHS = ("/encode", "/search", "/health", "/metrics")

_RETRY_SECONDS = 1

T = TypeVar("T")


@dataclass(frozen=True, kw_only=True)
class ServiceLimits:
    """What one client and all of them together may ask for."""

    body_bytes: int = 1_000_000
    batch_texts: int = 64
    text_characters: int = 1000
    images_per_text: int = 500
    queue: int = 32
    """Requests that may wait for the model, the running one included."""
    body_seconds: float = 10.0
    """A client that sends its request more slowly is cut off."""


class _Question(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)
    texts: Annotated[list[str], Field(min_length=1)]


class EncodeQuestion(_Question):
    """Texts to embed."""


class SearchQuestion(_Question):
    """Texts to look for, and how many images are wanted for each."""

    count: Annotated[int, Field(ge=1)] = 10


class Refused(Exception):
    """A request that is answered with an error's status and one line."""

    def __init__(self, status: int, line: str) -> None:
        super().__init__(line)
        self.status = status


class Service:
    """A model and perhaps an index, asked by one thread.

    Args:
        model: encodes texts.
        session: searches; None where no images were named.
        limits: what may be asked for.
    """

    def __init__(self, model: LanguageModel, session: SearchSession | None, limits: ServiceLimits) -> None:
        self.model, self.session, self.limits = model, session, limits
        self.metrics = ServiceMetrics()
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="model")

    def encode(self, texts: list[str]) -> list[list[float]]:
        """Unit rows."""
        rows: list[list[float]] = self.model.encode_text(texts).tolist()
        self.metrics.texts += len(texts)
        return rows

    def search(self, texts: list[str], count: int) -> list[list[dict[str, Any]]]:
        """The best images of each text; names are relative to the folder that was indexed."""
        if self.session is None:
            raise Refused(404, "no images are served here; start `langadapt serve` with a folder of images")
        found = self.session.by_text(texts, count=count)
        self.metrics.texts += len(texts)
        return [[{"image": hit.name, "score": round(hit.score, 6)} for hit in hits] for hits in found]

    async def run(self, work: Callable[[], T]) -> T:
        """Runs something in the model's thread, if not too many wait for it."""
        if self.metrics.waiting >= self.limits.queue:
            self.metrics.refused += 1
            raise Refused(503, f"busy: {self.metrics.waiting} requests wait already; try again")
        self.metrics.waiting += 1
        try:
            return await asyncio.get_running_loop().run_in_executor(self._thread, work)
        finally:
            self.metrics.waiting -= 1

    def check(self, texts: list[str]) -> None:
        """Refuses too many or too long texts; empty ones the model refuses itself."""
        if len(texts) > self.limits.batch_texts:
            raise Refused(413, f"{len(texts)} texts in one request, {self.limits.batch_texts} are allowed")
        longest = max(map(len, texts))
        if longest > self.limits.text_characters:
            raise Refused(413, f"a text of {longest} characters, {self.limits.text_characters} are allowed")

    def close(self) -> None:
        """Lets the model's thread finish what it began."""
        self._thread.shutdown(wait=True, cancel_futures=True)


def service_app(service: Service, *, private: bool = True) -> FastAPI:
    """The web application.

    Args:
        service: answers.
        private: only requests that name this machine are answered (a page elsewhere may not ask through a
            name that it points here).
    """
    app = FastAPI(title="langadapt", docs_url=None, redoc_url=None)

    @app.post("/encode")
    async def encode(question: EncodeQuestion) -> JSONResponse:
        service.check(question.texts)
        rows = await service.run(lambda: service.encode(question.texts))
        return JSONResponse({"model": service.model.label, "dim": service.model.dim, "embeddings": rows})

    @app.post("/search")
    async def search(question: SearchQuestion) -> JSONResponse:
        service.check(question.texts)
        count = min(question.count, service.limits.images_per_text)
        found = await service.run(lambda: service.search(question.texts, count))
        return JSONResponse({"model": service.model.label, "results": found})

    @app.get("/health")
    async def health() -> JSONResponse:
        images = 0 if service.session is None else len(service.session.index)
        return JSONResponse({"status": "ok", "model": service.model.label, "images": images})

    @app.get("/metrics")
    async def metrics() -> PlainTextResponse:
        return PlainTextResponse(service.metrics.text(), media_type="text/plain; version=0.0.4")

    @app.exception_handler(Refused)
    async def refused(request: Request, error: Refused) -> JSONResponse:
        headers = {"Retry-After": str(_RETRY_SECONDS)} if error.status == 503 else None
        return JSONResponse({"error": str(error)}, status_code=error.status, headers=headers)

    @app.exception_handler(LangadaptError)
    async def own(request: Request, error: LangadaptError) -> JSONResponse:
        return JSONResponse({"error": str(error)}, status_code=400)

    @app.exception_handler(HTTPException)
    async def plain(request: Request, error: HTTPException) -> JSONResponse:
        return JSONResponse({"error": str(error.detail)}, status_code=error.status_code)

    @app.exception_handler(RequestValidationError)
    async def invalid(request: Request, error: RequestValidationError) -> JSONResponse:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"] if part != "body")
        return JSONResponse({"error": f"{place or 'body'}: {first['msg']}"}, status_code=422)

    app.add_middleware(_Gate, service=service, private=private)
    return app


def _again(body: bytes, receive: Receive) -> Receive:
    """Hands out a body that was read already, then what comes after it."""
    given = False

    async def hand_out() -> Message:
        nonlocal given
        if given:
            return await receive()
        given = True
        return {"type": "http.request", "body": body, "more_body": False}

    return hand_out


class _Gate:
    """Stands before everything: the host, the size and the speed of the body, and the counts."""

    def __init__(self, app: ASGIApp, *, service: Service, private: bool) -> None:
        self._app, self._service, self._private = app, service, private

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        began, status = time.perf_counter(), 500

        async def counted(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            try:
                self._check_host(scope)
                limit = self._service.limits.body_seconds
                body = await asyncio.wait_for(self._body(scope, receive), limit)
            except Refused as error:
                answer = JSONResponse({"error": str(error)}, status_code=error.status)
                await answer(scope, receive, counted)
            except TimeoutError:
                slow = JSONResponse({"error": "the request came too slowly"}, status_code=408)
                await slow(scope, receive, counted)
            else:
                await self._app(scope, _again(body, receive), counted)
        finally:
            path = scope["path"] if scope["path"] in PATHS else "other"
            self._service.metrics.answered(path, status, time.perf_counter() - began)

    def _check_host(self, scope: Scope) -> None:
        if not self._private:
            return
        host = dict(scope["headers"]).get(b"host", b"").decode("latin-1")
        try:
            name = urlsplit(f"//{host}").hostname or ""
        except ValueError:
            name = ""
        if not is_loopback(name):
            raise Refused(403, "unknown host")

    async def _body(self, scope: Scope, receive: Receive) -> bytes:
        most = self._service.limits.body_bytes
        said = dict(scope["headers"]).get(b"content-length", b"0")
        if said.isdigit() and int(said) > most:
            raise Refused(413, f"a body of {int(said):,} bytes, {most:,} are allowed")
        body = bytearray()
        while True:
            message = await receive()
            if message["type"] != "http.request":
                raise Refused(400, "the client went away")
            body += message.get("body", b"")
            if len(body) > most:
                raise Refused(413, f"a body of more than {most:,} bytes")
            if not message.get("more_body"):
                return bytes(body)


_SIZES_PIXELS = {"small": 400, "large": 1600}

_LONGEST_QUERY = 1000

_HEADERS = {
    "Content-Security-Policy": "default-src 'none'; img-src 'self' data:; style-src 'unsafe-inline'; "
    "form-action 'self'; base-uri 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
}


class DemoServer(ThreadingHTTPServer):
    """Serves one search session.

    Args:
        session: who answers.
        host: address to listen on; anything but this machine's own shows the pictures to the network.
        port: 0 takes a free one.
        count: images per query.

    Raises:
        DataError: the address cannot be listened on.
    """

    daemon_threads = True

    def __init__(
        self, session: SearchSession, *, host: str = "127.0.0.1", port: int = 0, count: int = 24
    ) -> None:
        self.session = session
        self.host = host
        self.count = count
        self.asking = threading.Lock()
        if ":" in host:
            self.address_family = AF_INET6
        try:
            super().__init__((host, port), _Handler)
        except (OSError, OverflowError) as error:
            raise DataError(
                f"{host}:{port}: cannot listen there ({error}); choose another --port or --host"
            ) from error

    @property
    def url(self) -> str:
        """Where the page is."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"http://{host}:{self.server_address[1]}/"

    @property
    def is_private(self) -> bool:
        """Whether only this machine can reach it."""
        return is_loopback(self.host)


def is_loopback(host: str) -> bool:
    """Whether an address or name means this machine."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


class _Handler(BaseHTTPRequestHandler):
    server: DemoServer
    server_version = "langadapt"
    sys_version = ""
    timeout = 30

    def do_GET(self) -> None:
        asked = urlsplit(self.path)
        if not self._host_is_ours():
            self._answer(HTTPStatus.FORBIDDEN, "text/plain", b"unknown host\n")
            return
        kind, _, number = asked.path.strip("/").partition("/")
        if kind in _SIZES_PIXELS:
            self._picture(number, _SIZES_PIXELS[kind])
        elif asked.path == "/":
            self._page(parse_qs(asked.query, max_num_fields=8))
        else:
            self._answer(HTTPStatus.NOT_FOUND, "text/plain", b"no such page\n")

    do_HEAD = do_GET

    def _host_is_ours(self) -> bool:
        """Another site must not read the pictures through a name that it points at this machine."""
        if not self.server.is_private:
            return True
        name = urlsplit(f"//{self.headers.get('Host', '')}").hostname or ""
        return is_loopback(name)

    def _page(self, asked: dict[str, list[str]]) -> None:
        session, began = self.server.session, time.perf_counter()
        query, like = asked.get("q", [""])[0], asked.get("like", [""])[0]
        given: dict[str, Any] = {"query": query}
        try:
            with self.server.asking:
                if like:
                    number = self._number(like)
                    given["like"] = session.index.path(number).name
                    given["hits"] = session.by_image(number, count=self.server.count)
                elif query.strip():
                    if len(query) > _LONGEST_QUERY:
                        raise DataError(f"the query is longer than {_LONGEST_QUERY} characters; shorten it")
                    given["hits"] = session.by_text([query], count=self.server.count)[0]
                elif "q" in asked:
                    given["problem"] = "The query is empty; write what the picture shows."
        except LangadaptError as error:
            given["problem"] = str(error)
        page = demo_page(
            session.model.artifact.recipe,
            images=len(session.index),
            milliseconds=1000 * (time.perf_counter() - began),
            **given,
        )
        self._answer(HTTPStatus.OK, "text/html; charset=utf-8", page.encode("utf-8", "replace"))

    def _picture(self, number: str, long_side_pixels: int) -> None:
        try:
            path = self.server.session.index.path(self._number(number))
            raw = small_jpeg(path, long_side_pixels=long_side_pixels)
        except DataError as error:
            self._answer(
                HTTPStatus.NOT_FOUND, "text/plain; charset=utf-8", f"{error}\n".encode("utf-8", "replace")
            )
            return
        self._answer(HTTPStatus.OK, "image/jpeg", raw)

    def _number(self, text: str) -> int:
        if not (
            text.isascii()
            and text.isdigit()
            and len(text) < 12
            and int(text) < len(self.server.session.index)
        ):
            raise DataError("there is no image of that number; search again")
        return int(text)

    def _answer(self, status: HTTPStatus, kind: str, content: bytes) -> None:
        self.send_response(status)
        for name, value in {**_HEADERS, "Content-Type": kind, "Content-Length": str(len(content))}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    def log_message(self, format: str, *arguments: object) -> None:
        """Says nothing: queries are the user's own affair."""


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


_BOUNDS_SECONDS = (0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0)


class ServiceMetrics:
    """Requests by path and status, their times, and the texts that were encoded."""

    def __init__(self) -> None:
        self.waiting = 0
        """Requests that are accepted and not answered."""
        self.refused = 0
        """Requests that the full queue turned away."""
        self.texts = 0
        self._lock = threading.Lock()
        self._answers: dict[tuple[str, int], int] = {}
        self._buckets = [0] * (len(_BOUNDS_SECONDS) + 1)
        self._seconds = 0.0
        self._started = time.time()

    def answered(self, path: str, status: int, seconds: float) -> None:
        """Counts an answer; an unknown path is counted as `other`, so that nobody makes names here."""
        with self._lock:
            self._answers[path, status] = self._answers.get((path, status), 0) + 1
            self._buckets[bisect_left(_BOUNDS_SECONDS, seconds)] += 1
            self._seconds += seconds

    def text(self) -> str:
        """The text format of Prometheus, version 0.0.4."""
        with self._lock:
            answers, buckets, seconds = dict(self._answers), list(self._buckets), self._seconds
        lines = ["# TYPE langadapt_requests_total counter"]
        lines += [
            f'langadapt_requests_total{{path="{path}",status="{status}"}} {count}'
            for (path, status), count in sorted(answers.items())
        ]
        lines.append("# TYPE langadapt_request_seconds histogram")
        total = 0
        for bound, count in zip((*_BOUNDS_SECONDS, "+Inf"), buckets, strict=True):
            total += count
            lines.append(f'langadapt_request_seconds_bucket{{le="{bound}"}} {total}')
        lines += [f"langadapt_request_seconds_sum {seconds:.6f}", f"langadapt_request_seconds_count {total}"]
        for name, kind, value in (
            ("texts_total", "counter", self.texts),
            ("refused_total", "counter", self.refused),
            ("waiting_requests", "gauge", self.waiting),
            ("resident_memory_bytes", "gauge", resident_bytes()),
            ("start_time_seconds", "gauge", round(self._started, 3)),
        ):
            lines += [f"# TYPE langadapt_{name} {kind}", f"langadapt_{name} {value}"]
        return "\n".join(lines) + "\n"


def resident_bytes() -> int:
    """Memory of this process; where the system does not say, the most it ever had."""
    try:
        return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()
    except OSError:
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
