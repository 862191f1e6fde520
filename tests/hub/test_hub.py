"""To a stand-in of the Hub: one commit or nothing; every refusal is one line without a token."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from huggingface_hub import ModelCard, constants, parse_eval_result_entries
from safetensors.torch import load_file
from sealing import reseal, reseal_json
from stand_in import READER, WRITER, OwnHub

from langadapt.errors import PublishError
from langadapt.hub.stage import Publication, StageOptions, publish, upload

pytestmark = pytest.mark.hub
FILES = {
    "README.md", "adapter.safetensors", "artifact.json", "recipe.yaml", "samples.safetensors", "scores.json"
}  # fmt: skip
LOAD = """
import json, sys
import langadapt
said = json.loads(sys.argv[1])
model = langadapt.load(**said)
samples = model.artifact.samples
rows = model.encode_text(list(samples.texts), exact=True)
print(json.dumps({"rows": rows.tolist(), "texts": samples.texts}))
"""
UPLOAD = """
import json, sys
from pathlib import Path
from langadapt.hub.stage import upload
folder, files = json.loads(sys.argv[1])
upload(Path(folder), files, repo="me/es", private=False)
"""


def publish_it(run: Path, repo: str = "me/clip-es", **options: object) -> Publication:
    return publish(run, options=StageOptions(repo=repo, local_base_models=True), **options)


def clean_environment(hub: OwnHub, home: Path) -> dict[str, str]:
    keep = {key: os.environ[key] for key in ("PATH", "PYTHONPATH", "OMP_NUM_THREADS") if key in os.environ}
    return {
        **keep,
        "HF_ENDPOINT": hub.url,
        "HF_HOME": str(home),
        "HF_HUB_DISABLE_XET": "1",
        "HOME": str(home),
    }


def refused(run: Path, *words: str, repo: str = "me/clip-es", **options: object) -> None:
    with pytest.raises(PublishError) as error:
        publish_it(run, repo, **options)
    said = str(error.value)
    assert "\n" not in said
    for word in words:
        assert word in said, said
    for token in (WRITER, READER, "hf_"):
        assert token not in said
    # A traceback of the HTTP library may show a request with its headers.
    assert error.value.__cause__ is None
    assert error.value.__context__ is None or error.value.__suppress_context__


@pytest.mark.slow
def test_what_is_published_loads_anywhere_as_it_was_trained(
    own_hub: OwnHub, run: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    first = publish_it(run)
    repository = own_hub.state.repositories["me/clip-es"]
    assert [len(files) for _, files in repository.commits] == [1, 1 + len(FILES)], "all in one commit"
    assert first.commit == repository.head
    assert set(repository.commits[-1][1]) == {".gitattributes", *FILES}
    assert not repository.private
    assert sum("PUT" in line for line in own_hub.state.requests) == 2, "both safetensors"
    assert "POST /api/validate-yaml" in own_hub.state.requests
    said = capfd.readouterr()
    assert WRITER not in said.out + said.err

    # Published again with other samples: who pins the first commit gets what it was.
    before = load_file(run / "samples.safetensors")["embeddings"]
    reseal_json(run / "scores.json", "es-test", "es-more")
    second = publish_it(run)
    assert second.commit != first.commit
    facts = json.loads((run / "artifact.json").read_text(encoding="utf-8"))
    places = {role: facts[role]["repo"] for role in ("teacher", "text_model")}
    said_to_load = json.dumps({"path_or_repo": "me/clip-es", "revision": first.commit, **places})
    done = subprocess.run(
        [sys.executable, "-c", LOAD, said_to_load],
        env=clean_environment(own_hub, tmp_path / "home"),
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    answer = json.loads(done.stdout)
    assert answer["rows"] == [pytest.approx(row, abs=1e-5) for row in before.tolist()]
    assert answer["texts"][0] == "gato rojo en mar"
    fetched = [line for line in own_hub.state.requests if line.startswith("GET /me/clip-es/resolve/")]
    assert fetched
    assert all(first.commit in line for line in fetched)


def test_scores_on_sets_of_the_hub_stand_where_it_reads_them(own_hub: OwnHub, run: Path) -> None:
    reseal_json(run / "scores.json", "es-test", "crossmodal-3600-es")
    publish_it(run)
    _, files = own_hub.state.repositories["me/clip-es"].commits[-1]
    (entry,) = parse_eval_result_entries(yaml.safe_load(files[".eval_results/langadapt.yaml"]))
    (card,) = json.loads((run / "scores.json").read_text(encoding="utf-8"))["cards"]
    assert (entry.dataset_id, entry.task_id) == ("mteb/xm3600", "es")
    assert entry.dataset_revision == "536cd45bbfe53de9b08c0483bb4a76a4bd3673fa"
    assert entry.value == pytest.approx(card["student"]["mr6"], abs=1e-4)
    assert card["student"]["signature"] in (entry.notes or "")
    assert (entry.source_url, publish_it(run).commit) == (
        "https://huggingface.co/me/clip-es", own_hub.state.repositories["me/clip-es"].head
    )  # fmt: skip


def test_published_again_unchanged_makes_no_commit(own_hub: OwnHub, run: Path) -> None:
    first = publish_it(run)
    own_hub.state.requests.clear()
    assert publish_it(run).commit == first.commit
    assert len(own_hub.state.repositories["me/clip-es"].commits) == 2
    assert not [line for line in own_hub.state.requests if "PUT" in line or "/commit/" in line]


@pytest.mark.slow
def test_a_killed_upload_leaves_nothing_half_done_and_goes_on(own_hub: OwnHub, tmp_path: Path) -> None:
    contents = {"artifact.json": b"{}", "b.safetensors": b"b" * 99, "c.safetensors": b"c" * 77}
    for name, content in contents.items():
        (tmp_path / name).write_bytes(content)
    files = ["artifact.json", "b.safetensors", "c.safetensors"]
    own_hub.state.stalls = "/commit/"
    child = subprocess.Popen(
        [sys.executable, "-c", UPLOAD, json.dumps([str(tmp_path), files])],
        env={**clean_environment(own_hub, tmp_path / "home"), "HF_TOKEN": WRITER},
        cwd=Path(__file__).parents[2],
        stderr=subprocess.DEVNULL,
    )
    try:
        assert own_hub.state.stalled.wait(60), own_hub.state.requests
    finally:
        child.kill()
        child.wait()
    repository = own_hub.state.repositories["me/es"]
    assert list(repository.commits[-1][1]) == [".gitattributes"]
    assert sorted(own_hub.state.large.values()) == [b"b" * 99, b"c" * 77]

    own_hub.state.stalls = None
    own_hub.state.requests.clear()
    commit = upload(tmp_path, files, repo="me/es", private=False)
    assert repository.head == commit
    assert set(repository.commits[-1][1]) == {".gitattributes", *files}
    assert not [line for line in own_hub.state.requests if "PUT" in line], "what is there is not sent again"


def test_a_private_repository(own_hub: OwnHub, run: Path) -> None:
    publish_it(run, private=True)
    assert own_hub.state.repositories["me/clip-es"].private
    own_hub.state.made("me/open", **{"artifact.json": b"{}"})
    refused(run, "me/open is public already", repo="me/open", private=True)
    assert len(own_hub.state.repositories["me/open"].commits) == 1


@pytest.mark.parametrize(
    ("token", "words"),
    [
        ("hf_" + "x" * 34, ("does not accept your token (401)", "hf auth login")),
        (READER, ("me/clip-es: your token may not write there (403)",)),
        ("", ("not logged in", "hf auth login")),
    ],
    ids=["wrong", "may only read", "none"],
)
def test_tokens(
    own_hub: OwnHub, run: Path, monkeypatch: pytest.MonkeyPatch, token: str, words: tuple[str, ...]
) -> None:
    monkeypatch.setenv("HF_TOKEN", token)
    refused(run, *words)
    assert not own_hub.state.repositories


def test_a_name_that_is_taken(own_hub: OwnHub, run: Path) -> None:
    own_hub.state.made("you/clip-es", **{"artifact.json": b"{}"})
    refused(run, "you/clip-es: your token may not write there (403)", repo="you/clip-es")
    own_hub.state.made("me/bert", **{"config.json": b"{}", "README.md": b"mine"})
    refused(run, "me/bert: the name is taken", repo="me/bert")
    assert own_hub.state.repositories["me/bert"].commits[-1][1]["README.md"] == b"mine"
    refused(run, "--repo me/a--b", repo="me/a--b")


@pytest.mark.parametrize(
    ("fails", "words"),
    [
        ({"/preupload/": 404}, "does not know it (404)"),
        ({"/repos/create": 409}, "conflict (409)"),
        ({"/commit/": 412}, "somebody changed it meanwhile (412)"),
        ({"PUT /large/": 403}, "may not write there (403)"),
        ({"/commit/": 418}, "answered 418 to Bearer ***"),
        ({"/validate-yaml": 400}, "the Hub refused the upload: Invalid metadata in README.md"),
    ],
    ids=str,
)
def test_what_the_hub_answers(own_hub: OwnHub, run: Path, fails: dict[str, int], words: str) -> None:
    own_hub.state.fails = fails
    refused(run, words)
    repository = own_hub.state.repositories.get("me/clip-es")
    assert repository is None or list(repository.commits[-1][1]) == [".gitattributes"]
    if "/repos/create" not in "".join(fails):
        own_hub.state.fails = {}
        publish_it(run)  # the same again goes on
        assert repository is not None
        assert set(repository.commits[-1][1]) == {".gitattributes", *FILES}


def test_no_connection(own_hub: OwnHub, run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
    refused(run, "the Hub cannot be reached")
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    refused(run, "HF_HUB_OFFLINE", "--out")
    assert not own_hub.state.requests


def test_a_dry_run_sends_nothing(own_hub: OwnHub, run: Path) -> None:
    done = publish_it(run, send=False)
    assert done.commit is None
    assert set(done.sizes) == FILES
    assert not own_hub.state.requests


def test_the_hub_finds_the_card_valid(own_hub: OwnHub, run: Path, tmp_path: Path) -> None:
    publish_it(run, out=tmp_path / "out")
    card = ModelCard.load(tmp_path / "out" / "README.md")
    card.validate(repo_type="model")
    card.data.license = "Some Licence"
    with pytest.raises(ValueError, match="license must be an identifier"):
        card.validate(repo_type="model")


def test_a_changed_artifact_never_gets_there(own_hub: OwnHub, run: Path) -> None:
    samples = bytearray((run / "samples.safetensors").read_bytes())
    samples[-2] ^= 64
    (run / "samples.safetensors").write_bytes(samples)
    reseal(run)  # so that only the comparison after the reload can notice
    refused(run, "the samples differ by up to")
    assert not own_hub.state.requests
