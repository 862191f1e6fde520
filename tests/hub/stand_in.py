"""As much of the Hub as creating, filling and reading a model repository needs, over HTTP.

It keeps what the real one guarantees: a token decides who may write where, large files come first and by
their SHA-256, and what a commit does not name is not visible.
"""

import base64
import hashlib
import http.server
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import pytest
import yaml
from huggingface_hub import constants

from langadapt.files import fetch

WRITER, READER = "hf_" + "w" * 34, "hf_" + "r" * 34


@dataclass
class Repository:
    private: bool = False
    commits: list[tuple[str, dict[str, bytes]]] = field(default_factory=list)

    @property
    def head(self) -> str:
        return self.commits[-1][0]

    def commit(self, files: dict[str, bytes]) -> str:
        number = len(self.commits)
        merged = {**(self.commits[-1][1] if self.commits else {}), **files}
        revision = hashlib.sha1(repr((number, sorted(merged))).encode()).hexdigest()
        self.commits.append((revision, merged))
        return revision

    def at(self, revision: str) -> tuple[str, dict[str, bytes]] | None:
        if revision == "main":
            return self.commits[-1]
        return next((found for found in self.commits if found[0] == revision), None)


@dataclass
class State:
    """The users `me` (a writer) and `you`; `me` may read all public repositories."""

    repositories: dict[str, Repository] = field(default_factory=dict)
    large: dict[str, bytes] = field(default_factory=dict)
    collections: dict[str, dict[str, Any]] = field(default_factory=dict)
    changes: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    """Pull requests of a repository, as the Hub lists them."""
    requests: list[str] = field(default_factory=list)
    downloads: list[str] = field(default_factory=list)
    fails: dict[str, int] = field(default_factory=dict)
    """Answers this status to requests whose line contains the key."""
    stalls: str | None = None
    """A request whose line contains it is read and never answered; `stalled` is set."""
    stalled: threading.Event = field(default_factory=threading.Event)
    release: threading.Event = field(default_factory=threading.Event)

    def made(self, name: str, *, private: bool = False, **files: bytes) -> Repository:
        self.repositories[name] = Repository(private=private)
        self.repositories[name].commit({".gitattributes": b"", **files})
        return self.repositories[name]

    def at_revision(self, name: str, revision: str, files: dict[str, bytes]) -> None:
        """A repository with one commit of a given name; a data set is called `datasets/org/name`."""
        self.repositories[name] = Repository(commits=[(revision, files)])


class Handler(http.server.BaseHTTPRequestHandler):
    state: State
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        if self.place.startswith("/api/collections/"):
            return self.collection(200, self.place.removeprefix("/api/collections/"))
        return self.read(body=True)

    def do_HEAD(self) -> None:
        self.read(body=False)

    def do_PUT(self) -> None:
        content = self.content()
        if self.interrupted():
            return None
        name = self.place.rpartition("/")[2]
        if hashlib.sha256(content).hexdigest() != name:
            return self.send(400, b"sum of another content")
        self.state.large[name] = content
        return self.send(200, b"")

    def do_POST(self) -> None:
        content = self.content()
        if self.interrupted():
            return None
        if self.place == "/api/validate-yaml":
            return self.validate(json.loads(content))
        if self.who() is None:
            said = {"error": "Invalid credentials in Authorization header"}
            return self.answer(401, said, {"X-Error-Message": said["error"]})
        if self.place == "/api/repos/create":
            return self.create(json.loads(content))
        if self.place.startswith("/api/collections"):
            return self.collect(json.loads(content))
        if self.place.endswith("/info/lfs/objects/batch"):
            return self.batch(json.loads(content))
        if self.place == "/verify":
            return self.answer(200 if json.loads(content)["oid"] in self.state.large else 404, {})
        _, _, _, owner, short, verb, revision = self.place.split("/")
        name = f"{owner}/{short}"
        if name not in self.state.repositories:
            return self.answer(404, {}, {"X-Error-Code": "RepoNotFound"})
        if not self.may_write(name):
            return self.answer(403, {"error": "Forbidden: you need write access"})
        repository = self.state.repositories[name]
        assert revision == "main"
        if verb == "preupload":
            return self.preupload(repository, json.loads(content))
        assert verb == "commit", self.place
        return self.commit(name, repository, [json.loads(line) for line in content.splitlines()])

    def read(self, *, body: bool) -> None:
        if self.interrupted():
            return None
        parts = self.place.strip("/").split("/")
        api = parts[:2] in (["api", "models"], ["api", "datasets"])
        # A data set's name is kept as its page's: datasets/org/name.
        if "datasets" in parts[:2]:
            parts = (
                [*parts[:1], *parts[1:2], f"datasets/{parts[2]}", *parts[3:]]
                if api
                else [f"datasets/{parts[1]}", *parts[2:]]
            )
        name = "/".join(parts[2:4] if api else parts[:2])
        if self.headers.get("Authorization") and self.who() is None:
            said = "Invalid credentials in Authorization header"
            return self.answer(401, {"error": said}, {"X-Error-Message": said}, body=body)
        repository = self.state.repositories.get(name)
        if repository is None or (repository.private and not self.may_write(name)):
            return self.answer(404, {}, {"X-Error-Code": "RepoNotFound"}, body=body)
        rest = parts[4:] if api else parts[3:]
        if rest[:1] == ["discussions"]:
            listed = self.state.changes.get(name, [])
            return self.answer(200, {"discussions": listed, "count": len(listed), "start": 0})
        if rest[:1] == ["revision"]:
            rest = ["revision", "/".join(rest[1:])]
        wanted = (rest[1] if rest else "main") if api else rest[0]
        found = repository.at(wanted)
        if found is None:
            return self.answer(404, {}, {"X-Error-Code": "RevisionNotFound"}, body=body)
        revision, files = found
        if not api:
            path = "/".join(rest[1:])
            if path not in files:
                return self.answer(404, {}, {"X-Error-Code": "EntryNotFound"}, body=body)
            tag = f'"{hashlib.sha256(files[path]).hexdigest()}"'
            if body:
                self.state.downloads.append(f"{name}/{path}")
            return self.send(200, files[path], {"X-Repo-Commit": revision, "ETag": tag}, body=body)
        if rest and rest[0] == "tree":
            rows = [
                {"type": "file", "path": path, "size": len(content), "oid": blob(content)}
                for path, content in files.items()
            ]
            return self.answer(200, rows, body=body)
        facts = {
            "id": name,
            "sha": revision,
            "private": repository.private,
            "siblings": [{"rfilename": path, "size": len(files[path])} for path in files],
            "tags": [],
        }
        return self.answer(200, facts, body=body)

    def validate(self, said: dict[str, str]) -> None:
        """The rules of the real one that can be stated here."""
        text = said["content"]
        block = text.split("---\n")[1] if text.startswith("---\n") else ""
        errors = [{"message": line} for line in card_faults(yaml.safe_load(block) or {})]
        return self.answer(400 if errors else 200, {"errors": errors, "warnings": []})

    def create(self, said: dict[str, Any]) -> None:
        name = f"{said['organization']}/{said['name']}"
        if not self.may_write(name):
            return self.answer(403, {"error": f"You don't have the rights to create a model under {name}"})
        if name in self.state.repositories:
            return self.answer(409, {"error": "You already created this model repo", "url": self.url(name)})
        self.state.made(name, private=said.get("visibility") == "private")
        return self.answer(200, {"url": self.url(name), "id": name})

    def collect(self, said: dict[str, Any]) -> None:
        """A collection of the same title is there already: 409 with its slug; so is an item of it."""
        if "item" in said:
            slug = self.place.removeprefix("/api/collections/").removesuffix("/items")
            items = self.state.collections[slug]["items"]
            status = 409 if said["item"]["id"] in items else 200
            if status == 200:
                items.append(said["item"]["id"])
        else:
            slug = f"{said['namespace']}/{said['title']}-1"
            status = 409 if slug in self.state.collections else 200
            kept = {"title": said["title"], "private": said["private"], "items": []}
            self.state.collections.setdefault(slug, kept)
        return self.collection(status, slug)

    def collection(self, status: int, slug: str) -> None:
        facts = {
            "slug": slug,
            "title": "",
            "owner": {},
            "items": [],
            "lastUpdated": "2026-01-01T00:00:00.000Z",
        }
        more = {"position": 0, "private": False, "theme": "", "upvotes": 0, "gating": False}
        return self.answer(status, {**facts, **more, "error": "there already"})

    def preupload(self, repository: Repository, said: dict[str, Any]) -> None:
        files = repository.commits[-1][1]
        rows = []
        for file in said["files"]:
            path = file["path"]
            large = path.endswith(".safetensors")
            now = files.get(path)
            known = None if now is None else hashlib.sha256(now).hexdigest() if large else blob(now)
            rows.append(
                {
                    "path": path,
                    "uploadMode": "lfs" if large else "regular",
                    "shouldIgnore": False,
                    "oid": known,
                }
            )
        return self.answer(200, {"files": rows})

    def batch(self, said: dict[str, Any]) -> None:
        rows = []
        for item in said["objects"]:
            row: dict[str, Any] = {"oid": item["oid"], "size": item["size"]}
            if item["oid"] not in self.state.large:
                row["actions"] = {
                    "upload": {"href": f"{self.url('large')}/{item['oid']}"},
                    "verify": {"href": self.url("verify")},
                }
            rows.append(row)
        return self.answer(200, {"transfer": "basic", "objects": rows})

    def commit(self, name: str, repository: Repository, lines: list[dict[str, Any]]) -> None:
        header = lines[0]["value"]
        if header.get("parentCommit") not in (None, repository.head):
            return self.answer(412, {"error": "A commit has happened since."})
        files = {}
        for line in lines[1:]:
            value = line["value"]
            if line["key"] == "lfsFile" and value["oid"] not in self.state.large:
                return self.answer(400, {"error": "the content was not uploaded"})
            large = line["key"] == "lfsFile"
            files[value["path"]] = (
                self.state.large[value["oid"]] if large else base64.b64decode(value["content"])
            )
        revision = repository.commit(files)
        url = f"{self.url(name)}/commit/{revision}"
        return self.answer(200, {"commitUrl": url, "commitOid": revision, "success": True})

    def who(self) -> str | None:
        token = (self.headers.get("Authorization") or "").removeprefix("Bearer ")
        return {WRITER: "me", READER: "reader"}.get(token)

    def may_write(self, name: str) -> bool:
        return self.who() == "me" and name.startswith("me/")

    @property
    def place(self) -> str:
        return unquote(urlsplit(self.path).path)

    def url(self, path: str) -> str:
        host, port = self.server.server_address[:2]
        return f"http://{host}:{port}/{path}"

    def content(self) -> bytes:
        if self.headers.get("Transfer-Encoding") != "chunked":
            return self.rfile.read(int(self.headers.get("Content-Length") or 0))
        chunks = []
        while size := int(self.rfile.readline(), 16):
            chunks.append(self.rfile.read(size))
            self.rfile.readline()
        self.rfile.readline()
        return b"".join(chunks)

    def interrupted(self) -> bool:
        line = f"{self.command} {self.place}"
        self.state.requests.append(line)
        if self.state.stalls and self.state.stalls in line:
            self.state.stalled.set()
            self.state.release.wait(60)
            self.close_connection = True
            return True
        for part, status in self.state.fails.items():
            if part in line:
                # What comes back may hold what was sent.
                self.answer(status, {"error": f"answered {status} to {self.headers.get('Authorization')}"})
                return True
        return False

    def answer(
        self, status: int, said: object, headers: dict[str, str] | None = None, *, body: bool = True
    ) -> None:
        self.send(
            status,
            json.dumps(said).encode(),
            {"Content-Type": "application/json", **(headers or {})},
            body=body,
        )

    def send(
        self, status: int, content: bytes, headers: dict[str, str] | None = None, *, body: bool = True
    ) -> None:
        self.send_response(status)
        for name, value in {**(headers or {}), "Content-Length": str(len(content))}.items():
            self.send_header(name, value)
        self.end_headers()
        if body:
            self.wfile.write(content)

    def log_message(self, format: str, *args: object) -> None:
        """Says nothing."""


@dataclass(frozen=True, kw_only=True)
class OwnHub:
    """Where it is and what it holds."""

    url: str
    state: State


def blob(content: bytes) -> str:
    """The id that git gives to a content."""
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()


def card_faults(block: object) -> list[str]:
    """What the Hub's documentation of a card's metadata demands, as far as it applies."""
    if not isinstance(block, dict):
        return ["metadata is no mapping"]
    faults = []
    for key in ("language", "tags", "datasets", "base_model", "metrics"):
        value = block.get(key)
        rows = value if isinstance(value, list) else [value] if value is not None else []
        faults += [f"{key} must hold texts" for row in rows if not isinstance(row, str)]
    if not isinstance(block.get("license"), str) or block["license"] != block["license"].lower():
        faults.append("license must be an identifier")
    if block.get("license") == "other" and not block.get("license_name"):
        faults.append("license_name is needed with other")
    if block.get("base_model_relation") not in (None, "adapter", "finetune", "merge", "quantized"):
        faults.append("base_model_relation")
    for model in block.get("model-index") or []:
        if not isinstance(model.get("name"), str):
            faults.append("model-index name")
        for result in model.get("results", []):
            if not result.get("task", {}).get("type") or not result.get("dataset", {}).get("type"):
                faults.append("model-index task and dataset need a type")
            if not result.get("dataset", {}).get("name"):
                faults.append("model-index dataset needs a name")
            for metric in result.get("metrics", []):
                if not metric.get("type") or not isinstance(metric.get("value"), int | float):
                    faults.append("model-index metric needs a type and a value")
    return faults


@contextmanager
def hub() -> Iterator[OwnHub]:
    """A fresh Hub."""
    state = State()
    handler = type("OwnHandler", (Handler,), {"state": state})
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    try:
        yield OwnHub(url=f"http://127.0.0.1:{server.server_port}", state=state)
    finally:
        state.release.set()
        server.shutdown()
        server.server_close()


@contextmanager
def use_hub(monkeypatch: pytest.MonkeyPatch, folder: Path) -> Iterator[OwnHub]:
    """A fresh Hub that this process writes to, without waiting between its tries."""
    monkeypatch.setenv("HF_TOKEN", WRITER)
    monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(folder / "no-token"))
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)
    with hub() as made:
        monkeypatch.setattr(constants, "ENDPOINT", made.url)
        monkeypatch.setattr(fetch, "_FIRST_WAIT_SECONDS", 0.01)
        yield made
