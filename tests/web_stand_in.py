"""A web server of this process that plays all hosts but the Hub, with the faults that real ones have."""

import http.server
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from langadapt.data import sources
from langadapt.files import fetch


@dataclass
class Web:
    """Files by host and path, `host/folder/file`; `cut` of them ends after so many bytes, once."""

    files: dict[str, bytes] = field(default_factory=dict)
    cut: dict[str, int] = field(default_factory=dict)
    html: bool = False
    asked: list[tuple[str, int]] = field(default_factory=list)
    """Path of each request, and the byte from which it was answered."""
    url: str = ""


@contextmanager
def web(monkeypatch: pytest.MonkeyPatch) -> Iterator[Web]:
    state = Web()

    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            name, wanted = self.path.strip("/"), self.headers.get("Range", "")
            known = f'"{len(state.files.get(name, b""))}"'
            fits = bool(wanted) and self.headers.get("If-Range") == known
            start = int(wanted.removeprefix("bytes=").rstrip("-")) if fits else 0
            state.asked.append((name, start))
            if state.html:
                return self.reply(200, b"<html>log in</html>", {"Content-Type": "text/html"})
            if name not in state.files:
                return self.reply(404, b"", {})
            content, tag = state.files[name], known
            return self.reply(
                206 if start else 200, content[start:], {"ETag": tag}, state.cut.pop(name, None)
            )

        def reply(self, status: int, content: bytes, headers: dict[str, str], cut: int | None = None) -> None:
            self.send_response(status)
            for key, value in {**headers, "Content-Length": str(len(content))}.items():
                self.send_header(key, value)
            self.end_headers()
            self.wfile.write(content if cut is None else content[:cut])
            self.close_connection = cut is not None

        def log_message(self, *_: object) -> None:
            return

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    state.url = f"http://127.0.0.1:{server.server_port}"

    def here(url: str) -> str:
        parts = urlsplit(url)
        return f"{state.url}/{parts.hostname}{parts.path}"

    def download(url: str, path: Path, **options: object) -> None:
        fetch.download(here(url), path, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(sources, "download", download)
    monkeypatch.setattr(sources, "download_small", lambda url, path: fetch.download_small(here(url), path))
    try:
        yield state
    finally:
        server.shutdown()
        server.server_close()
