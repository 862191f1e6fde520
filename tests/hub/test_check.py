"""Recipes beside a stand-in of the Hub on the loopback address."""

import http.server
import json
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import unquote, urlsplit

import huggingface_hub.constants
import pytest
from huggingface_hub import HfApi

from langadapt.cli import main
from langadapt.cli.progress import console
from langadapt.hub.check import Checked, HubUnreachableError, check_data, check_language, hub_lookup
from langadapt.recipes import DataCard, LanguageRecipe, ParallelRecipe, find_language
from langadapt.recipes.find import RecipeFile

REVISION = "0123456789" * 4
OTHER = "f" * 40
CARD = {
    "license": "cc-by-4.0",
    "configs": [{"config_name": "de-en", "data_files": [{"split": "train", "path": "de-en/train-*"}]}],
    "dataset_info": [
        {
            "config_name": "de-en",
            "features": [{"name": "translation", "dtype": {"translation": {"languages": ["de", "en"]}}}],
            "splits": [{"name": "train", "num_examples": 500}, {"name": "test", "num_examples": 20}],
        }
    ],
}
REPOSITORIES = {
    "datasets/org/news": ([], CARD),
    "datasets/org/bare": (["sw-en/train.parquet"], {"license": "mit", "configs": []}),
    "models/org/text": (["model.safetensors"], {"license": "apache-2.0"}),
    "models/org/pickled": (["pytorch_model.bin"], {}),
}

pytestmark = [pytest.mark.hub, pytest.mark.allow_hosts(["127.0.0.1"])]


class Hub(http.server.BaseHTTPRequestHandler):
    asked: list[str]

    def do_GET(self) -> None:
        path = unquote(urlsplit(self.path).path).removeprefix("/api/")
        self.asked.append(path)
        repo, _, revision = path.partition("/revision/")
        if repo == "datasets/org/down":
            return self.send(503, {}, "")
        if repo == "datasets/org/gated":
            return self.send(403, {}, "GatedRepo")
        if repo not in REPOSITORIES:
            return self.send(404, {}, "RepoNotFound")
        if revision not in ("", REVISION):
            return self.send(404, {}, "RevisionNotFound")
        files, card = REPOSITORIES[repo]
        siblings = [{"rfilename": name} for name in files]
        self.send(200, {"id": repo, "sha": REVISION, "siblings": siblings, "cardData": card, "tags": []}, "")

    def send(self, status: int, answer: object, code: str) -> None:
        body = json.dumps(answer).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("X-Error-Code", code)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        return


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Hub, "asked", [], raising=False)
        made = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Hub)
        thread = threading.Thread(target=made.serve_forever, args=(0.01,), daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{made.server_port}"
        made.shutdown()
        made.server_close()
        thread.join()


def news(**keys: object) -> ParallelRecipe:
    source = {"kind": "hub", "repo": "org/news", "revision": REVISION, "config": "de-en", "split": "train"}
    base = {
        "name": "news",
        "title": "News",
        "licence": "CC-BY-4.0",
        "licence_source": "https://huggingface.co/datasets/org/news",
        "language": "de",
        "source": {**source, **dict(keys.pop("source", {}))},  # type: ignore[call-overload]
        "columns": {"english": "translation.en", "target": "translation.de"},
        "expected_rows": 500,
    }
    return ParallelRecipe.model_validate({**base, **keys})


def check(server: str, recipe: DataCard) -> Checked:
    look = hub_lookup(HfApi(endpoint=server))
    return check_data(RecipeFile(recipe=recipe, path=Path("own/news.yaml"), shipped=False), look)[0]


def states(checked: Checked) -> dict[str, str]:
    return {fact.key: fact.state for fact in checked.facts}


def test_everything_is_confirmed(server: str) -> None:
    checked = check(server, news(unverified=True))
    columns = ["columns.english", "columns.target"]
    source = ["source.repo", "source.revision", "source.config", "source.split"]
    assert states(checked) == dict.fromkeys([*source, *columns, "expected_rows", "licence"], "confirmed")
    assert checked.mark_can_go
    assert not check(server, news()).mark_can_go, "there is no mark"


@pytest.mark.parametrize(
    ("keys", "key", "says"),
    [
        ({"source": {"repo": "org/gone"}}, "source.repo", "no such data set"),
        ({"source": {"revision": OTHER}}, "source.revision", "no such revision"),
        ({"source": {"config": "fr-en"}}, "source.config", "the card has de-en"),
        ({"source": {"files": ("fr/*.parquet",)}}, "source.files", "it holds "),
        ({"source": {"split": "dev"}}, "source.split", "the card has test, train"),
        ({"columns": {"english": "en"}}, "columns.english", "translation, translation.de, translation.en"),
        ({"expected_rows": 20}, "expected_rows", "the card says 500"),
        ({"licence": "MIT"}, "licence", "the card says cc-by-4.0"),
        ({"licence": "unknown"}, "licence", "the card says cc-by-4.0"),
    ],
    ids=["repo", "revision", "config", "files", "split", "column", "rows", "licence", "unknown"],
)
def test_one_wrong_fact(server: str, keys: dict[str, object], key: str, says: str) -> None:
    checked = check(server, news(unverified=True, **keys))
    first = checked.wrong[0]
    assert (first.key, says in first.hub) == (key, True), first
    assert not checked.mark_can_go
    # `target` falls with `english` where both were renamed; nothing else is denied.
    assert {fact.key for fact in checked.wrong} <= {key, "columns.target"}


def test_what_the_hub_cannot_tell_stays_open(server: str) -> None:
    bare = check(server, news(source={"repo": "org/bare", "config": "sw-en"}, unverified=True))
    assert states(bare) == {
        "source.repo": "confirmed", "source.revision": "confirmed", "source.config": "open", "licence": "open"
    }  # fmt: skip
    assert "it was read at https://huggingface.co/datasets/org/news" in bare.facts[-1].hub
    gated = check(server, news(source={"repo": "org/gated"}, unverified=True))
    assert states(gated) == {"source.repo": "open"}
    unpinned = check(server, news(source={"revision": None}, unverified=True))
    assert states(unpinned)["source.revision"] == "open"
    files = check(server, news().model_copy(update={"source": None, "homepage": "https://example.org"}))
    assert [(fact.state, "https://example.org" in fact.hub) for fact in files.facts] == [("open", True)]
    assert not any(item.mark_can_go or item.wrong for item in (bare, gated, unpinned, files))


def test_the_models_of_a_language(server: str, languages_sw: LanguageRecipe, tmp_path: Path) -> None:
    source = "https://huggingface.co/org/text"
    text = {"repo": "org/text", "revision": REVISION, "licence": "Apache-2.0", "licence_source": source}
    pickled = {"repo": "org/pickled", "revision": REVISION, "unverified": True}
    recipe = languages_sw.model_copy(
        update={
            "text_model": languages_sw.text_model.model_copy(update=text),
            "teacher": languages_sw.teacher.model_copy(update=pickled),
        }
    )
    look = hub_lookup(HfApi(endpoint=server))
    teacher, model = check_language(RecipeFile(recipe=recipe, path=tmp_path / "sw.yaml", shipped=False), look)
    assert (model.name, model.confirmed, len(model.facts)) == ("sw: text_model", True, 4)
    assert [(fact.key, fact.says) for fact in teacher.wrong] == [("teacher.repo", "safetensors weights")]
    (tmp_path / "org" / "text").mkdir(parents=True)
    _, local = check_language(RecipeFile(recipe=recipe, path=tmp_path / "sw.yaml", shipped=False), look)
    assert states(local) == {"text_model.repo": "open"}, "a folder of that name comes first"


@pytest.fixture
def languages_sw() -> LanguageRecipe:
    return find_language("sw").recipe


def test_a_repository_is_asked_for_once(server: str) -> None:
    look = hub_lookup(HfApi(endpoint=server))
    before = len(Hub.asked)
    for config in ("de-en", "fr-en"):
        check_data(
            RecipeFile(recipe=news(source={"config": config}), path=Path("n.yaml"), shipped=False), look
        )
    assert Hub.asked[before:] == [f"datasets/org/news/revision/{REVISION}"]


def test_a_hub_that_is_down_checks_nothing(server: str) -> None:
    with pytest.raises(HubUnreachableError, match=r"org/down: .*503.*nothing was checked"):
        check(server, news(source={"repo": "org/down"}))


def own_language(folder: Path, **news_keys: object) -> Path:
    model = {"repo": "org/text", "revision": REVISION, "licence": "Apache-2.0"}
    recipe = {
        "code": "sn", "name": "Shona", "native_name": "chiShona", "iso639_3": "sna", "scripts": ["Latn"],
        "teacher": model, "text_model": model, "distill": {"data": ["./news.yaml"]},
    }  # fmt: skip
    data = news(**news_keys).model_dump(mode="json", exclude_none=True)
    (folder / "sn.yaml").write_text(json.dumps(recipe))  # JSON is YAML
    (folder / "news.yaml").write_text(json.dumps(data))
    return folder / "sn.yaml"


def test_the_command(
    server: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def run(endpoint: str, *arguments: str | Path) -> tuple[int, str, str]:
        monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", endpoint)
        monkeypatch.setattr(sys, "argv", ["langadapt", "languages", "check", *map(str, arguments)])
        monkeypatch.setattr(console, "width", 400)
        with pytest.raises(SystemExit) as stop:
            main()
        return int(stop.value.code or 0), *capsys.readouterr()

    code, out, said = run(server, own_language(tmp_path, unverified=True), "--json")
    assert code == 0, said
    assert {item["name"]: item["mark_can_go"] for item in json.loads(out)} == {
        "sn: teacher": False, "sn: text_model": False, "news": True
    }  # fmt: skip
    assert "news: confirmed; `unverified: true` may be removed" in said
    assert "3 confirmed, 0 wrong, 0 open" in said

    code, _, said = run(server, own_language(tmp_path, expected_rows=7))
    assert code == 1, said
    assert "news.yaml: news: expected_rows: says 7; the card says 500" in said
    assert "2 confirmed, 1 wrong, 0 open" in said

    code, _, said = run("http://127.0.0.1:9", own_language(tmp_path))
    assert code == 2
    (line,) = (line for line in said.splitlines() if line)
    assert line.startswith("langadapt: the Hub is out of reach (org/text: ")
