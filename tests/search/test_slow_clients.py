"""Clients that drip, stop, hang up or speak nonsense get a line, or are cut off; the next one is answered."""

import logging
import socket
import threading
import time
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest
from fastapi.responses import PlainTextResponse

from langadapt.search.server import create_app, listen, web_server
from langadapt.search.service import Limits, Service

pytestmark = [pytest.mark.enable_socket, pytest.mark.allow_hosts(["127.0.0.1"])]
SECONDS = 0.4


@pytest.fixture(scope="module")
def port() -> Iterator[int]:
    model: Any = SimpleNamespace(label="m", dim=3)
    service = Service(model, None, Limits(body_seconds=SECONDS))
    app = create_app(service)
    app.add_api_route("/long", lambda: PlainTextResponse("x" * 50_000_000))
    with listen("127.0.0.1", 0) as (bound, _):
        server = web_server(app, service.limits)
        thread = threading.Thread(target=server.run, kwargs={"sockets": [bound]})
        thread.start()
        while not server.started:
            assert thread.is_alive()
            time.sleep(0.01)
        yield bound.getsockname()[1]
        server.should_exit = True
        thread.join(20)
    service.close()


HEALTH = b"GET /health HTTP/1.1\r\nHost: localhost\r\n"


def connect(port: int) -> socket.socket:
    return socket.create_connection(("127.0.0.1", port), timeout=20)


def receive(client: socket.socket, end: bytes = b'"images":0}') -> bytes:
    got = b""
    while end not in got and (more := client.recv(4096)):
        got += more
    return got


def answers(port: int) -> bool:
    with connect(port) as client:
        client.sendall(HEALTH + b"\r\n")
        return b'"status":"ok"' in receive(client)


@pytest.mark.parametrize("first", [b"", HEALTH + b"\r\n"], ids=["new", "kept alive"])
def test_a_header_that_drips_is_cut_off(port: int, first: bytes) -> None:
    with connect(port) as client:
        if first:
            client.sendall(first)
            assert b"200 OK" in receive(client)
        began, ended = time.monotonic(), False
        client.sendall(b"GET /health HTTP/1.1\r\nHost: localhost\r\nX: ")
        while not ended:
            assert time.monotonic() - began < 15, "the connection is still open"
            try:
                client.sendall(b"x")
                client.settimeout(0.05)
                ended = client.recv(1) == b""
            except TimeoutError:
                continue
            except ConnectionError:
                ended = True
    assert answers(port)


def test_a_client_that_does_not_read_is_cut_off(port: int) -> None:
    with connect(port) as client:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        client.sendall(b"GET /long HTTP/1.1\r\nHost: localhost\r\n\r\n")
        deadline = time.monotonic() + 15
        while True:
            assert time.monotonic() < deadline, "the connection is still open"
            time.sleep(0.1)
            try:
                client.sendall(b"x")
            except ConnectionError:
                break
    assert answers(port)


def test_a_client_that_asks_again_and_again_is_not(port: int) -> None:
    with connect(port) as client:
        began = time.monotonic()
        while time.monotonic() - began < 3 * SECONDS:
            client.sendall(HEALTH + b"\r\n")
            assert b'"status":"ok"' in receive(client)
            time.sleep(0.01)


@pytest.fixture
def server_log(caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> pytest.LogCaptureFixture:
    """What uvicorn logs; by itself it passes nothing on."""
    monkeypatch.setattr(logging.getLogger("uvicorn"), "propagate", True)
    return caplog


@pytest.mark.parametrize(
    ("request_line", "status"),
    [
        (b"GET http://[::1 HTTP/1.1\r\nHost: localhost", b"404"),
        (b"GET /health HTTP/1.1\r\nHost: [", b"403"),
        (b"GET /health HTTP/1.1\r\nHost: \xff\xfe", b"403"),
        (b"GET /health?" + b"a=1&" * 200 + b" HTTP/1.1\r\nHost: localhost", b"200"),
        (b"GET /%ff%fe HTTP/1.1\r\nHost: localhost", b"404"),
        (b"GET /health HTTP/1.1", b"400"),
        (b"POST /encode HTTP/1.1\r\nHost: localhost\r\nContent-Length: -5", b"400"),
        (b"POST /encode HTTP/1.1\r\nHost: localhost\r\nContent-Length: " + b"9" * 5000, b"400"),
        (b"GET /health HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: upgrade", b"200"),
        (b"\x16\x03\x01", b"400"),
    ],
    ids=range(10),
)
def test_nonsense_gets_a_status(
    port: int, request_line: bytes, status: bytes, server_log: pytest.LogCaptureFixture
) -> None:
    with connect(port) as client:
        client.sendall(request_line + b"\r\n\r\n")
        assert receive(client, b"\r\n\r\n").split()[1] == status
    assert "Traceback" not in server_log.text
    assert answers(port)


def test_a_client_that_hangs_up(port: int, server_log: pytest.LogCaptureFixture) -> None:
    for sent in (
        b"GET /long HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"POST /encode HTTP/1.1\r\nHost: localhost\r\nContent-Length: 90\r\n\r\n{",
    ):
        with connect(port) as client:
            client.sendall(sent)
    time.sleep(2 * SECONDS)
    assert "Traceback" not in server_log.text
    assert [record for record in server_log.records if record.exc_info] == []
    assert answers(port)
