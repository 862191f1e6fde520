"""`langadapt export` writes what it is asked for, or says in one line why not."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from untrained import untrained_run

import langadapt as package


def test_a_folder_and_what_was_compared(
    langadapt: Callable[..., Any], run_folder: Path, tmp_path: Path
) -> None:
    (tmp_path / "texts.txt").write_text("gato rojo\nperro\n", encoding="utf-8")
    done = langadapt(
        "export", run_folder, "--format", "sentence-transformers", "--out", tmp_path / "out",
        "--texts", tmp_path / "texts.txt", "--json",
    )  # fmt: skip
    assert done.code == 0, done.err
    said = json.loads(done.out)
    assert said["agreement"]["texts"] == 2 + 1, "the given ones and one long text"
    assert said["agreement"]["text_difference"] <= 1e-5
    assert {path.name for path in (tmp_path / "out").iterdir()} == {
        "README.md", "adapter.safetensors", "config.json", "config_sentence_transformers.json", "image_model",
        "langadapt_module.json", "langadapt_module.py", "modules.json", "text_model",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--format", "open-clip"], "open_clip has no text tower that could hold the adapter"),
        (["--format", "sentence-transformers", "--int8"], "--int8 is for --format onnx"),
        (["--format", "onnx", "--texts", "nowhere.txt"], "nowhere.txt: cannot be read"),
    ],
)
def test_what_is_refused(
    langadapt: Callable[..., Any], run_folder: Path, tmp_path: Path, options: list[str], words: str
) -> None:
    done = langadapt("export", run_folder, "--out", tmp_path / "out", *options)
    assert done.code == 2
    assert words in done.err
    assert len(done.err.strip().splitlines()) == 1
    assert not (tmp_path / "out").exists()


def test_texts_of_several_languages(
    langadapt: Callable[..., Any], language_folder: Path, run_folder: Path, tmp_path: Path
) -> None:
    other = untrained_run(language_folder, tmp_path / "zh", "code=zh", "native_name=中文", "scripts=[Hans]")
    lines = ["gato rojo en mar", "狗"]
    (tmp_path / "texts.txt").write_text("\n".join(lines), encoding="utf-8")
    told = langadapt("encode", run_folder, tmp_path / "texts.txt", "--also", other, "--json")
    assert told.code == 0, told.err
    rows = torch.tensor([json.loads(line) for line in told.out.splitlines()])
    expected = [
        package.load(run).encode_text([text]) for run, text in zip((run_folder, other), lines, strict=True)
    ]
    torch.testing.assert_close(rows, torch.cat(expected), rtol=0, atol=1e-5)
    said = langadapt(
        "encode", run_folder, tmp_path / "texts.txt", "--also", other, "--language", "fr", "--json"
    )
    assert said.code == 2
    assert "no model of 'fr' in this set; it has es, zh" in said.err


def test_a_space_without_images(langadapt: Callable[..., Any], run_folder: Path, tmp_path: Path) -> None:
    (tmp_path / "none").mkdir()
    (tmp_path / "none" / "broken.png").write_bytes(b"no image")
    for options, words in (
        (["--format", "space"], "give both, or neither"),
        (["--format", "onnx", "--images", tmp_path / "none"], "give both, or neither"),
        (["--format", "space", "--images", tmp_path / "none"], "no image in it can be read"),
        (["--format", "space", "--images", tmp_path / "nowhere"], "no such folder"),
    ):
        done = langadapt("export", run_folder, "--out", tmp_path / "out", *options)
        assert done.code == 2
        assert words in done.err
        assert len(done.err.strip().splitlines()) == 1
        assert not (tmp_path / "out").exists()
