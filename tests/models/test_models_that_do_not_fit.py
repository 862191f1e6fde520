"""What cannot serve as text model or teacher is one line at load, found by trying it and not by its name."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers as t
from tiny_language import save_tokenizer
from tiny_models import make_teacher

from langadapt.errors import ModelError
from langadapt.models import load_teacher, load_text_model, resolve_model
from langadapt.recipes import ModelRef, TextModelRef

WORDS = ["a", *(f"w{i}" for i in range(39))]
IDS = {"vocab_size": 44, "bos_token_id": 0, "pad_token_id": 1, "eos_token_id": 2}
SIZE = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2}
VISION = {**SIZE, "image_size": 32, "patch_size": 16}
DEPENDS = r"a text's embedding depends on the texts beside it, by .* of its values"

TEXT_MODELS: dict[str, tuple[Callable[[], Any], str]] = {
    "fnet": (lambda: t.FNetModel(t.FNetConfig(**IDS, **SIZE, max_position_embeddings=16)), DEPENDS),
    "convbert": (
        lambda: t.ConvBertModel(t.ConvBertConfig(**IDS, **SIZE, embedding_size=32, head_ratio=1)), DEPENDS,
    ),
    "mobilebert": (
        lambda: t.MobileBertModel(
            t.MobileBertConfig(**IDS, **SIZE, embedding_size=16, intra_bottleneck_size=16)
        ),
        DEPENDS,
    ),
    "canine": (
        lambda: t.CanineModel(
            t.CanineConfig(**SIZE, pad_token_id=1, bos_token_id=0, eos_token_id=2, num_hash_buckets=64)
        ),
        "gives no hidden states of one width for each token",
    ),
}  # fmt: skip


def save(model: Any, folder: Path) -> Path:
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for weight in model.parameters():
            if weight.dim() > 1:
                weight.normal_(std=0.3, generator=generator)
    model.save_pretrained(folder)
    save_tokenizer(folder, WORDS, max_tokens=16)
    return folder


def text_model(folder: Path) -> Any:
    return load_text_model(
        resolve_model(ModelRef(repo=str(folder))), TextModelRef(repo=str(folder)), max_tokens=16
    )


def teacher(folder: Path) -> Any:
    return load_teacher(resolve_model(ModelRef(repo=str(folder))))


@pytest.mark.parametrize("name", TEXT_MODELS)
def test_a_text_model_that_does_not_mask_its_padding(tmp_path: Path, name: str) -> None:
    make, words = TEXT_MODELS[name]
    folder = save(make(), tmp_path / name)
    with pytest.raises(ModelError, match=words) as error:
        text_model(folder)
    assert "\n" not in str(error.value)
    assert str(folder) in str(error.value)


def test_a_text_model_that_masks_it_is_taken_though_no_table_knows_it(tmp_path: Path) -> None:
    xlnet = t.XLNetConfig(vocab_size=44, d_model=32, n_layer=2, n_head=2, d_inner=64, pad_token_id=1)
    model = text_model(save(t.XLNetModel(xlnet), tmp_path / "xlnet"))
    assert (model.state_dim, model.max_tokens) == (32, 16)


TEXT = {**SIZE, "vocab_size": 44, "pad_token_id": 1, "max_position_embeddings": 16}
TEACHERS: dict[str, tuple[Callable[[], Any], str]] = {
    "flava": (
        lambda: t.FlavaModel(
            t.FlavaConfig(text_config=TEXT, image_config=VISION, multimodal_config=SIZE, projection_dim=24)
        ),
        r"a text becomes \[3, 24\] numbers, an image \[5, 24\]",
    ),
    "align": (
        lambda: t.AlignModel(
            t.AlignConfig(
                text_config=TEXT,
                vision_config={"hidden_dim": 64, "width_coefficient": 0.2, "depth_coefficient": 0.2},
                projection_dim=24,
            )
        ),
        r"a text becomes \[24\] numbers, an image \[64\]",
    ),
}


@pytest.mark.parametrize("name", TEACHERS)
def test_a_teacher_whose_texts_and_images_are_of_other_shapes(tmp_path: Path, name: str) -> None:
    make, words = TEACHERS[name]
    folder = make_teacher(tmp_path / name)
    (folder / "model.safetensors").unlink()
    save(make(), folder)
    with pytest.raises(ModelError, match=words):
        teacher(folder)


def test_a_tokenizer_without_padding_token(tmp_path: Path) -> None:
    folder = make_teacher(tmp_path / "teacher")
    teacher(folder)
    path = folder / "tokenizer_config.json"
    path.write_text(path.read_text(encoding="utf-8").replace('"pad_token"', '"unused"'), encoding="utf-8")
    path = folder / "special_tokens_map.json"
    path.unlink(missing_ok=True)
    with pytest.raises(ModelError, match="its tokenizer has no padding token"):
        teacher(folder)
