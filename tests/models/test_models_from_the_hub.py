"""Base models and artifacts from a stand-in of the Hub on the loopback address."""

import hashlib
import http.server
import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest

REVISION = "0123456789" * 4
PROGRAM = """
import json, sys
import numpy as np
from langadapt.errors import LangadaptError
from langadapt.models import load_teacher, resolve_model
from langadapt.recipes import ModelRef
for line in sys.stdin:
    answers = []
    for ref in json.loads(line):
        try:
            found = resolve_model(ModelRef(**ref))
            teacher = load_teacher(found)
            tokens = teacher.tokenize(["a red cat at sea"])
            rows = teacher.embed_texts(teacher.batch(tokens, np.zeros(1, np.int64)))
            answers.append({"revision": found.revision, "label": found.label, "row": rows[0].tolist()})
        except LangadaptError as error:
            answers.append({"error": str(error)})
    print(json.dumps(answers), flush=True)
"""

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


@pytest.fixture
def server(teacher_folder: Path, socket_enabled: None) -> Iterator[http.server.ThreadingHTTPServer]:
    Hub.folder = teacher_folder
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server
    stop(server)


def stop(server: http.server.ThreadingHTTPServer) -> None:
    server.shutdown()
    server.server_close()


@pytest.fixture
def loader(server: http.server.ThreadingHTTPServer, tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    """A process of its own, for the library reads its endpoint when it is imported."""
    keep = {key: value for key, value in os.environ.items() if not key.startswith("HF_")}
    endpoint = f"http://127.0.0.1:{server.server_port}"
    with subprocess.Popen(
        [sys.executable, "-c", PROGRAM],
        env={**keep, "HF_ENDPOINT": endpoint, "HF_HOME": str(tmp_path), "HF_HUB_DISABLE_XET": "1"},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        yield process
        assert process.stdin is not None
        process.stdin.close()


def load(loader: subprocess.Popen[str], *refs: dict[str, str]) -> list[dict[str, object]]:
    assert loader.stdin is not None
    assert loader.stdout is not None
    loader.stdin.write(json.dumps(refs) + "\n")
    loader.stdin.flush()
    answers: list[dict[str, object]] = json.loads(loader.stdout.readline())
    return answers


def test_a_teacher_from_the_hub(
    server: http.server.ThreadingHTTPServer, loader: subprocess.Popen[str], teacher_folder: Path
) -> None:
    teacher = {"repo": "some/teacher", "revision": REVISION}
    fetched, local, gated, missing, no_revision = load(
        loader,
        teacher,
        {"repo": str(teacher_folder)},
        {"repo": "some/gated"},
        {"repo": "some/thing"},
        {"repo": "some/teacher", "revision": "f" * 40},
    )
    assert fetched.get("revision") == REVISION, fetched
    assert fetched["label"] == "teacher@012345678901"
    assert fetched["row"] == local["row"]
    for refused, words in (
        (gated, "accept its terms at https://huggingface.co/some/gated"),
        (missing, "no such model on the Hub"),
        (no_revision, "no such revision"),
    ):
        assert words in str(refused["error"])
        assert "\n" not in str(refused["error"])
    stop(server)
    cached, gone = load(loader, teacher, {"repo": "some/other"})
    assert cached["row"] == local["row"]
    assert "the Hub cannot be reached" in str(gone["error"])
