"""The doctor on the embedded world: a language that works, one in an unseen script, one without data."""

import json
import re
from importlib import import_module
from pathlib import Path

import pytest

from langadapt.quickstart.world import write_world
from tools.embedded_world.unseen_script import CODE, respell, write_unseen_script


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = write_world(tmp_path_factory.mktemp("world"), parallel=5_100, tests=40)
    write_unseen_script(folder)
    return folder


@pytest.mark.slow
def test_a_language_of_the_world_is_ready(langadapt, world: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    module = import_module("langadapt.training.distill")  # the package has a function of that name
    real, rows = module.distill_loss, []

    def counted(model, batch, *rest):
        rows.append(len(batch.targets))
        return real(model, batch, *rest)

    monkeypatch.setattr(module, "distill_loss", counted)
    said = langadapt("doctor", "--recipe", world / "sw", "--device", "cpu", "--json")
    assert said.code == 0, said.err
    found = json.loads(said.out)
    assert found["verdict"]["tier"] == "ready", found["verdict"]
    assert found["verdict"]["next"] == f"langadapt distill --recipe {world / 'sw'}"
    pairs = found["pairs"]
    assert pairs["rows"] == 5_100 == pairs["kept"] + sum(pairs["dropped"].values())
    assert found["test_captions"] >= 40
    own, *others = found["candidates"]
    assert own["own"]
    assert own["coverage"]["unknown_percent"] == 0
    assert own["alignment"] == found["alignment"] < 10, "a masked language model: nothing aligns it"
    assert others
    assert all(other["alignment"] is None for other in others)
    assert all(other["coverage"] is None for other in others), "nothing is fetched, nothing guessed"
    assert {other["missing"] for other in others} == {"not available here"}
    time = found["estimate"]
    assert min(time["teacher_seconds"], time["states_seconds"], time["train_seconds"]) > 0
    assert rows == [128] * 3, "steps of distill itself, whole batches"
    assert time["steps"] == 4 * (pairs["kept"] // 128)
    assert sorted(path.name for path in world.iterdir() if "clean" in path.name) == []


@pytest.mark.slow
def test_an_unseen_script_gets_the_extension_proposed(langadapt, world: Path) -> None:
    said = langadapt("doctor", "--recipe", world / CODE, "--device", "cpu")
    assert said.code == 0, said.err
    assert "trainable with changes" in said.out
    assert "extend its vocabulary" in said.out
    assert "text_model.extend_vocabulary={pieces: 500}" in said.out.splitlines()[-1]
    assert "…" not in said.out, "a name was cut at 80 columns"
    assert re.search(r"\nnot available here: .*intfloat/multilingual-e5-small", said.out)


def test_without_its_data_a_language_is_not_yet_and_says_why(langadapt, world: Path, tmp_path: Path) -> None:
    for path in world.glob("*sw*"):
        if path.suffix != ".tsv":
            (tmp_path / path.name).write_bytes(path.read_bytes())
    (tmp_path / "models").symlink_to(world / "models")
    (tmp_path / "photos").symlink_to(world / "photos")
    said = langadapt("doctor", "--recipe", tmp_path / "sw", "--device", "cpu", "--json")
    assert said.code == 0, said.err
    found = json.loads(said.out)
    assert found["verdict"]["tier"] == "not yet"
    assert "parallel.en-sw.tsv" in " ".join(found["verdict"]["reasons"])
    assert found["pairs"] is None
    assert found["estimate"] is None
    assert "phrases, which are few" in found["sample"]


def test_misuse_is_one_line(langadapt, world: Path, tmp_path: Path) -> None:
    for arguments, word in (
        ((), "--lang CODE"),
        (("--lang", "sw", "--recipe", "x"), "--lang CODE"),
        (("--lang", "xx"), "no language 'xx'"),
        (("--recipe", tmp_path / "none"), "no such recipe file"),
        (("--recipe", world / "sw", "--set", "distil.epochs=1"), "distil"),
    ):
        said = langadapt("doctor", *arguments)
        assert said.code == 2, said.err
        assert word in said.err
        assert "Traceback" not in said.err


def test_the_constructed_script_is_the_same_language_letter_by_letter(world: Path) -> None:
    rows = [
        [line.split("\t") for line in (world / f"parallel.en-{code}.tsv").read_text("utf-8").splitlines()]
        for code in ("sw", CODE)
    ]
    assert len(rows[0]) == len(rows[1]) == 5_101
    for (english, swahili), (same, respelt) in zip(rows[0][1:], rows[1][1:], strict=True):
        assert english == same
        assert respell(swahili) == respelt
        assert len(swahili) == len(respelt)
        assert not any(letter.isascii() and letter.isalpha() for letter in respelt)
    assert len({respell(text) for _, text in rows[0]}) == len({text.lower() for _, text in rows[0]})
