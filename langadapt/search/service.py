"""What the JSON interface and the demo page share: one model in one thread, and limits of what is asked."""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, TypeVar

from fastapi import Request
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector
from starlette.exceptions import HTTPException

from langadapt.models import LanguageModel
from langadapt.search.index import SearchSession

_BUCKETS_SECONDS = (0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0)

T = TypeVar("T")


@dataclass(frozen=True, kw_only=True)
class Limits:
    """What one client, and all of them together, may request."""

    body_bytes: int = 1_000_000
    image_bytes: int = 20_000_000
    """Of an image that is uploaded to search by it."""
    batch_texts: int = 64
    text_characters: int = 1000
    images_per_text: int = 500
    queue: int = 32
    """Requests that may wait for the model, including the running one."""
    body_seconds: float = 10.0
    """A client that sends its request more slowly is cut off."""


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


async def read_body(request: Request, *, most_bytes: int, seconds: float) -> bytes:
    """Read a request's body; a larger one is refused with 413, a slower one with 408."""
    announced = request.headers.get("content-length", "")
    if announced.isdigit():
        _check_limit("a body of {:,} bytes", int(announced), most_bytes)
    body = bytearray()
    try:
        async with asyncio.timeout(seconds):
            async for chunk in request.stream():
                body += chunk
                _check_limit("a body of at least {:,} bytes", len(body), most_bytes)
    except TimeoutError:
        raise HTTPException(408, "the request came too slowly") from None
    return bytes(body)
