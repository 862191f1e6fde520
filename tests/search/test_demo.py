"""The demo page in a real browser, and its server against what should not be asked."""

import http.client
import queue
import re
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from urllib.parse import quote, urlsplit

import pytest
import torch
from chromium import Browser, faults
from PIL import Image

from langadapt.cli.search import serve_command
from langadapt.errors import DataError
from langadapt.models import LanguageModel, Student, load_teacher, load_text_model, resolve_model
from langadapt.models.artifact import Artifact, BaseModel
from langadapt.recipes import ModelRef, find_language
from langadapt.search.index import SearchSession, open_session
from langadapt.search.server import create_app, is_loopback, listen, web_server
from langadapt.search.service import Limits, Service

pytestmark = [pytest.mark.hub, pytest.mark.enable_socket, pytest.mark.allow_hosts(["127.0.0.1"])]

EVIL = '<script>document.title = "owned"</script>"\'&'
AWKWARD = '"><img src=x onerror=alert(1)>.png'


@pytest.fixture(scope="module")
def session(language_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> SearchSession:
    """The Spanish model, untrained, over its twelve pictures and one of an awkward name."""
    folder = tmp_path_factory.mktemp("demo")
    for path in (language_folder / "photos").iterdir():
        (folder / path.name).write_bytes(path.read_bytes())
    Image.new("RGB", (900, 600), (9, 200, 90)).save(folder / AWKWARD)
    recipe = find_language(str(language_folder / "es")).recipe
    teacher = load_teacher(resolve_model(ModelRef(repo=recipe.teacher.repo)))
    source = resolve_model(ModelRef(repo=recipe.text_model.repo))
    with torch.random.fork_rng():
        torch.manual_seed(3)
        text_model = load_text_model(source, recipe.text_model, max_tokens=16)
        student = Student(text_model=text_model, spec=recipe.adapter, target_dim=teacher.dim)
    base = BaseModel(repo="x", revision="y")
    artifact = Artifact(recipe=recipe, teacher=base, text_model=base, target_dim=teacher.dim, weights={})
    model = LanguageModel(artifact=artifact, student=student.eval(), teacher=teacher, text_source=source)
    return open_session(folder, model, report=lambda progress: None, index=folder.parent / "demo-index")


def in_arabic_script(session: SearchSession) -> SearchSession:
    """The same session of a language that is written from right to left."""
    recipe = session.model.artifact.recipe.model_copy(
        update={
            "direction": "rtl",
            "code": "ar",
            "native_name": "العربية",
            "examples": ("قط أحمر", "gato rojo"),
        }
    )
    artifact = replace(session.model.artifact, recipe=recipe)
    model = replace(session.model, artifact=artifact)
    return SearchSession(model=model, index=session.index)


@pytest.fixture
def serve() -> Iterator[object]:
    """`serve(session)` starts a server with the demo page and returns its URL."""
    with ExitStack() as stack:

        def start(session: SearchSession, count: int = 6) -> str:
            bound, url = stack.enter_context(listen("127.0.0.1", 0))
            service = Service(session.model, session, Limits())
            server = web_server(create_app(service, page_images=count), service.limits)
            thread = threading.Thread(target=server.run, kwargs={"sockets": [bound]})
            thread.start()

            def stop() -> None:
                server.should_exit = True
                thread.join(20)
                service.close()

            stack.callback(stop)
            while not server.started:
                assert thread.is_alive()
                time.sleep(0.01)
            return url

        yield start


def shown(browser: Browser) -> list[str]:
    names: list[str] = browser.value("[...document.querySelectorAll('.label')].map(e => e.textContent)")
    return names


def left_edges(browser: Browser, selector: str) -> list[float]:
    edges: list[float] = browser.value(
        f"[...document.querySelectorAll({selector!r})].map(e => e.getBoundingClientRect().left)"
    )
    return edges


def test_more_uploads_than_memory_allows_are_turned_away(serve, session) -> None:
    host, port = urlsplit(serve(session)).netloc.split(":")
    head = f"POST / HTTP/1.1\r\nHost: {host}\r\nContent-Length: 1000\r\n\r\n".encode()
    with ExitStack() as stack:
        answers = []
        for number in range(5):
            line = stack.enter_context(socket.create_connection((host, int(port)), timeout=20))
            line.sendall(head)
            answers.append(line)
            if number < 4:  # their bodies are awaited before the fifth asks
                line.sendall(b"x")
                time.sleep(0.2)
        said = answers[4].recv(4096).decode().lower()
    assert said.startswith("http/1.1 503")
    assert "\r\nretry-after: 1\r\n" in said


@pytest.mark.browser
def test_type_search_and_look_at_what_is_similar(browser: Browser, serve, session, tmp_path) -> None:
    url = serve(session)
    browser.requests.clear()
    browser.open(url)
    assert shown(browser) == [session.index.hit(number, score=0).name for number in (0, 3, 6, 9, 12)]
    assert browser.value(
        "[document.querySelector('button').textContent, document.querySelector('.more').textContent]"
    ) == ["Buscar", "Similares"]
    browser.wait_for("document.activeElement === document.querySelector('input')")
    browser.type("gato rojo en mar")
    browser.click("button")
    browser.wait_for("location.search.startsWith('?q=')")
    browser.settle()
    assert shown(browser) == [hit.name for hit in session.by_text(["gato rojo en mar"], count=6)[0]]
    assert browser.value("document.querySelector('input').value") == "gato rojo en mar"
    assert browser.value("[...document.images].every(i => i.naturalWidth > 0)"), "every picture is to be seen"
    first_row = left_edges(browser, "li")[:3]
    assert first_row == sorted(first_row), "the best image is the leftmost"
    browser.screenshot(tmp_path / "found.png")
    where = "(r => [r.x + r.width / 2, r.y + r.height / 2])(document.images[0].getBoundingClientRect())"
    seen = Image.open(tmp_path / "found.png").convert("RGB").getpixel(tuple(map(int, browser.value(where))))
    painted = Image.open(session.by_text(["gato rojo en mar"], count=1)[0][0].path).getpixel((0, 0))
    assert max(abs(a - b) for a, b in zip(seen, painted, strict=True)) < 8, "flat pictures: one pixel tells"

    second = browser.value("document.querySelectorAll('.more a')[1].getAttribute('href')")
    browser.click("li:nth-child(2) .more a")
    browser.wait_for(f"location.search === {second.lstrip('/')!r}")
    browser.settle()
    number = int(second.rpartition("=")[2])
    assert shown(browser) == [hit.name for hit in session.similar(number, count=6)]
    assert shown(browser)[0] == session.index.path(number).name
    outside = {address for address in browser.requests if not address.startswith((url, "data:"))}
    assert outside == set(), "nothing is loaded from elsewhere"


@pytest.mark.browser
def test_an_image_of_ones_own_finds_its_like(browser: Browser, serve, session) -> None:
    url = serve(session)
    browser.complaints.clear()
    browser.open(url)
    own = session.index.path(4)
    browser.choose_file("input[type=file]", own)
    browser.click(".upload button")
    browser.wait_for("document.querySelectorAll('.asked img').length === 1")
    browser.settle()
    assert shown(browser) == [hit.name for hit in session.by_image(own, count=6)]
    assert shown(browser)[0] == own.name
    assert browser.value("document.querySelector('.asked img').naturalWidth > 0"), "it is to be seen"
    assert browser.complaints == []


@pytest.mark.browser
@pytest.mark.parametrize(("width", "dark"), [(1280, False), (390, True)])
def test_the_page_is_whole_in_every_window(browser: Browser, serve, session, width: int, dark: bool) -> None:
    url = serve(in_arabic_script(session))
    browser.complaints.clear()
    browser.size(width, 900, dark=dark)
    for page in ("", "?q=gato", "?like=4", "?q=+"):
        browser.open(url + page)
        assert faults(browser) == [], page
    browser.size(1000, 800)


@pytest.mark.browser
def test_from_right_to_left(browser: Browser, serve, session) -> None:
    browser.open(serve(in_arabic_script(session)))
    assert browser.value("[document.documentElement.lang, document.dir]") == ["ar", "rtl"]
    (box,), (button,) = left_edges(browser, "[type=search]"), left_edges(browser, "[role=search] button")
    assert button < box
    examples = left_edges(browser, "nav a")
    assert examples == sorted(examples, reverse=True)
    browser.click("nav a")
    browser.wait_for("document.querySelectorAll('li').length > 0")
    assert browser.value("document.querySelector('input').value") == "قط أحمر"
    first_row = left_edges(browser, "li")[:3]
    assert first_row == sorted(first_row, reverse=True), "the best image is the rightmost"
    assert browser.value("document.documentElement.scrollWidth <= innerWidth")
    browser.size(360, 700)
    assert browser.value("document.documentElement.scrollWidth <= innerWidth"), "nor too wide for a telephone"
    browser.size(1000, 800)


@pytest.mark.browser
def test_texts_and_names_stay_texts(browser: Browser, serve, session) -> None:
    browser.open(f"{serve(session)}?q={quote(EVIL)}")
    assert browser.value("document.querySelector('input').value") == EVIL
    assert browser.value("document.title") == EVIL
    assert browser.value("document.scripts.length") == 0
    browser.open(f"{serve(session, count=50)}?q=gato")
    assert AWKWARD in shown(browser)
    assert browser.value("document.images.length") == 13


def ask(url: str, path: str, *, host: str | None = None, method: str = "GET") -> http.client.HTTPResponse:
    connection = http.client.HTTPConnection(urlsplit(url).netloc, timeout=20)
    connection.request(method, path, headers={} if host is None else {"Host": host})
    return connection.getresponse()


def test_only_indexed_pictures_leave_the_disk(serve, session) -> None:
    url = serve(session)
    picture = ask(url, "/small/0")
    assert (picture.status, picture.getheader("Content-Type")) == (200, "image/jpeg")
    assert max(Image.open(picture).size) == 400
    for path in (
        "/small/13",
        "/small/-1",
        "/small/../../etc/passwd",
        "/small/%2e%2e",
        "/small/١",
        "/etc/passwd",
    ):
        assert ask(url, quote(path, safe="/%")).status == 404, path
    assert ask(url, "/health", method="POST").status == 405
    # Else a website could point its own name here and read the images in the visitor's browser.
    assert ask(url, "/small/0", host="evil.example").status == 403
    head = ask(url, "/", method="HEAD")
    assert (head.status, head.read()) == (200, b"")
    assert "default-src 'none'" in str(head.getheader("Content-Security-Policy"))


@pytest.mark.parametrize(
    ("query", "status", "words"),
    [
        ("?q=+", 200, "query is empty"),
        (f"?q={'a' * 1001}", 413, "a text of 1001 characters, 1,000 are allowed"),
        ("?like=99", 200, "no image of that number"),
    ],
)
def test_what_cannot_be_answered_is_said(serve, session, query: str, status: int, words: str) -> None:
    answer = ask(serve(session), "/" + query)
    assert answer.status == status
    (problem,) = re.findall(r'<p class="problem">(.*?)</p>', answer.read().decode())
    assert words in problem


def send(url: str, body: bytes) -> tuple[int, str]:
    connection = http.client.HTTPConnection(urlsplit(url).netloc, timeout=20)
    connection.request("POST", "/", body, headers={"Content-Type": "multipart/form-data; boundary=B"})
    answer = connection.getresponse()
    (problem,) = re.findall(r'<p class="problem">(?:<bdi.*?>)?(.*?)(?:</bdi>)?</p>', answer.read().decode())
    return answer.status, problem


def form(content: bytes) -> bytes:
    head = b'Content-Disposition: form-data; name="image"; filename="a.png"\r\nContent-Type: image/png'
    return b"--B\r\n" + head + b"\r\n\r\n" + content + b"\r\n--B--\r\n"


def test_what_is_no_image_is_said(serve, session) -> None:
    url = serve(session)
    nothing = (200, "no image was sent; choose one first")
    assert [send(url, body) for body in (b"", b"\r\n\r\n\r\n", form(b""))] == [nothing] * 3
    assert send(url, form(b"words"))[1] == "this file: is not an image of a known kind; choose another image"
    damaged = session.index.path(0).read_bytes()[:100]
    assert "this file: damaged image" in send(url, form(damaged))[1]
    assert send(url, form(b"x" * 20_000_001)) == (413, "a body of 20,000,106 bytes, 20,000,000 are allowed")


def test_a_port_in_use_is_said(serve, session) -> None:
    port = urlsplit(serve(session)).port
    with (
        pytest.raises(DataError, match=f"127.0.0.1:{port}: cannot listen there .*--port"),
        listen("127.0.0.1", port),
    ):
        pass


def test_what_is_this_machine() -> None:
    names = {"127.0.0.1": True, "127.3.2.1": True, "::1": True, "localhost": True, "0.0.0.0": False}
    names |= {"192.168.0.9": False, "::": False, "localhost.evil.example": False, "": False}
    assert {name: is_loopback(name) for name in names} == names


def test_open_needs_a_page_and_opens_it_in_the_browser(monkeypatch: pytest.MonkeyPatch, session) -> None:
    with pytest.raises(DataError, match="--open opens the demo page: add --page"):
        serve_command("runs/es", None, open_page=True)
    opened: queue.Queue[str] = queue.Queue()
    monkeypatch.setattr("webbrowser.open", opened.put)
    monkeypatch.setattr("langadapt.cli.search.loaded_model", lambda run, device: session.model)
    monkeypatch.setattr("langadapt.cli.search._open_session", lambda *given: session)

    def served(app: object, limits: Limits) -> object:
        def accept(sockets: object) -> None:
            http.client.HTTPConnection(urlsplit(opened.get(timeout=20)).netloc).connect()

        return SimpleNamespace(run=accept)

    monkeypatch.setattr("langadapt.search.server.web_server", served)
    serve_command("runs/es", Path("photos"), port=0, page=True, open_page=True)
