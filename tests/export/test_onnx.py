"""ONNX files give the model's rows, and a file that does not is never left behind."""

import json
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch
from PIL import Image
from tiny_language import sentences
from torch import Tensor
from transformers import AutoTokenizer
from untrained import untrained_run

import langadapt
from langadapt.errors import ModelError
from langadapt.export import onnx
from langadapt.export.onnx import export_onnx
from langadapt.export.sentence_transformers import default_probes

TEXTS = ["gato", *(target for _, target in sentences()[::9])]


@pytest.fixture(scope="module")
def model(
    language_folder: Path, unigram_folder: Path, tmp_path_factory: pytest.TempPathFactory
) -> langadapt.LanguageModel:
    """Low-rank updates, a prefix, new pieces, and layers that tuning added to both towers."""
    settings = [
        f"text_model.repo={unigram_folder}",
        "text_model.extend_vocabulary={pieces: 30}",
        "text_model.trains={lora: {rank: 2}}",
        "text_model.prefix='gato '",
        "distill.max_tokens=20",
        "tune={pairs: [none.tsv], text: [adapters, layer, bitfit], image: [adapters, layer, projection]}",
    ]
    return langadapt.load(untrained_run(language_folder, tmp_path_factory.mktemp("run"), *settings))


@pytest.fixture(scope="module")
def folder(model: langadapt.LanguageModel, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("onnx") / "out"
    export_onnx(model, out, probes=default_probes(model, texts=TEXTS), int8=True)
    return out


def rows(path: Path, model: langadapt.LanguageModel, texts: list[str]) -> np.ndarray:
    """By the tokenizer beside the file, as its page says."""
    tokens = AutoTokenizer.from_pretrained(path.parent)(
        [f"gato {text}" for text in texts],
        truncation=True,
        max_length=20,
        padding=True,
        padding_side="right",
        return_tensors="np",
    )
    given = {name: tokens[name] for name in ("input_ids", "attention_mask")}
    found: np.ndarray = onnxruntime.InferenceSession(path).run(None, given)[0]
    return found


@pytest.mark.parametrize("texts", [["perro"], ["casa azul", "gato"], TEXTS * 3], ids=["1", "2", "51"])
def test_texts_of_any_number_and_length(
    folder: Path, model: langadapt.LanguageModel, texts: list[str]
) -> None:
    found = rows(folder / "text_model.onnx", model, texts)
    vocabulary = model.artifact.vocabulary
    assert vocabulary is not None
    assert (model.student.text_model.tokenize(texts).ids >= vocabulary.first_id).any()
    np.testing.assert_allclose(found, model.encode_text(texts).numpy(), rtol=0, atol=1e-4)


@pytest.mark.parametrize("count", [1, 3, 7])
def test_images_of_any_number(folder: Path, model: langadapt.LanguageModel, count: int) -> None:
    pictures = [Image.effect_noise((40 + 9 * i, 64), 90).convert("RGB") for i in range(count)]
    pixels = model.teacher.image_processor(pictures, return_tensors="np")["pixel_values"]
    found = onnxruntime.InferenceSession(folder / "image_model.onnx").run(None, {"pixel_values": pixels})[0]
    np.testing.assert_allclose(found, model.encode_images(pictures).numpy(), rtol=0, atol=1e-4)


def test_what_eight_bits_cost_is_measured(folder: Path, model: langadapt.LanguageModel) -> None:
    probes = default_probes(model, texts=TEXTS).texts
    said = json.loads((folder / "onnx.json").read_text(encoding="utf-8"))["int8"]
    found = rows(folder / "text_model.int8.onnx", model, probes)
    cosines = (found * model.encode_text(probes).numpy()).sum(axis=1)
    assert (said["mean_cosine"], said["lowest_cosine"]) == (
        pytest.approx(float(cosines.mean()), abs=1e-5),
        pytest.approx(float(cosines.min()), abs=1e-5),
    )
    assert said["lowest_cosine"] < said["mean_cosine"] < 1.0
    assert said["texts"] == len(probes)
    assert said["bytes"] == (folder / "text_model.int8.onnx").stat().st_size < said["float_bytes"]
    assert f"{said['mean_cosine']:.4f}" in (folder / "README.md").read_text(encoding="utf-8")


def test_a_file_that_differs_is_refused(
    model: langadapt.LanguageModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A text tower that sees padding: right for each text alone, wrong in a batch."""

    def forward(self: onnx._Tower, *inputs: Tensor) -> Tensor:
        if len(inputs) == 1:  # pixels
            return self.run(*inputs)
        ids, mask = inputs
        return self.module.embed_texts(ids, torch.ones_like(mask) + 0 * mask)

    monkeypatch.setattr(onnx._Tower, "forward", forward)
    with pytest.raises(ModelError, match="onnxruntime embeds texts otherwise than the model") as error:
        export_onnx(model, tmp_path / "out", probes=default_probes(model))
    assert "nothing was written" in str(error.value)
    assert list(tmp_path.iterdir()) == []
