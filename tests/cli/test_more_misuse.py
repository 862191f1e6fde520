"""Misuses of every command: one line, exit code 2, nothing left behind."""

import shutil
from pathlib import Path

import pytest
from huggingface_hub import constants

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
        "--recipe es --out photos",
        "--recipe es --track nope",
        "--recipe es --state-bits 9",
        "--lang zh,,de --out new",
        "--lang zh,zh --out new",
        "--lang zh,yo --out new",
        "--lang zh,sw --data parallel.tsv --out new",
        "--data parallel.tsv --out new",
        "--name Zarma --out new",
        "--lang zz --data parallel.tsv --out new",
        "--english nope --out new",
        "--english photos --out new",
        "--recipe es --start universal --out new",
        "--recipe es --start run --set adapter.layers=3 --out new",
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
        "--from run --pairs test.tsv --images photos --out photos",
        "--from run --pairs test.tsv --images photos --column image=nope --out new",
        "--from run --lang zh --pairs test.tsv --images photos --out new",
    ],
    "domain": [
        "--from run --pairs nope.tsv --out new",
        "--from run --out new",
        "--from run --pairs test.tsv --general-images photos --out new",
        "--from run --pairs test.tsv --images photos --general nope.tsv --out new",
        "--from run --pairs test.tsv --images photos --set domain.blend=7 --out new",
        "--from run --pairs test.tsv --images photos --device gpu9 --out new",
        "--from run --pairs test.tsv --images photos --test nope.tsv --out new",
        "--from run --pairs test.tsv --images photos --test test.tsv --test-images nowhere --out new",
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
        "run --lang zh",
        "run --translate-with nowhere",
        "run --html es.yaml/x.html",
    ],
    "classify": [
        "photos --model run --classes nope.txt",
        "photos --model run",
        "nowhere --model run --classes classes.txt",
        "classes.txt --model run --classes classes.txt",
        "photos --prompts photos",
        "photos --model photos --classes classes.txt",
        "photos --model run --classes photos",
        "photos --model run --classes classes.txt --top 0",
    ],
    "prompts": [
        "--model run --images photos --out new",
        "--model run --images nowhere --out new",
        "--model photos --images run --out new",
        "--model run --images photos --shots 0",
        "--model run --images classes.txt --out new",
        "--model run --images photos --tower nobody",
        "--model run --images photos --json-file photos --out new",
        "--model run --images photos --set few_shot.steps=0 --out new",
    ],
    "index": [
        "nowhere --model run",
        "test.tsv --model run",
        "photos --model photos",
        "run --model run",
        "photos --model run --export new.xyz",
        "photos --model run --index es.yaml",
    ],
    "search": [
        "photos --model run",
        "photos gato --model photos",
        "nowhere gato --model run",
        "gato photos --model run",
        "photos --image nope.png --model run",
        "photos gato --model run --top-k 0",
        "photos gato --model run --html photos",
        "photos gato --model org/nope",
        "photos gato --model a/b/c",
        "photos/0.png gato --model run",
    ],
    "encode": [
        "run nope.txt --json",
        "run classes.txt",
        "photos classes.txt --json",
        "run classes.txt --out new.xyz",
        "classes.txt run --json",
        "run classes.txt --out new.npy --also nowhere",
        "run classes.txt --out new.npy --language xx",
    ],
    "export": [
        "run --format nope --out new",
        "photos --format onnx --out new",
        "run --format onnx --out es.yaml",
        "run --format space --out new",
        "run --format space --images nowhere --out new",
        "run --format space --images run --out new",
        "run --format space --images photos --out photos",
        "run --format sentence-transformers --images photos --out new",
        "run --format sentence-transformers --int8 --out new",
        "run --format transformers --out new",
        "org/nope --format space --images photos --out new",
    ],
    "publish": [
        "photos --out new",
        "run --repo a --dry-run",
        "run",
        "run --out photos",
        "nowhere --out new",
        "run run --repo me/x --dry-run",
        "--all run --repo me/x --dry-run",
    ],
    "doctor": ["--recipe nope", "--lang zh --recipe es", "--recipe es --device gpu9", "", "--lang zh,de"],
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
        "--lang zh,de --out new",
        "--lang ./es --out photos",
    ],
    "data check": ["nope.tsv", "parallel.tsv", "test.tsv --images nowhere", "es.yaml", "photos"],
    "languages show": ["xx", "./nope", "test.yaml", "photos/"],
    "align": [
        "--image-model run --text-model run",
        "--image-model run --text-model run --pairs test.tsv --images photos --out photos",
        "--image-model run --text-model run --pairs test.tsv --images photos --out new",
        "--image-model run --text-model run --pairs test.tsv --images photos --out new --lang xx",
        "--image-model run --text-model run --pairs test.tsv --images photos --out new --set text=magic",
        "--image-model run --text-model run --pairs test.tsv --images photos --out new --track nope",
        "--image-model run --text-model run --pairs test.tsv --images photos --out new --device gpu9",
        "--image-model nope --text-model nope --pairs test.tsv --images photos --out new",
        "--image-model run --text-model run --pairs nope.tsv --out new",
    ],
    "demo": [
        "nowhere --model run --port 0",
        "photos --model nowhere",
        "photos --model run --port 99999",
        "photos --model run --port 0 --allow-frame javascript:x",
        "photos --model run --port 0 --allow-host http://x/",
        "photos --model run --port 0 --index es.yaml",
    ],
    "serve": [
        "nowhere --model run --port 0",
        "--model run --page",
        "--model run --open",
        "--model run --port 0 --device gpu9",
        "photos --model run --queue 0",
        "photos --model run --port 0 --allow-frame x",
    ],
    "data fetch": [
        "--lang xx",
        "--lang ./nope",
        "--lang ./es --only nope",
    ],
    "data translate": [
        "nope.txt --lang es --model nowhere --out new.tsv",
        "classes.txt --lang es --model run --out new.tsv",
        "parallel.tsv --lang sw --model run --licence x --model-licence y --out photos",
        "parallel.tsv --lang sw --model run --licence x --model-licence y --column nope --out new.tsv",
        "parallel.tsv --lang sw --model run --licence x --model-licence y --measure nope --out new.tsv",
        "parallel.tsv --lang sw --model run --licence x --model-licence y --beams 0 --out new.tsv",
        "parallel.tsv --lang sw --model org/nope --licence x --model-licence y --out new.tsv",
    ],
    "models convert": [
        "nowhere --out new",
        "run --out new",
        "run --out es.yaml",
        "org/nope --out new",
    ],
    "languages new": [
        "../x --out new",
        "ZZ --out new",
        "tig,sw --out new",
        "tig --out es.yaml",
        "es --out .",
    ],
    "languages check": [
        "xx",
        "nope.yaml",
        "photos",
    ],
    "languages schema": [
        "",
        "--kind nope",
        "--out es.yaml",
        "--kind language --out new",
    ],
    "languages list": [
        "--tier nope",
        "--script nope",
        "zh",
    ],
    "quickstart": [
        "--lang xx",
        "--folder photos",
        "--folder es.yaml",
        "--lang zh,de --folder new",
        "--tour --json --folder new",
        "--device gpu9 --folder new",
    ],
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


@pytest.mark.allow_hosts(["127.0.0.1"])
@pytest.mark.parametrize(("command", "line"), CASES, ids=[f"{command} {line}" for command, line in CASES])
def test_one_line_exit_2_and_nothing_left(
    langadapt, socket_enabled, place: Path, monkeypatch: pytest.MonkeyPatch, command: str, line: str
) -> None:
    monkeypatch.chdir(place)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    before = contents(place)
    done = langadapt(*command.split(), *line.split())
    assert done.code == 2, done.err
    assert "Traceback" not in done.err
    lines = [text for text in done.err.splitlines() if text.startswith("langadapt: ")]
    assert len(lines) == 1 or "Usage: " in done.err, done.err
    assert "No such option" not in done.err, done.err
    assert contents(place) == before
