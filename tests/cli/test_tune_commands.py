"""`tune` and `data check` as they are typed."""

import json
from pathlib import Path

import pytest
from safetensors.torch import load_file
from typer.testing import CliRunner

from langadapt.cli.app import app
from langadapt.cli.tune import _shares
from langadapt.errors import DataError, RecipeError
from langadapt.recipes import find_language, override
from langadapt.training import distill


@pytest.fixture(scope="module")
def start(language_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("start") / "es"
    distill(
        override(find_language(str(language_folder / "es.yaml")), ["distill.epochs=1"]), out, report=print
    )
    return out


def test_a_learning_curve_from_a_table(start: Path, language_folder: Path, tmp_path: Path) -> None:
    pairs, photos = str(language_folder / "test.tsv"), str(language_folder / "photos")
    command = [
        "tune",
        "--from",
        str(start),
        "--pairs",
        pairs,
        "--images",
        photos,
        "--out",
        str(tmp_path / "run"),
    ]
    command += ["--pairs-fraction", "0.5,1", "--set", "tune.epochs=2", "--set", "tune.text=bitfit", "--json"]
    done = CliRunner().invoke(app, [*command, "--set", "tune.batch_size=4"], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    rows = json.loads(done.stdout)
    assert [row["pairs_fraction"] for row in rows] == [0.5, 1.0]
    assert [row["images"] for row in rows] == [5, 10]
    assert "captions</text>" in (tmp_path / "run" / "learning-curve.svg").read_text(encoding="utf-8")
    curve = json.loads((tmp_path / "run" / "learning-curve.json").read_text(encoding="utf-8"))
    assert [point["captions"] for point in curve] == [5, 10]
    for name in ("pairs-0.5", "pairs-1"):
        assert load_file(tmp_path / "run" / name / "adapter.safetensors")
        assert (tmp_path / "run" / name / "curve.svg").is_file()


def test_data_check_lists_all_broken_images(language_folder: Path, tmp_path: Path) -> None:
    command = ["data", "check", str(language_folder / "test.tsv"), "--images"]
    good = CliRunner().invoke(app, [*command, str(language_folder / "photos"), "--json"])
    assert good.exit_code == 0
    assert json.loads(good.stdout)["images"] == 12
    for path in (language_folder / "photos").iterdir():
        broken = path.stem in ("3", "7")
        (tmp_path / path.name).write_bytes(b"no image" if broken else path.read_bytes())
    bad = CliRunner().invoke(app, [*command, str(tmp_path)])
    assert isinstance(bad.exception, DataError)
    assert "2 of 12 images cannot be read" in str(bad.exception)
    assert [line.split(":")[0] for line in bad.stdout.splitlines()] == [
        str(tmp_path / f"{number}.png") for number in (3, 7)
    ]


@pytest.mark.parametrize("text", ["0", "1.5", "a", "0.1,,1"])
def test_shares_that_are_none(text: str) -> None:
    with pytest.raises(RecipeError, match="--pairs-fraction"):
        _shares(text)
