"""The tour's steps, on a world of few sentences."""

from importlib import import_module
from pathlib import Path

import pytest
from PIL import Image, ImageStat

from langadapt.cli.tour import tour
from langadapt.models.load import chosen_device
from langadapt.quickstart import world
from langadapt.recipes.find import find_language, override
from langadapt.training import distill

pytestmark = pytest.mark.slow

FAST = ("tune.epochs=1", "domain.epochs=1", "few_shot.steps=1", "few_shot.instance=false")


def test_every_stage_runs_and_one_page_shows_all(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    few = world.write_tour
    monkeypatch.setattr(
        "langadapt.cli.tour.write_tour", lambda *where: few(*where, pairs=80, train=2, test=1)
    )
    monkeypatch.setattr("langadapt.cli.tour._SHOTS", 2)
    world.write_world(tmp_path, parallel=200, tests=20)
    run, settings = tmp_path / "runs" / "sw", ["distill.epochs=1", "distill.held_out_sentences=20"]
    distill(override(find_language(str(tmp_path / "sw")), settings), run, report=lambda progress: None)
    devices = set()
    for module in map(import_module, ("langadapt.models.load", "langadapt.cli.tour")):
        monkeypatch.setattr(module, "chosen_device", lambda name: devices.add(name) or chosen_device(name))
    page = tour(tmp_path, run, "sw", FAST, device="cpu").read_text(encoding="utf-8")
    assert devices == {"cpu"}
    shown = ("sw-tuned", "run sw-dusk with 36 scenes", "domain: dusk-test.sw", "kofia (hat)", "Searches")
    for words in ("Comparison", *shown):
        assert words in page
    light = [ImageStat.Stat(Image.open(tmp_path / place / "0060.png")).sum[0] for place in ("scenes", "dusk")]
    assert light[1] == pytest.approx(light[0] / 2, rel=0.01)
    said = capsys.readouterr().err
    for command in ("tune --from", "domain --from", "prompts --model", "classify", "eval"):
        assert f"langadapt {command}" in said
    trained = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.safetensors")}
    assert len({path.parent.name for path in trained} & {"sw", "sw-tuned", "sw-dusk", "sw-prompts"}) == 4
    tour(tmp_path, run, "sw", FAST)
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.safetensors")} == trained
