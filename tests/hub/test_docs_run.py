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
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import pytest
from stand_in import OwnHub, use_hub
from test_every_language import ROWS, folder_files, photo, stand_ins
from tiny_pictures import noise

import langadapt
from langadapt.cli import main
from langadapt.quickstart import world
from langadapt.recipes import DistillStage, LanguageRecipe
from langadapt.recipes.stages import AlignStage, DomainStage, FewShotStage, TuneStage
from langadapt.recipes.yaml import Spec

pytestmark = [pytest.mark.docs, pytest.mark.hub, pytest.mark.allow_hosts(["127.0.0.1"])]
ROOT = Path(langadapt.__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]

NOT_RUN = {
    r"make ": "installs an environment; tests/quickstart, and this suite itself",
    r"pip install ": "needs a registry; tests/test_wheel.py",
    r"accelerate launch ": "several processes; tests/training/test_two_processes.py",
    r"python benchmarks/": "minutes of measurement, some with the lab kit",
    r"(hf|tensorboard) ": "another project's tool",
    r"python .*app\.py": "a server; tests/export/test_space.py starts it",
    r"curl ": "asks a server; tests/search/test_service.py sends the same requests",
    r"(nohup )?python -m tools\.publish_all": "trains a set; tests/hub/test_publish_all.py",
    r"langadapt (serve|demo) ": "does not end; tests/search",
    r"langadapt .*nllb": "needs NLLB; tests/cli/test_translate_commands.py, tests/models/test_convert.py",
    r"langadapt languages check( sw ha)?$": "asks the Hub for every recipe; tests/hub/test_check.py",
    r"langadapt doctor --lang zh": "the sentences here are not Chinese; tests/cli/test_doctor_command.py",
    r"langadapt .*--track": "needs a tracker; tests/training/test_track.py",
}
PYTHON_NOT_RUN = {
    r"[^$]*track=": "needs a tracker; tests/training/test_track.py",
    r"from mteb": "needs the extra mteb; tests/export/test_mteb.py",
    r'[^$]*revision="\.\.\."': "a placeholder; tests/hub/test_hub.py loads by revision",
    r"(import|from) (faiss|lancedb|qdrant|langchain)": "tests/export/test_vector_databases.py",
}
PREPARED = {
    "README.md": ["de"],
    "domain.md": ["zh", "zh-tuned"],
    "export.md": ["zh", "de", "sw", "clip-tuned"],
    "own-data.md": [],
    "prompts.md": ["zh"],
    "publish.md": ["zh"],
    "search.md": ["zh"],
    "vector-databases.md": ["sw"],
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
    for name in ("captions.tsv", "test.tsv"):
        (folder / name).write_text(table)
    for name in ("captions.csv", "shop.csv"):
        (folder / name).write_text(table.replace("\t", ","))
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


ALIGNED = ("google/vit-base-patch16-224-in21k", "google-bert/bert-base-uncased")


STAGES: dict[type[Spec], dict[str, int]] = {
    DistillStage: {"epochs": 1},
    AlignStage: {"epochs": 1, "batch_size": 8},
    TuneStage: {"epochs": 1, "batch_size": 8},
    DomainStage: {"epochs": 1, "batch_size": 8},
    FewShotStage: {"steps": 2},
}
"""Shorter defaults: the blocks show what to type, not how well it trains."""


@pytest.fixture(scope="module")
def patch() -> Iterator[pytest.MonkeyPatch]:
    """What holds for all pages."""
    with pytest.MonkeyPatch.context() as patch:
        yield patch


@pytest.fixture(scope="module")
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


@dataclass(frozen=True)
class Prepared:
    """The stand-in Hub, trained and scored runs from which pages take what they need, and what is cached."""

    hub: OwnHub
    runs: Path
    cache: Path


@pytest.fixture(scope="module")
def prepared(
    patch: pytest.MonkeyPatch,
    short_stages: None,
    teacher_folder: Path,
    text_model_folder: Path,
    vision_folder: Path,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Prepared]:
    root = tmp_path_factory.mktemp("prepared")
    with use_hub(patch, root) as hub, stand_ins(hub, teacher_folder, text_model_folder, patch, root):
        patch.setattr(world, "write_world", partial(world.write_world, parallel=300, tests=30))
        for name, folder in zip(ALIGNED, (vision_folder, text_model_folder), strict=True):
            hub.state.at_revision(name, 40 * "a", folder_files(folder))
        write_files(root / "first")
        patch.chdir(root / "first")
        for code in ("zh", "de", "sw"):
            typed(f"langadapt distill --lang {code}", patch)
        typed("langadapt eval runs/zh", patch)
        typed("langadapt publish runs/zh --repo me/first", patch)
        typed("langadapt tune --from runs/zh --pairs captions.jsonl --out runs/zh-tuned", patch)
        clip = "--from openai/clip-vit-base-patch32 --set tune.text=full --out runs/clip-tuned"
        typed(f"langadapt tune {clip} --pairs captions.jsonl", patch)
        yield Prepared(hub, root / "first" / "runs", root / "cache")


def fill_in(folder: Path) -> None:
    """What a person writes into the new recipe of Tigre."""
    for name in ("", "-news"):
        text = (folder / f"ha{name}.yaml").read_text("utf-8").replace("hau", "tig").replace(" ha\n", " tig\n")
        text = text.replace("ha-news", "tig-news").replace("evaluate: [./ha-test.yaml]", "")
        (folder / f"tig{name}.yaml").write_text(text)


def commands(page: Path) -> list[str]:
    return [line for block in blocks(page.read_text("utf-8"), "bash") for line in lines(block)]


def code(page: Path) -> list[str]:
    return [textwrap.dedent(block) for block in blocks(page.read_text("utf-8"), "python")]


def listed(text: str, reasons: dict[str, str]) -> set[str]:
    return {pattern for pattern in reasons if re.match(pattern, text)}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_every_block_runs_or_is_listed(
    prepared: Prepared,
    socket_enabled: None,
    page: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("LANGADAPT_CACHE", str(prepared.cache))
    write_files(tmp_path / page.stem)
    monkeypatch.chdir(tmp_path / page.stem)
    for name in PREPARED.get(page.name, ()):
        shutil.copytree(prepared.runs / name, Path("runs") / name)
    published = prepared.hub.state.repositories
    for name in [name for name in published if name.startswith("me/clip")]:
        del published[name]
    for line in commands(page):
        if not listed(line, NOT_RUN):
            typed(line.replace("ORG/NAME", "me/first"), monkeypatch)
        if line.startswith("langadapt languages new tig"):
            fill_in(Path("my"))
    if page.name == "README.md":
        shutil.rmtree("runs/sw")  # its Python shows the same once more
    names: dict[str, object] = {"langadapt": langadapt}
    for block in code(page):
        if not listed(block, PYTHON_NOT_RUN):
            exec(compile(block, page.name, "exec"), names)  # noqa: S102 - our own documentation


def test_every_reason_is_needed() -> None:
    typed_lines = [line for page in PAGES for line in commands(page)]
    typed_code = [block for page in PAGES for block in code(page)]
    assert {name for line in typed_lines for name in listed(line, NOT_RUN)} == set(NOT_RUN)
    assert {name for block in typed_code for name in listed(block, PYTHON_NOT_RUN)} == set(PYTHON_NOT_RUN)
    for name in re.findall(r"tests/\S+\.py", " ".join([*NOT_RUN.values(), *PYTHON_NOT_RUN.values()])):
        assert (ROOT / name).is_file(), name
    assert sum(not listed(line, NOT_RUN) for line in typed_lines) > 40
