"""Encode and search over HTTP: JSON in, JSON out, bounded in every direction.

One thread runs the model. Requests that would wait behind too many others are turned away with 503 and
`Retry-After`, so that a client is told at once and memory stays what it is.
"""

import asyncio
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Annotated, Any, TypeVar
from urllib.parse import urlsplit

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, PlainTextResponse
from pydantic import BaseModel, ConfigDict, Field
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from langadapt.errors import LangadaptError
from langadapt.models import LanguageModel
from langadapt.search.demo_server import is_loopback
from langadapt.search.service_metrics import ServiceMetrics
from langadapt.search.session import SearchSession

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
