"""`domain` as it is typed: a whole run with its report, and what is refused before anything is done."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image
from typer.testing import CliRunner

from langadapt.cli.app import app
from langadapt.recipes import find_language, override
from langadapt.training import distill

TWICE = "{strength: 1, instance_strength: 1}"
COLOURS = ["red", "blue", "green", "gray", "pink", "brown"]


@pytest.fixture(scope="module")
def start(language_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("start") / "es"
    distill(
        override(find_language(str(language_folder / "es.yaml")), ["distill.epochs=1"]), out, report=print
    )
    return out


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Pairs of a shop: coloured pictures whose captions are markup, as anybody's may be."""
    folder = tmp_path_factory.mktemp("shop")
    lines = []
    for number in range(24):
        picture = Image.new("RGB", (32, 32), COLOURS[number % 6])
        picture.paste((10 * number, 250 - 10 * number, 40), (0, 0, 8 + number, 9))
        picture.save(folder / f"{number}.png")
        caption = f"<b>gato</b> rojo {number}"
        lines.append(json.dumps({"image": f"{number}.png", "caption": caption}) + "\n")
    (folder / "shop.jsonl").write_text("".join(lines), encoding="utf-8")
    return folder / "shop.jsonl"


def test_a_run_and_its_report(start: Path, shop: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    command = ["domain", "--from", str(start), "--pairs", str(shop), "--out", str(out), "--json"]
    command += ["--test", str(shop), "--set", "domain.epochs=2", "--set", "domain.batch_size=6"]
    done = CliRunner().invoke(app, command, catch_exceptions=False)
    assert done.exit_code == 0, done.output
    told = json.loads(done.stdout)
    assert told == json.loads((out / "domain.json").read_text(encoding="utf-8"))
    assert [(row["kind"], row["name"]) for row in told["scores"]] == [
        ("domain", "2 held-out pairs"),
        ("domain", "shop"),
        ("general", "es-test"),
    ]
    assert sum(row["pairs"] for row in told["quarters"]) == 22
    assert sum(row["pairs"] * row["draws"] for row in told["quarters"]) == pytest.approx(2 * 18, abs=0.1)
    page = (out / "report.html").read_text(encoding="utf-8")
    assert page.count("data:image/jpeg;base64,") == 22, "the hardest pairs as pictures"
    assert "&lt;b&gt;gato&lt;/b&gt;" in page
    assert "<b>gato" not in page
    assert '<h1 dir="auto">Spanish for a local CLIP: shop.jsonl</h1>' in page
    assert ("No step was better" in page) == told["fell_back"]
    assert page.count("<rect") == 4 + 2 * 4, "a legend of four quarters, two epochs"
    hardest = [json.loads(line) for line in (out / "hard-pairs.jsonl").read_text().splitlines()]
    assert [pair["end"] for pair in hardest] == sorted((pair["end"] for pair in hardest), reverse=True)
    again = CliRunner().invoke(app, command)
    assert "holds a finished run" in str(again.exception)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--pairs", "x.jsonl"], "say which student to begin with: --from RUN, or --lang CODE"),
        (["--from", "START"], "has no domain stage; name your images and captions: --pairs FILE"),
        (["--from", "START", "--pairs", "SHOP", "--general-images", "x"], "give --general FILE too"),
        (["--from", "START", "--pairs", "SHOP", "--set", "tune.epochs=2"], "such as domain.epochs=5"),
        (
            ["--from", "START", "--pairs", "SHOP", "--set", "domain.sampling.floor_fraction=2"],
            "floor_fraction",
        ),
        (
            ["--from", "START", "--pairs", "SHOP", "--set", f"domain.sampling={TWICE}"],
            "count the difficulty twice",
        ),
    ],
)
def test_what_is_refused(
    options: list[str], words: str, start: Path, shop: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    given = [str({"START": start, "SHOP": shop}.get(option, option)) for option in options]
    done = CliRunner().invoke(app, ["domain", *given, "--out", str(tmp_path / "run")])
    assert words in str(done.exception)
    assert "\n" not in str(done.exception)
    assert not (tmp_path / "run").exists(), "nothing was begun"


def test_what_cannot_train_is_found_before_anything_is_scored(
    start: Path, shop: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def score(*given: object) -> None:
        raise AssertionError("sets were scored first")

    monkeypatch.setattr("langadapt.evaluation.domain._scores", score)
    command = ["domain", "--from", str(start), "--pairs", str(shop), "--out", str(tmp_path / "run")]
    done = CliRunner().invoke(app, [*command, "--set", "domain.text=[{last: 9}]"])
    assert "so `last: 9` cannot train it" in str(done.exception)


def test_bad_input_is_one_line_and_exit_code_2() -> None:
    code = "import sys; sys.argv = ['langadapt', 'domain']; from langadapt.cli import main; main()"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stderr.startswith("langadapt: say which student")
    assert done.stderr.count("\n") == 1
