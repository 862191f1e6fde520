"""As much of the Hub as fetching a model needs, on the loopback address, and it stutters."""

import hashlib
import http.server
import json
import random
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import unquote, urlsplit

_REVISION = "0123456789" * 4


@contextmanager
def bad_hub(folder: Path, kind: str, rng: random.Random) -> Iterator[str]:
    """Serves `some/teacher` from a folder.

    Args:
        folder: its files.
        kind: `429`, `500` and `cut` befall the first answers to some requests, `wrong once` the first copy of
            some file, `always wrong` every copy of one.
        rng: which ones.
    """
    victim = rng.choice(sorted(path.name for path in folder.iterdir() if path.suffix == ".safetensors"))
    seen: dict[str, int] = {}

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_HEAD(self) -> None:
            self._answer(body=False)

        def do_GET(self) -> None:
            self._answer(body=True)

        def _answer(self, *, body: bool) -> None:
            path = unquote(urlsplit(self.path).path)
            seen[path] = seen.get(path, 0) + 1
            first = seen[path] == 1
            if kind in ("429", "500") and first and rng.random() < 0.6:
                self._send(int(kind), b"{}", {"Retry-After": "0"} if kind == "429" else {}, body=body)
                return
            if path.startswith("/api/models/"):
                names = sorted(item.name for item in folder.iterdir())
                facts: object = {
                    "id": "some/teacher", "sha": _REVISION, "private": False, "tags": [],
                    "siblings": [{"rfilename": name} for name in names],
                }  # fmt: skip
                if "/tree/" in path:
                    sizes = {name: (folder / name).stat().st_size for name in names}
                    facts = [
                        {"type": "file", "path": n, "size": s, "oid": "0" * 40} for n, s in sizes.items()
                    ]
                self._send(200, json.dumps(facts).encode(), {}, body=body)
                return
            name = path.rsplit("/", 1)[-1]
            if not (folder / name).is_file():
                self._send(404, b"{}", {}, body=body)  # the library also asks for things of its own
                return
            content = (folder / name).read_bytes()
            tag = f'"{hashlib.sha256(content).hexdigest()}"'
            headers = {"X-Repo-Commit": _REVISION, "ETag": tag}
            if body and name == victim:
                seen["copies"] = seen.get("copies", 0) + 1
                if kind == "always wrong" or (kind == "wrong once" and seen["copies"] == 1):
                    content = content[:-1] + bytes([content[-1] ^ 1])
            self._send(
                200, content, headers, body=body, cut=kind == "cut" and body and first and rng.random() < 0.6
            )

        def _send(
            self, status: int, content: bytes, headers: dict[str, str], *, body: bool, cut: bool = False
        ) -> None:
            self.send_response(status)
            for key, value in {**headers, "Content-Length": str(len(content))}.items():
                self.send_header(key, value)
            self.end_headers()
            if body:
                self.wfile.write(content[: len(content) // 2] if cut else content)
            if cut:
                self.close_connection = True

        def log_message(self, format: str, *arguments: object) -> None:
            """Says nothing."""

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
