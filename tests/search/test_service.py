"""The service answers what the model says, refuses what is too much, and turns away what it cannot hold."""

import asyncio
import json
import threading
from pathlib import Path
from typing import Any

import pytest
import torch

from langadapt.data.images import list_images
from langadapt.errors import DataError
from langadapt.models import LanguageModel, load
from langadapt.recipes import find_language, override
from langadapt.search.index import open_session
from langadapt.search.server import create_app
from langadapt.search.service import Limits, Service
from langadapt.training import RunOptions, distill


@pytest.fixture(scope="module")
def model(language_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> LanguageModel:
    out = tmp_path_factory.mktemp("serve") / "es"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LANGADAPT_CACHE", str(tmp_path_factory.mktemp("serve-cache")))
        found = override(find_language(str(language_folder / "es.yaml")), ["distill.epochs=1"])
        distill(found, out, report=lambda progress: None, options=RunOptions(device=torch.device("cpu")))
    return load(out)


LIMITS = Limits(body_bytes=2000, batch_texts=3, text_characters=50, queue=2, body_seconds=1.0)


class Client:
    """Speaks ASGI: one request at a time, or several at once."""

    def __init__(self, service: Service, **options: Any) -> None:
        self.app = create_app(service, **options)

    async def one(
        self,
        method: str,
        path: str,
        body: bytes | None = b"",
        *,
        host: str = "localhost:1",
        said: int | None = None,
    ) -> tuple[int, dict[str, str], bytes]:
        length = len(body or b"") if said is None else said
        headers = [(b"host", host.encode()), (b"content-type", b"application/json")]
        headers.append((b"content-length", str(length).encode()))
        scope = {
            "type": "http", "method": method, "path": path, "raw_path": path.encode(), "query_string": b"",
            "headers": headers, "http_version": "1.1", "scheme": "http", "server": None,
            "client": ("127.0.0.1", 9),
        }  # fmt: skip
        pieces = [] if body is None else [body[i : i + 700] for i in range(0, len(body), 700)] or [b""]
        sent: list[dict[str, Any]] = []

        async def receive() -> dict[str, Any]:
            if not pieces:
                await asyncio.sleep(60)  # a client that sends nothing more
            return {"type": "http.request", "body": pieces.pop(0), "more_body": bool(pieces)}

        async def send(message: dict[str, Any]) -> None:
            sent.append(message)

        await self.app(scope, receive, send)
        answer = {key.decode(): value.decode() for key, value in sent[0]["headers"]}
        return sent[0]["status"], answer, b"".join(message.get("body", b"") for message in sent[1:])

    def ask(self, path: str, question: object, **more: Any) -> tuple[int, Any]:
        raw = question if isinstance(question, bytes) else json.dumps(question).encode()
        status, _, body = asyncio.run(self.one("POST", path, raw, **more))
        return status, json.loads(body)

    def get(self, path: str) -> tuple[int, str]:
        status, _, body = asyncio.run(self.one("GET", path))
        return status, body.decode()


@pytest.fixture
def service(model: LanguageModel, language_folder: Path) -> Service:
    session = open_session(language_folder / "photos", model, report=lambda progress: None)
    return Service(model, session, LIMITS)


def test_it_says_what_the_model_says(service: Service, model: LanguageModel, language_folder: Path) -> None:
    client, texts = Client(service), ["gato rojo en mar", "perro azul en parque"]
    status, said = client.ask("/encode", {"texts": texts})
    assert (status, said["dim"], said["model"]) == (200, model.dim, model.label)
    assert said["embeddings"] == model.encode_text(texts).tolist()
    status, said = client.ask("/search", {"texts": texts[:1], "count": 12})
    assert status == 200
    images = list_images(language_folder / "photos")
    scores = (model.encode_text(texts[:1]) @ model.encode_images(images).T)[0].tolist()
    best = sorted(range(12), key=lambda number: -scores[number])
    assert [hit["image"] for hit in said["results"][0]] == [images[number].name for number in best]
    assert client.get("/health")[0] == 200
    assert json.loads(client.get("/health")[1])["images"] == 12


@pytest.mark.parametrize(
    ("question", "status", "words"),
    [
        (b'{"texts": ["' + b"x" * 3000 + b'"]}', 413, "a body of 3,015 bytes, 2,000 are allowed"),
        ({"texts": ["gato"] * 4}, 413, "4 texts in one request, 3 are allowed"),
        ({"texts": ["g" * 51]}, 413, "a text of 51 characters, 50 are allowed"),
        ({"texts": [" "]}, 400, "is empty"),
        (b'{"texts": ["\\ud800"]}', 400, "is not Unicode"),
        ({"texts": []}, 422, "texts: "),
        ({"texts": [1]}, 422, "texts.0: "),
        ({"texts": ["gato"], "trust": True}, 422, "trust: "),
        (b"{", 422, ""),
        (b"[" * 1900, 400, ""),
        (b"\xff\xfe", 422, ""),
    ],
    ids=range(11),
)
def test_what_is_too_much_or_no_question(service: Service, question: object, status: int, words: str) -> None:
    got, said = Client(service).ask("/encode", question)
    assert got == status, said
    assert words in said["error"]
    assert said.keys() == {"error"}


def test_a_body_without_its_true_length(service: Service) -> None:
    raw = b'{"texts": ["' + b"x" * 3000 + b'"]}'
    assert Client(service).ask("/encode", raw, said=10)[0] == 413
    status, _, _ = asyncio.run(Client(service).one("POST", "/encode", None, said=10))
    assert status == 408, "a client that never sends its body"


def test_a_full_queue_refuses_and_says_when_to_come_again(
    service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    free, body = threading.Event(), json.dumps({"texts": ["gato"]}).encode()
    real = service.model.encode_text
    monkeypatch.setattr(service.model, "encode_text", lambda texts: free.wait(10) and real(texts))
    client = Client(service)

    async def crowd() -> list[tuple[int, dict[str, str], bytes]]:
        waiting = [asyncio.create_task(client.one("POST", "/encode", body)) for _ in range(5)]
        while b"langadapt_refused_total 3.0\n" not in (said := (await client.one("GET", "/metrics"))[2]):
            await asyncio.sleep(0.01)
        assert b"langadapt_waiting_requests 2.0\n" in said
        free.set()
        return await asyncio.gather(*waiting)

    answers = asyncio.run(asyncio.wait_for(crowd(), 20))
    assert sorted(status for status, _, _ in answers) == [200, 200, 503, 503, 503]
    assert {headers.get("retry-after") for status, headers, _ in answers if status == 503} == {"1"}
    assert client.ask("/encode", body)[0] == 200, "and afterwards it serves again"
    said = client.get("/metrics")[1]
    assert 'langadapt_requests_total{path="/encode",status="503"} 3.0' in said
    assert "langadapt_waiting_requests 0.0" in said


def test_nobody_makes_names_in_the_metrics(service: Service) -> None:
    client = Client(service)
    assert client.get("/a\nb")[0] == 404
    said = client.get("/metrics")[1]
    assert 'path="other",status="404"} 1.0' in said
    assert "langadapt_request_seconds_count 1.0" in said


def test_another_name_for_this_machine_is_not_answered(service: Service) -> None:
    for host, status in (
        ("evil.example", 403),
        ("[x", 403),
        ("", 403),
        ("127.0.0.1:7861", 200),
        ("[::1]:1", 200),
        ("192.168.0.9", 200),
    ):
        assert Client(service).ask("/encode", {"texts": ["gato"]}, host=host)[0] == status
    named = Client(service, hosts=["me-clip.hf.space"])
    for client, host, status in (
        (named, "me-clip.hf.space", 200),
        (named, "x.me-clip.hf.space", 403),
        (Client(service, hosts=["*"]), "evil.example", 200),
    ):
        assert client.ask("/encode", {"texts": ["gato"]}, host=host)[0] == status


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"frames": ["https://例え.jp"]}, "--allow-frame"),
        ({"frames": ["https://a.example; script-src *"]}, "--allow-frame"),
        ({"hosts": ["photos.example:8000"]}, "--allow-host"),
    ],
)
def test_hosts_and_sites_that_would_break_every_answer(service: Service, given: Any, said: str) -> None:
    with pytest.raises(DataError, match=said):
        Client(service, **given)


def test_a_host_is_the_same_in_capitals(service: Service) -> None:
    client = Client(service, hosts=["Photos.Example"])
    assert asyncio.run(client.one("GET", "/health", host="photos.example"))[0] == 200


def test_a_site_that_may_show_the_page_in_a_frame(service: Service) -> None:
    for frames, words in (
        ([], "frame-ancestors 'none'"),
        (["https://a.example"], "frame-ancestors https://a.example"),
    ):
        said = asyncio.run(Client(service, frames=frames).one("GET", "/health"))[1]
        assert said["content-security-policy"].endswith(words)


def test_without_images_there_is_nothing_to_search(model: LanguageModel) -> None:
    client = Client(Service(model, None, LIMITS))
    status, said = client.ask("/search", {"texts": ["gato"]})
    assert (status, said["error"][:25]) == (404, "no images are served here")
    assert client.ask("/encode", {"texts": ["gato"]})[0] == 200
