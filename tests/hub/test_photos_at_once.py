"""A folder of photos and a published adapter: one command searches, the next one is fast."""

import json
import shutil
import sys
from pathlib import Path

import pytest
from own_endpoint import use_endpoint
from PIL import Image
from sealing import reseal
from stand_in import OwnHub

import langadapt
from langadapt.cli import main
from langadapt.hub.stage import StageOptions, publish

pytestmark = pytest.mark.hub
QUERY = "gato rojo en mar"


@pytest.fixture
def published(
    own_hub: OwnHub,
    run: Path,
    teacher_folder: Path,
    text_model_folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> str:
    """An adapter on base models of the stand-in; nothing of either is on this machine."""
    based = {}
    for role, folder in (("teacher", teacher_folder), ("text_model", text_model_folder)):
        files = {path.name: path.read_bytes() for path in folder.iterdir()}
        revision = own_hub.state.made(f"base/{role}", **files).head
        based[role] = {"repo": f"base/{role}", "revision": revision, "licence": "MIT", "licence_source": None}
    reseal(run, **based)
    use_endpoint(monkeypatch, own_hub.url, cache=tmp_path / "author")
    publish(run, options=StageOptions(repo="me/clip-es"))
    use_endpoint(monkeypatch, own_hub.url, cache=tmp_path / "reader")
    monkeypatch.setenv("LANGADAPT_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("HF_TOKEN")
    return "me/clip-es"


@pytest.fixture
def typed(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    def call(*arguments: str | Path) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["langadapt", *map(str, arguments)])
        capsys.readouterr()
        with pytest.raises(SystemExit) as stop:
            main()
        said = capsys.readouterr()
        return int(stop.value.code or 0), said.out, said.err

    return call


def test_search(own_hub: OwnHub, published: str, typed, language_folder: Path, tmp_path: Path) -> None:
    photos = Path(shutil.copytree(language_folder / "photos", tmp_path / "photos"))
    code, out, err = typed("search", photos, QUERY, "--model", published)
    assert code == 0, err
    model = langadapt.load(published)
    names = sorted(photos.iterdir())
    scores = (model.encode_text([QUERY]) @ model.encode_images(names).T)[0]
    best = [f"{scores[i]:7.3f}  {names[i]}" for i in scores.argsort(descending=True)[:5]]
    assert out.splitlines() == [QUERY, *best], "whole paths, however long"
    assert "new images encoded: 12; kept in" in err
    assert f"langadapt demo {photos} --model me/clip-es --open" in err

    own_hub.state.downloads.clear()
    shutil.copy(names[0], photos / "new.png")
    Image.open(names[1]).rotate(90).save(photos / "newer.png")
    code, out, err = typed("search", photos, QUERY, "--model", published, "--json")
    assert code == 0, err
    assert "new images encoded: 1;" in err, "the copy is known, the other is not"
    assert [len(item["images"]) for item in json.loads(out)] == [5]
    assert "encoded" not in typed("search", photos, QUERY, "--model", published)[2]
    assert own_hub.state.downloads == [], "the model stays, too"


@pytest.mark.parametrize(
    ("model", "words"),
    [
        ("me/nothing", "me/nothing"),
        ("base/text_model", "base/text_model"),
        ("me/clip es", "me/clip es"),
        ("clip-es", "clip-es: no such artifact folder"),
    ],
)
def test_a_name_that_is_no_adapter_is_one_line(
    published: str, typed, language_folder: Path, model: str, words: str
) -> None:
    code, out, err = typed("search", language_folder / "photos", QUERY, "--model", model)
    lines = [line for line in err.splitlines() if line.startswith("langadapt: ")]
    assert (code, out, len(lines)) == (2, "", 1)
    assert words in lines[0]
