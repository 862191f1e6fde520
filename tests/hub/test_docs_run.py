"""Every block of README and docs runs as it stands, on tiny models; what cannot is listed here, with why."""

import glob
import gzip
import json
import re
import shlex
import shutil
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path

import pytest
from stand_in import OwnHub
from test_every_language import ROWS, photo, world
from tiny_pictures import noise
from web_stand_in import Web

import langadapt
from langadapt.cli import main
from langadapt.recipes import DistillStage, LanguageRecipe
from langadapt.recipes.stages import DomainStage, FewShotStage, TuneStage
from langadapt.recipes.yaml import Spec

__all__ = ["world"]  # the fixture
pytestmark = [pytest.mark.docs, pytest.mark.hub, pytest.mark.allow_hosts(["127.0.0.1"])]
ROOT = Path(langadapt.__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]

NOT_RUN = {
    r"make ": "installs an environment; tests/quickstart, and this suite itself",
    r"pip install ": "needs a registry; tests/test_wheel.py",
    r"accelerate launch ": "several processes; tests/training/test_two_processes.py",
    r"python benchmarks/": "minutes of measurement, some with the lab kit",
    r"(hf|tensorboard) ": "another project's tool",
    r"python .*app\.py": "a server; tests/export starts it",
    r"curl ": "asks a server; tests/search/test_service.py sends the same requests",
    r"(nohup )?python -m tools\.publish_all": "trains a set; tests/hub/test_publish_all.py",
    r"langadapt (serve|demo) ": "does not end; tests/search",
    r"langadapt .*nllb": "needs NLLB; tests/cli/test_translate_commands.py, tests/models/test_convert.py",
    r"langadapt align ": "needs ViT and BERT; tests/cli/test_align_command.py",
    r"langadapt (eval|search|export) .*runs/mine": "what `align` would have made; the same tests",
    r"langadapt languages check( sw ha)?$": "asks the Hub for every recipe; tests/hub/test_check.py",
    r"langadapt .*--track": "needs a tracker; tests/training",
    r"langadapt .*--format onnx": "half a minute; tests/export/test_onnx.py",
    r"langadapt doctor --lang zh": "the sentences here are not Chinese; tests/cli/test_doctor_command.py",
}
PYTHON_NOT_RUN = {
    r"[^$]*track=": "needs a tracker; tests/training",
    r"from mteb": "needs the extra mteb; tests/export/test_mteb.py",
    r'[^$]*revision="\.\.\."': "a placeholder; tests/hub/test_hub.py loads by revision",
}
PREPARED = {
    "README.md": ["de"],
    "domain.md": ["zh", "zh-tuned"],
    "export.md": ["zh", "de", "sw"],
    "own-data.md": [],
    "prompts.md": ["zh"],
    "publish.md": ["zh"],
    "search.md": ["zh"],
}
"""Runs that are there before a page begins; others make their own."""


def blocks(text: str, kind: str) -> list[str]:
    return re.findall(rf"^ *```{kind}\n(.*?)^ *```", text, flags=re.DOTALL | re.MULTILINE)


def lines(block: str) -> list[str]:
    """Commands of a shell block, continued lines joined, without comments."""
    text = block.replace("\\\n", " ")
    return [line for raw in text.splitlines() if (line := re.sub(r"\s+#.*", "", raw).strip())]


def typed(line: str, monkeypatch: pytest.MonkeyPatch) -> None:
    words = shlex.split(line)
    words = [name for word in words for name in (sorted(glob.glob(word)) if "*" in word else [word])]
    assert words[0] == "langadapt", line
    monkeypatch.setattr(sys, "argv", words)
    with pytest.raises(SystemExit) as stop:
        main()
    assert not stop.value.code, line


def write_files(folder: Path) -> None:
    """What the pages name: photos, captions, sentences, classes, recipes of one's own."""
    for part in ("photos", "birds/train/red", "birds/train/blue", "birds/test/red", "birds/test/blue", "my"):
        (folder / part).mkdir(parents=True)
    for number in range(24):
        noise((32, 32), 10 * number, seed=number).save(folder / f"{number}.png")
        shutil.copy(folder / f"{number}.png", folder / "photos")
    for name in ("dog.jpg", "a.jpg", "b.jpg"):
        (folder / name).write_bytes(photo(2))
    for split, count in (("train", 16), ("test", 2)):
        for start, name in ((100, "red"), (200, "blue")):
            for number in range(start, start + count):
                path = folder / "birds" / split / name / f"{number}.png"
                noise((32, 32), start / 4, seed=number + 1000 * count).save(path)
    (folder / "classes.txt").write_text("red\tgato rojo\tred cat\nblue\tgato azul\tblue cat\n")
    rows = [(f"{n}.png", *ROWS[n * 5][::-1]) for n in range(24)]
    table = "".join("\t".join(row) + "\n" for row in [("image", "caption", "english"), *rows])
    (folder / "captions.tsv").write_text(table)
    (folder / "shop.csv").write_text(table.replace("\t", ","))
    for name in ("captions.jsonl", "shop.jsonl"):
        keys = ("image", "caption", "english")
        (folder / name).write_text(
            "".join(json.dumps(dict(zip(keys, row, strict=True))) + "\n" for row in rows)
        )
    (folder / "captions.txt").write_text("".join(f"{row[1]}\n" for row in rows))
    sentences = "english\ttarget\n" + "".join(f"{a}\t{b}\n" for a, b in ROWS)
    (folder / "my.csv").write_text(sentences.replace("\t", ","))
    (folder / "news.en").write_text("".join(f"{a}\n" for a, _ in ROWS))
    (folder / "news.sw").write_text("".join(f"{b}\n" for _, b in ROWS))
    (folder / "my" / "news.tsv.gz").write_bytes(gzip.compress(sentences.encode()))
    for block in blocks((ROOT / "README.md").read_text("utf-8"), "yaml"):
        name = re.match(r"# (my/[\w-]+\.yaml)", block)
        if name:
            (folder / name[1]).write_text(block)
    news = (folder / "my" / "ha-news.yaml").read_text("utf-8").replace("ha-news", "news")
    (folder / "my" / "news.yaml").write_text(news.replace("language: ha", "language: sw"))
    card = "name: ha-test\ntitle: Photos\nlicence: CC0-1.0\nlanguage: ha\n"
    (folder / "my" / "ha-test.yaml").write_text(f"{card}captions: [../captions.tsv]\nimages: ../photos\n")


STAGES: dict[type[Spec], dict[str, int]] = {
    DistillStage: {"epochs": 1},
    TuneStage: {"epochs": 1, "batch_size": 8},
    DomainStage: {"epochs": 1, "batch_size": 8},
    FewShotStage: {"steps": 2},
}
"""Shorter defaults: the blocks show what to type, not how well it trains."""


@pytest.fixture
def short_stages() -> Iterator[None]:
    usual = {stage: {key: stage.model_fields[key].default for key in keys} for stage, keys in STAGES.items()}
    for defaults in (STAGES, usual):
        for stage, values in defaults.items():
            for key, value in values.items():
                stage.model_fields[key].default = value
            stage.model_rebuild(force=True)
        LanguageRecipe.model_rebuild(force=True)
        if defaults is STAGES:
            yield


@pytest.fixture
def prepared(
    world: tuple[OwnHub, Web], short_stages: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Path:
    """Trained and scored runs, from which the pages' folders take what they need."""
    write_files(tmp_path / "first")
    monkeypatch.chdir(tmp_path / "first")
    for code in ("zh", "de", "sw"):
        typed(f"langadapt distill --lang {code}", monkeypatch)
    typed("langadapt eval runs/zh", monkeypatch)
    typed("langadapt publish runs/zh --repo me/first", monkeypatch)
    typed("langadapt tune --from runs/zh --pairs captions.jsonl --out runs/zh-tuned", monkeypatch)
    return tmp_path / "first" / "runs"


def fill_in(folder: Path) -> None:
    """What a person writes into the new recipe of Tigre."""
    for name in ("", "-news"):
        text = (folder / f"ha{name}.yaml").read_text("utf-8").replace("hau", "tig").replace(" ha\n", " tig\n")
        text = text.replace("ha-news", "tig-news").replace("evaluate: [./ha-test.yaml]", "")
        (folder / f"tig{name}.yaml").write_text(text)


def run_page(page: Path, used: set[str], monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """Run a page's commands in their order, then its Python; yield what ran."""
    text = page.read_text("utf-8")
    for line in [line for block in blocks(text, "bash") for line in lines(block)]:
        if found := [pattern for pattern in NOT_RUN if re.match(pattern, line)]:
            used.update(found)
            continue
        typed(line.replace("ORG/NAME", "me/first"), monkeypatch)
        yield line
        if line.startswith("langadapt languages new tig"):
            fill_in(Path("my"))
    if page.name == "README.md":
        shutil.rmtree("runs/sw")  # its Python shows the same once more
    names: dict[str, object] = {"langadapt": langadapt}
    for block in map(textwrap.dedent, blocks(text, "python")):
        if found := [pattern for pattern in PYTHON_NOT_RUN if re.match(pattern, block)]:
            used.update(found)
            continue
        exec(compile(block, page.name, "exec"), names)  # noqa: S102 - our own documentation
        yield block


def test_every_block_runs_or_is_listed(
    prepared: Path, world: tuple[OwnHub, Web], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    published, used, ran = world[0].state.repositories, set[str](), list[str]()
    for page in PAGES:
        write_files(tmp_path / page.stem)
        monkeypatch.chdir(tmp_path / page.stem)
        for name in PREPARED.get(page.name, ()):
            shutil.copytree(prepared / name, Path("runs") / name)
        for name in [name for name in published if name.startswith("me/clip")]:
            del published[name]
        for part in run_page(page, used, monkeypatch):
            ran.append(part)
    assert used == {*NOT_RUN, *PYTHON_NOT_RUN}, "a reason that nothing needs"
    assert len(ran) > 40
