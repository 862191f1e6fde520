"""Base models and artifacts from a stand-in of the Hub on the loopback address."""

import hashlib
import http.server
import json
import threading
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import unquote, urlsplit

import numpy as np
import pytest
from own_endpoint import use_endpoint

from langadapt.errors import ModelError
from langadapt.models import load_teacher, resolve_model
from langadapt.models.load import ResolvedModel
from langadapt.recipes import ModelRef

REVISION = "0123456789" * 4
pytestmark = pytest.mark.hub


class Hub(http.server.BaseHTTPRequestHandler):
    """As much of the Hub's API as fetching a public, a gated and a missing repository needs."""

    folder: Path

    def do_HEAD(self) -> None:
        self.answer(body=False)

    def do_GET(self) -> None:
        self.answer(body=True)

    def answer(self, *, body: bool) -> None:
        path = unquote(urlsplit(self.path).path)
        if "/gated/" in path or path.endswith("/gated"):
            return self.send(403, b"{}", {"X-Error-Code": "GatedRepo"}, body=body)
        if "some/teacher" not in path:
            return self.send(404, b"{}", {"X-Error-Code": "RepoNotFound"}, body=body)
        if path.startswith("/api/models/"):
            _, kind, revision = path.removeprefix("/api/models/some/teacher").split("/", 2)
            if revision not in ("main", REVISION):
                return self.send(404, b"{}", {"X-Error-Code": "RevisionNotFound"}, body=body)
            names = sorted(item.name for item in self.folder.iterdir())
            if kind == "tree":
                facts = [
                    {"type": "file", "path": n, "size": (self.folder / n).stat().st_size, "oid": "0" * 40}
                    for n in names
                ]
                return self.send(200, json.dumps(facts).encode(), {}, body=body)
            siblings = [{"rfilename": name} for name in names]
            facts = {
                "id": "some/teacher",
                "sha": REVISION,
                "siblings": siblings,
                "private": False,
                "tags": [],
            }
            return self.send(200, json.dumps(facts).encode(), {}, body=body)
        content = (self.folder / path.rsplit("/", 1)[-1]).read_bytes()
        tag = f'"{hashlib.sha256(content).hexdigest()}"'
        return self.send(200, content, {"X-Repo-Commit": REVISION, "ETag": tag}, body=body)

    def send(self, status: int, content: bytes, headers: dict[str, str], *, body: bool) -> None:
        self.send_response(status)
        for name, value in {**headers, "Content-Length": str(len(content))}.items():
            self.send_header(name, value)
        self.end_headers()
        if body:
            self.wfile.write(content)

    def log_message(self, format: str, *args: object) -> None:
        """Says nothing."""


def stop(server: http.server.ThreadingHTTPServer) -> None:
    server.shutdown()
    server.server_close()


@pytest.fixture
def server(
    teacher_folder: Path, socket_enabled: None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> Iterator[http.server.ThreadingHTTPServer]:
    Hub.folder = teacher_folder
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    use_endpoint(monkeypatch, f"http://127.0.0.1:{server.server_port}", cache=tmp_path)
    yield server
    stop(server)


def row(source: ResolvedModel) -> list[float]:
    teacher = load_teacher(source)
    tokens = teacher.tokenize(["a red cat at sea"])
    (row,) = teacher.embed_texts(teacher.batch(tokens, np.zeros(1, np.int64))).tolist()
    return list(row)


def test_a_teacher_from_the_hub(server: http.server.ThreadingHTTPServer, teacher_folder: Path) -> None:
    teacher = ModelRef(repo="some/teacher", revision=REVISION)
    fetched = resolve_model(teacher)
    assert (fetched.revision, fetched.label) == (REVISION, "teacher@012345678901")
    local = row(resolve_model(ModelRef(repo=str(teacher_folder))))
    assert row(fetched) == local
    for ref, words in (
        (ModelRef(repo="some/gated"), "accept its terms at https://huggingface.co/some/gated"),
        (ModelRef(repo="some/thing"), "not on the Hub, or private"),
        (ModelRef(repo="some/teacher", revision="f" * 40), f"no revision {'f' * 40}"),
    ):
        with pytest.raises(ModelError, match=words) as error:
            resolve_model(ref)
        assert "\n" not in str(error.value)
    stop(server)
    assert row(resolve_model(teacher)) == local, "kept"
    with pytest.raises(ModelError, match="the Hub is out of reach"):
        resolve_model(ModelRef(repo="some/other"))
