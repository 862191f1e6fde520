import http.server
import shutil
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import datasets
import huggingface_hub.constants
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from langadapt.data.readers import read_hub_values
from langadapt.errors import DataError
from langadapt.recipes import HubSource

REVISION = "0123456789" * 4


@pytest.fixture(autouse=True)
def _own_hub_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # Both libraries read the environment when they are imported; these are the values they keep.
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache" / "datasets")
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "cache" / "hub"))
    monkeypatch.setattr(huggingface_hub.constants, "HF_TOKEN_PATH", str(tmp_path / "no-token"))
    datasets.disable_progress_bars()


def offline(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)


def source(repo: str, **keys: object) -> HubSource:
    return HubSource.model_validate({"kind": "hub", "repo": repo, **keys})


def fault(found: HubSource, *columns: str) -> str:
    with pytest.raises(DataError) as caught:
        list(read_hub_values(found, columns or ("english", "target")))
    message = str(caught.value)
    assert message.startswith(found.repo)
    assert "\n" not in message
    return message.removeprefix(found.repo)


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """A folder laid out like a Hub repository: `datasets` reads both through the same builder."""
    folder = tmp_path / "tiny"
    folder.mkdir()
    rows = [{"translation": {"en": f"e{n}", "zh": f"z{n}"}, "note": f"n{n}", "n": n} for n in range(2500)]
    pq.write_table(pa.Table.from_pylist(rows), folder / "train.parquet")
    rows[1]["note"] = "  "
    pq.write_table(pa.Table.from_pylist(rows[:3]), folder / "test.parquet")
    return folder


def test_rows_in_the_order_of_the_asked_columns(repository: Path) -> None:
    columns = ("translation.zh", "note", "translation.en")
    rows = list(read_hub_values(source(str(repository), revision=REVISION), columns))
    assert [row.values for row in rows] == [(f"z{n}", f"n{n}", f"e{n}") for n in range(2500)]
    assert rows[7].where.endswith("split train: row 8")


def test_faults_inside_a_data_set(repository: Path) -> None:
    here = str(repository)
    assert ", split train: no column 'notes'; there are: translation, note, n; did you mean 'note'?" in fault(
        source(here), "notes"
    )
    assert ": row 1: translation: no column 'de'; there are: en, zh" in fault(source(here), "translation.de")
    assert "no split 'dev'; Unknown split" in fault(source(here, split="dev"), "note")
    assert "no config 'de-en'; BuilderConfig 'de-en' not found. Available" in fault(
        source(here, config="de-en"), "note"
    )
    (repository / "train.parquet").write_bytes(b"PAR1 nothing PAR1")
    assert "cannot be read (" in fault(source(here), "note")


def test_offline(monkeypatch: pytest.MonkeyPatch) -> None:
    offline(monkeypatch)
    message = fault(source("org/tiny", revision=REVISION))
    assert "the Hub is out of reach" in message
    assert "HF_HUB_OFFLINE" in message


def test_offline_never_reads_another_revision(
    repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    list(read_hub_values(source(str(repository)), ("note",)))
    # The same cache files where a load from the Hub leaves them: <org>___<name>/<config>/<version>/<commit>.
    [arrow] = (tmp_path / "cache").rglob("*-train.arrow")
    kept = tmp_path / "cache" / "datasets" / "org___tiny" / "default" / "0.0.0" / REVISION
    shutil.copytree(arrow.parent, kept)
    offline(monkeypatch)
    rows = list(read_hub_values(source("org/tiny", revision=REVISION), ("note",)))
    assert len(rows) == 2500
    other = "f" * 40
    assert f"the cache holds another revision than {other}" in fault(
        source("org/tiny", revision=other), "note"
    )


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[int, str], None]]:
    """A stand-in on the loopback address that answers every request with one status and error code."""
    answer: dict[str, object] = {}
    asked: list[str] = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            self.send_response(int(str(answer["status"])))
            self.send_header("X-Error-Code", str(answer["code"]))
            self.send_header("Content-Length", "0")
            self.end_headers()

        do_HEAD = do_GET

        def log_message(self, *_: object) -> None:
            return

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    monkeypatch.setattr(datasets.config, "HF_ENDPOINT", f"http://127.0.0.1:{server.server_port}")

    yield lambda status, code: answer.update(status=status, code=code)
    assert any(f"org/tiny/resolve/{REVISION}/" in path for path in asked)
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.mark.hub
@pytest.mark.allow_hosts(["127.0.0.1"])
@pytest.mark.parametrize(
    ("status", "code", "expected"),
    [
        (
            401,
            "GatedRepo",
            "accept its terms at https://huggingface.co/datasets/org/tiny, then run `hf auth login`",
        ),
        (
            403,
            "GatedRepo",
            "accept its terms at https://huggingface.co/datasets/org/tiny, then run `hf auth login`",
        ),
        (401, "", "run `hf auth login`"),
        (401, "RepoNotFound", "not on the Hub, or private; check the name at"),
        (404, "RepoNotFound", "not on the Hub, or private; check the name at"),
        (
            404,
            "RevisionNotFound",
            f"no revision {REVISION}; https://huggingface.co/datasets/org/tiny/commits/main",
        ),
        (418, "", "the Hub is out of reach"),
    ],
)
def test_answers_of_the_hub(hub: Callable[[int, str], None], status: int, code: str, expected: str) -> None:
    hub(status, code)
    assert expected in fault(source("org/tiny", revision=REVISION))
