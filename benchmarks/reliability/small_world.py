"""Tiny real models with random weights, an artifact, prompts and an index: made without training."""

import json
import sys
from hashlib import sha256
from pathlib import Path

import torch
from PIL import Image
from safetensors.torch import save_file
from transformers import (
    CLIPConfig,
    CLIPImageProcessorPil,
    CLIPModel,
    MobileNetV2Config,
    MobileNetV2Model,
    XLMRobertaConfig,
    XLMRobertaModel,
)

from langadapt.files.atomic import sealed
from langadapt.models import Artifact, write_artifact
from langadapt.models.artifact import BaseModel, Samples
from langadapt.recipes import LanguageRecipe
from langadapt.recipes.stages import FewShotStage
from langadapt.recipes.yaml import parse
from langadapt.search.update import ImageTower, update_index

sys.path.append(str(Path(__file__).parents[2] / "tests"))
from tiny_language import COLOURS, PLACES, THINGS, save_tokenizer

_ENGLISH = ["a", "at", *COLOURS, *THINGS, *PLACES]
_WORDS = [*_ENGLISH, "en", *COLOURS.values(), *THINGS.values(), *PLACES.values()]


def small_teacher(folder: Path) -> Path:
    """A CLIPModel of width 16."""
    save_tokenizer(folder, _ENGLISH, max_tokens=16)
    tower = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}
    text = {"vocab_size": len(_ENGLISH) + 4, "max_position_embeddings": 16, "bos_token_id": 0}
    config = CLIPConfig(
        text_config={**tower, **text, "pad_token_id": 1, "eos_token_id": 2},
        vision_config={**tower, "image_size": 16, "patch_size": 8},
        projection_dim=8,
    )
    with torch.random.fork_rng():
        torch.manual_seed(0)
        CLIPModel(config).save_pretrained(folder)
    _save_processor(folder)
    return folder


def small_vision(folder: Path) -> Path:
    """A narrow MobileNetV2 of 16 pixels."""
    with torch.random.fork_rng():
        torch.manual_seed(2)
        MobileNetV2Model(MobileNetV2Config(image_size=16, depth_multiplier=0.25)).save_pretrained(folder)
    _save_processor(folder)
    return folder


def _save_processor(folder: Path) -> None:
    size = {"height": 16, "width": 16}
    CLIPImageProcessorPil(size={"shortest_edge": 16}, crop_size=size).save_pretrained(folder)


def small_text_model(folder: Path) -> Path:
    """An XLM-R of width 16."""
    save_tokenizer(folder, _WORDS, max_tokens=16)
    config = XLMRobertaConfig(
        vocab_size=len(_WORDS) + 4,
        hidden_size=16,
        intermediate_size=32,
        num_hidden_layers=1,
        num_attention_heads=2,
        max_position_embeddings=18,
    )
    with torch.random.fork_rng():
        torch.manual_seed(1)
        XLMRobertaModel(config, add_pooling_layer=False).save_pretrained(folder)
    return folder


def small_recipe() -> LanguageRecipe:
    """A recipe that names models by paths that need not exist."""
    said = {
        "code": "es",
        "name": "Spanish",
        "native_name": "español",
        "iso639_3": "spa",
        "scripts": ["Latn"],
        "teacher": {"repo": "/nowhere/teacher"},
        "text_model": {"repo": "/nowhere/text"},
        "distill": {"data": ["/nowhere/p.yaml"]},
        "prompts": ["una foto de {label}"],
    }
    return parse(LanguageRecipe, said, where="small world")


def small_artifact(folder: Path) -> Path:
    """An artifact of random weights: it can be read, not loaded."""
    generator = torch.Generator().manual_seed(3)
    base = BaseModel(repo="/nowhere/teacher", revision="sha256:0123456789abcdef")
    artifact = Artifact(
        recipe=small_recipe(),
        teacher=base,
        text_model=base,
        target_dim=8,
        weights={"adapter.down.weight": torch.randn(4, 8, generator=generator)},
        samples=Samples(texts=("gato", "perro"), embeddings=torch.randn(2, 8, generator=generator)),
        training={"steps": 1},
        environment={"python": "3"},
    )
    write_artifact(folder, artifact)
    return folder


def small_prompts(folder: Path) -> Path:
    """Learned prompts as their reader wants them."""
    folder.mkdir(parents=True)
    save_file({"general": torch.zeros(2, 4)}, folder / "prompts.safetensors")
    weights = (folder / "prompts.safetensors").read_bytes()
    said = {
        "format_version": 2,
        "template": "una foto de {label}",
        "classes": [{"folder": "cat", "names": ["gato"], "english": ["cat"]}],
        "tower": "student",
        "text": "text@1",
        "image": "teacher@1",
        "run": "runs/es",
        "training": {"shots": 1},
        "spec": FewShotStage().model_dump(mode="json"),
        "files": {"prompts.safetensors": sha256(weights).hexdigest()},
    }
    (folder / "prompts.json").write_text(json.dumps(sealed(said)), encoding="utf-8")
    return folder


def small_index(folder: Path) -> Path:
    """An index of four flat pictures, by a tower that says their colour."""
    photos = folder.with_name("photos")
    photos.mkdir(parents=True)
    for number, colour in enumerate([(250, 0, 0), (0, 250, 0), (0, 0, 250), (9, 9, 9)]):
        Image.new("RGB", (8, 8), colour).save(photos / f"{number}.png")

    def encode(images: list[Image.Image]) -> torch.Tensor:
        pixels = torch.tensor([image.getpixel((0, 0)) for image in images], dtype=torch.float32)
        return torch.nn.functional.normalize(pixels, dim=1)

    tower = ImageTower(fingerprint="colour", label="colour@1", dim=3, encode=encode)
    update_index(photos, tower, index=folder, report=lambda progress: None)
    return folder
