"""`langadapt export` writes what it is asked for, or says in one line why not."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest


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
        "README.md", "adapter.safetensors", "config_sentence_transformers.json", "image_model",
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
