"""Pickled weights become safetensors: the same model, and nothing but tensors is ever made of them."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from langadapt.errors import ModelError
from langadapt.models.convert import convert
from langadapt.models.load import load_config, load_module, resolve_model
from langadapt.recipes import ModelRef

pytestmark = pytest.mark.slow


@pytest.fixture
def pickled(text_model_folder: Path, tmp_path: Path) -> Path:
    """The text model in two files of PyTorch's format with an index; two names share one tensor."""
    folder = Path(shutil.copytree(text_model_folder, tmp_path / "pickled"))
    weights = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    first, *others = weights
    parts = {"pytorch_model-00001-of-00002.bin": {first: weights[first], "tied": weights[first]}}
    parts["pytorch_model-00002-of-00002.bin"] = {name: weights[name] for name in others}
    for name, held in parts.items():
        torch.save(held, folder / name)
    places = {key: name for name, held in parts.items() for key in held}
    index = {"metadata": {"total_size": 1}, "weight_map": places}
    (folder / "pytorch_model.bin.index.json").write_text(json.dumps(index), encoding="utf-8")
    return folder


def test_the_copy_is_the_same_model(pickled: Path, text_model_folder: Path, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=f"langadapt models convert {pickled} --out NEW"):
        resolve_model(ModelRef(repo=str(pickled)))
    out = tmp_path / "out"
    files = convert(ModelRef(repo=str(pickled)), out)
    assert files == ["model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"]
    expected = {path.name for path in text_model_folder.iterdir()} - {"model.safetensors"}
    assert {path.name for path in out.iterdir()} == {*expected, *files, "model.safetensors.index.json"}
    modules = []
    for folder in (text_model_folder, out):
        source = resolve_model(ModelRef(repo=str(folder)))
        modules.append(load_module(source, load_config(source)).state_dict())
    assert modules[0].keys() == modules[1].keys()
    assert all(torch.equal(value, modules[1][name]) for name, value in modules[0].items())


class Hostile:
    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, tuple[object, ...]]:
        return (open, (str(self.path), "w"))


@pytest.mark.parametrize("kind", ["code", "no table"])
def test_what_is_not_only_tensors_is_refused(kind: str, text_model_folder: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(text_model_folder, tmp_path / "bad"))
    (folder / "model.safetensors").unlink()
    held = {"weight": Hostile(tmp_path / "ran")} if kind == "code" else {"weight": torch.ones(1), "epoch": 3}
    torch.save(held, folder / "pytorch_model.bin")
    with pytest.raises(
        ModelError, match=r"pytorch_model\.bin: (holds something else|is no table).* nothing was"
    ) as error:
        convert(ModelRef(repo=str(folder)), tmp_path / "out")
    assert "\n" not in str(error.value)
    assert {path.name for path in tmp_path.iterdir()} == {"bad"}, "neither the code ran nor is a folder left"


def test_a_model_that_needs_no_conversion(text_model_folder: Path, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="nothing is to be converted"):
        convert(ModelRef(repo=str(text_model_folder)), tmp_path / "out")
