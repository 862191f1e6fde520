"""Misuses of every command: one line, exit code 2, nothing left behind."""

import shutil
from pathlib import Path

import pytest

MISUSES = {
    "distill": [
        "--recipe es --device gpu9",
        "--recipe es --out es.yaml",
        "--recipe es --state-cache lots",
        "--recipe es --lang zh",
        "--recipe es --start nowhere/",
        "--recipe es --english nope.tsv --out new",
        "--recipe test.yaml",
        "--recipe es --set distill.epochs=0",
        "--recipe es --set distill.data=[./nope.yaml] --out new",
        "--recipe es --data photos --out new",
    ],
    "tune": [
        "--from run --pairs test.yaml --out new",
        "--from run --pairs photos --out new",
        "--from es --pairs test.tsv --out new",
        "--from run --pairs test.tsv --images nowhere --out new",
        "--from run --pairs test.tsv --images photos --pairs-fraction 2 --out new",
        "--from run --pairs test.tsv --images photos --set distill.epochs=2 --out new",
        "--from run --pairs test.tsv --images photos --set tune.text=magic --out new",
        "--from run --pairs parallel.tsv --images photos --out new",
        "--from run --out new",
        "--pairs test.tsv",
    ],
    "domain": [
        "--from run --pairs nope.tsv --out new",
        "--from run --out new",
        "--from run --pairs test.tsv --general-images photos --out new",
        "--from run --pairs test.tsv --images photos --general nope.tsv --out new",
        "--from run --pairs test.tsv --images photos --set domain.blend=7 --out new",
        "--from run --pairs test.tsv --images photos --device gpu9 --out new",
    ],
    "eval": [
        "es",
        "photos",
        "run --captions nope.csv",
        "run --captions parallel.tsv --images photos",
        "run --captions test.tsv --images nowhere",
        "run --images photos",
        "run --on nope",
        "run --device gpu9",
        "run --html photos",
        "run --json-file photos",
        "run --classify photos --classes test.tsv",
        "run --classify nowhere",
        "run --classes test.tsv",
        "run --source-code x",
        "run --on es-test --captions test.tsv",
        "run --captions test.tsv --image-free --column english=nope",
    ],
    "classify": [
        "photos --model run --classes nope.txt",
        "photos --model run",
        "nowhere --model run --classes classes.txt",
        "classes.txt --model run --classes classes.txt",
        "photos --prompts photos",
        "photos --model photos --classes classes.txt",
    ],
    "prompts": [
        "--model run --images photos --out new",
        "--model run --images nowhere --out new",
        "--model photos --images run --out new",
        "--model run --images photos --shots 0",
        "--model run --images classes.txt --out new",
    ],
    "index": ["nowhere --model run", "test.tsv --model run", "photos --model photos", "run --model run"],
    "search": [
        "photos --model run",
        "photos gato --model photos",
        "nowhere gato --model run",
        "gato photos --model run",
        "photos --image nope.png --model run",
        "photos gato --model run --top-k 0",
        "photos gato --model run --html photos",
    ],
    "encode": [
        "run nope.txt --json",
        "run classes.txt",
        "photos classes.txt --json",
        "run classes.txt --out new.xyz",
        "classes.txt run --json",
    ],
    "export": [
        "run --format nope --out new",
        "photos --format onnx --out new",
        "run --format onnx --out es.yaml",
    ],
    "publish": ["photos --out new", "run --repo a --dry-run", "run", "run --out photos", "nowhere --out new"],
    "doctor": ["--recipe nope", "--lang zh --recipe es", "--recipe es --device gpu9", ""],
    "compare": ["run", "run nowhere", "run photos", "run es.yaml"],
    "data build": [
        "--lang es/ --near 5 --out new",
        "--lang ./es --near 5 --out new",
        "--lang ./es --weight x=y --out new",
        "--lang ./es --weight nope=1 --out new",
        "--lang ./es --off nope --out new",
        "--lang ./es --against nope --out new",
        "--lang ./es --out New-Name",
        "--lang ./es nope.yaml --out new",
        "--lang ./es --least-agreement 7 --out new",
        "--lang ./es --workers -3 --out new",
    ],
    "data check": ["nope.tsv", "parallel.tsv", "test.tsv --images nowhere", "es.yaml", "photos"],
    "languages show": ["xx", "./nope", "test.yaml", "photos/"],
    "quickstart": ["--lang xx", "--folder photos", "--folder es.yaml"],
}
CASES = [(command, line) for command, lines in MISUSES.items() for line in lines]


@pytest.fixture(scope="module")
def place(language_folder: Path, run_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("misuse") / "own"
    shutil.copytree(language_folder, folder)
    shutil.copytree(run_folder, folder / "run", ignore=shutil.ignore_patterns("scores.json"))
    (folder / "classes.txt").write_text("gato\nperro\n")
    return folder


def contents(folder: Path) -> dict[Path, bytes | None]:
    return {path: path.read_bytes() if path.is_file() else None for path in folder.rglob("*")}


@pytest.mark.parametrize(("command", "line"), CASES, ids=[f"{command} {line}" for command, line in CASES])
def test_one_line_exit_2_and_nothing_left(
    langadapt, place: Path, monkeypatch: pytest.MonkeyPatch, command: str, line: str
) -> None:
    monkeypatch.chdir(place)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    before = contents(place)
    done = langadapt(*command.split(), *line.split())
    assert done.code == 2, done.err
    assert "Traceback" not in done.err
    lines = [text for text in done.err.splitlines() if text.startswith("langadapt: ")]
    assert len(lines) == 1 or "Usage: " in done.err, done.err
    assert "No such option" not in done.err, done.err
    assert contents(place) == before
