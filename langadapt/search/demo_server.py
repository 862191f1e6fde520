"""The demo's web server: the standard library's, on this machine only unless asked otherwise.

It answers GET with pages and with pictures by their number in the index: no path from outside reaches the
disk.
"""

import ipaddress
import threading
import time
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from socket import AF_INET6
from typing import Any
from urllib.parse import parse_qs, urlsplit

from langadapt.errors import DataError, LangadaptError
from langadapt.evaluation.thumbnails import small_jpeg
from langadapt.search.demo_page import demo_page
from langadapt.search.session import SearchSession

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
