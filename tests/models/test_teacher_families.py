"""Each teacher family as a tiny random model of the real class, loaded from its own saved folder."""

import json
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from tiny_language import COLOURS, PLACES, THINGS, save_tokenizer
from torch.nn import functional as F
from transformers import (
    AltCLIPConfig,
    AltCLIPModel,
    BertConfig,
    BertModel,
    ChineseCLIPConfig,
    ChineseCLIPModel,
    CLIPConfig,
    CLIPModel,
    GemmaTokenizer,
    Siglip2Config,
    Siglip2Model,
    Siglip2Tokenizer,
    SiglipConfig,
    SiglipModel,
    VisionTextDualEncoderConfig,
    VisionTextDualEncoderModel,
    ViTConfig,
    ViTModel,
)

from langadapt.errors import ModelError
from langadapt.models import Teacher, load_teacher, prompts, resolve_model
from langadapt.models.families import HalfLayers, clip_text
from langadapt.models.frozen_text import text_parts
from langadapt.recipes import ModelRef

WORDS = ["a", "at", *COLOURS, *THINGS, *PLACES]
TOWER = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2}
TEXT = {**TOWER, "vocab_size": len(WORDS) + 4, "bos_token_id": 0, "pad_token_id": 1, "eos_token_id": 2}
VISION = {**TOWER, "image_size": 32, "patch_size": 16}
TEXTS = ["cat", "a red cat at home", "a blue dog at sea a red boat at park", "tree car"]
IMAGES = [Image.effect_noise(size, 90).convert("RGB") for size in ((40, 32), (32, 64), (50, 50))]

OLD_CLIP = {  # as openai's repositories still have it
    "feature_extractor_type": "CLIPFeatureExtractor",
    "size": 32,
    "crop_size": 32,
    "do_resize": True,
    "do_center_crop": True,
    "do_normalize": True,
    "image_mean": [0.48, 0.46, 0.41],
    "image_std": [0.27, 0.26, 0.28],
}
SQUARE = {"size": {"height": 32, "width": 32}}
CROPPED = {"size": {"shortest_edge": 32}, "crop_size": {"height": 32, "width": 32}}


def clip() -> Any:
    text = {**TEXT, "max_position_embeddings": 8}
    return CLIPModel(CLIPConfig(text_config=text, vision_config=VISION, projection_dim=24))


def siglip() -> Any:
    text = {**TEXT, "max_position_embeddings": 8, "projection_size": 32}
    return SiglipModel(SiglipConfig(text_config=text, vision_config=VISION))


def siglip2() -> Any:
    text = {**TEXT, "vocab_size": 40, "max_position_embeddings": 8, "projection_size": 32}
    vision = {**TOWER, "patch_size": 16, "num_patches": 16}
    return Siglip2Model(Siglip2Config(text_config=text, vision_config=vision))


def altclip() -> Any:
    text = {**TEXT, "max_position_embeddings": 10, "project_dim": 24}
    return AltCLIPModel(AltCLIPConfig(text_config=text, vision_config=VISION, projection_dim=24))


def chinese_clip() -> Any:
    text = {**TEXT, "max_position_embeddings": 8}
    return ChineseCLIPModel(ChineseCLIPConfig(text_config=text, vision_config=VISION, projection_dim=24))


def dual_encoder() -> Any:
    config = VisionTextDualEncoderConfig.from_vision_text_configs(
        ViTConfig(**VISION), BertConfig(**TEXT, max_position_embeddings=8), projection_dim=24
    )
    return VisionTextDualEncoderModel(config)


# Model, its image processor as repositories name it, length of every text if that is fixed.
FAMILIES: dict[str, tuple[Callable[[], Any], dict[str, Any], int | None]] = {
    "clip": (clip, OLD_CLIP, None),
    "siglip": (siglip, {"image_processor_type": "SiglipImageProcessor", **SQUARE}, 8),
    "siglip2": (
        siglip2,
        {"image_processor_type": "Siglip2ImageProcessor", "patch_size": 16, "max_num_patches": 16},
        8,
    ),
    "altclip": (altclip, {"image_processor_type": "CLIPImageProcessor", **CROPPED}, None),
    "chinese_clip": (
        chinese_clip,
        {"image_processor_type": "ChineseCLIPImageProcessor", "do_center_crop": False, **SQUARE},
        None,
    ),
    "dual_encoder": (dual_encoder, {"image_processor_type": "ViTImageProcessor", **SQUARE}, None),
}


def save(model: Any, processor: dict[str, Any], folder: Path) -> Path:
    """Weights of natural size: with small ones all texts of a random tower look alike."""
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for weight in model.parameters():
            if weight.dim() > 1:
                weight.normal_(std=0.25, generator=generator)
            else:  # biases and norms matter, too
                weight += 0.1 * torch.randn(weight.shape, generator=generator)
    model.save_pretrained(folder)
    save_tokenizer(folder, WORDS, max_tokens=10**30)
    if isinstance(model, Siglip2Model):  # always its own class: letters, padded on the left
        letters = ["<s>", "<pad>", "</s>", "<unk>", "<mask>", "▁", *sorted(set("".join(WORDS)))]
        Siglip2Tokenizer(
            vocab={letter: i for i, letter in enumerate(letters)}, bos_token="<s>", eos_token="</s>"
        ).save_pretrained(folder)
    (folder / "preprocessor_config.json").write_text(json.dumps(processor), encoding="utf-8")
    return folder


def load(folder: Path) -> Teacher:
    return load_teacher(resolve_model(ModelRef(repo=str(folder))))


@pytest.fixture(scope="module", params=list(FAMILIES))
def family(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Teacher]:
    make, processor, _ = FAMILIES[request.param]
    with torch.random.fork_rng():
        torch.manual_seed(0)
        folder = save(make(), processor, tmp_path_factory.mktemp(request.param))
    return request.param, load(folder)


def test_texts_in_a_batch_equal_texts_one_by_one(family: tuple[str, Teacher]) -> None:
    name, teacher = family
    together = teacher.text.embed(TEXTS)
    assert together.dtype == torch.float32
    assert together.shape == (4, teacher.dim)
    torch.testing.assert_close(together.norm(dim=1), torch.ones(4))
    alone = torch.cat([teacher.text.embed([text]) for text in TEXTS])
    torch.testing.assert_close(together, alone, rtol=0, atol=1e-5)
    assert (together @ together.T - torch.eye(4)).abs().max() < 0.999, "texts must not look alike"
    batch = teacher.batch(teacher.tokenize(TEXTS[:1]), torch.zeros(1, dtype=torch.int64).numpy())
    fixed = FAMILIES[name][2]
    assert batch.input_ids.shape[1] == (fixed or 3)


@pytest.mark.parametrize(
    ("raw", "cleaned"),
    [
        ("A plain text", "a plain text"),
        ("It’s a “dog”", 'it\'s a "dog"'),
        ("salt &amp; pepper &amp;amp; &lt;b&gt;", "salt & pepper & <b>"),
        ("A < B &amp;amp; C", "a < b & c"),  # where a `<` stands ftfy leaves entities alone
        ("ＡＢＣ１２！", "abc12!"),
        ("ﬁne oﬀer", "fine offer"),
        ("cafÃ© â€“ bar", "café – bar"),
        ("a\u00a0\n b\t ", "a b"),
        ("cafe\u0301 \x1b[31mred", "café red"),
        ("ÉCOLE STRASSE", "école strasse"),
        ("一只狗，在跑！", "一只狗,在跑!"),
    ],
)
def test_clip_text_is_cleaned_as_openai_does_it(raw: str, cleaned: str) -> None:
    """By hand from the list of what CLIP's tokenizer does: ftfy's default steps, entities, spaces, case."""
    assert clip_text(raw) == cleaned


def test_only_clip_cleans_its_texts(family: tuple[str, Teacher]) -> None:
    name, teacher = family
    raw, clean = "Ａ ＲＥＤ&nbsp;cat\nat  home", "a red cat at home"
    same = np.array_equal(teacher.tokenize([raw]).ids, teacher.tokenize([clean]).ids)
    assert same == (name == "clip")
    if name in ("clip", "chinese_clip"):
        model: Any = SimpleNamespace(teacher=teacher)
        tower = prompts.text_tower(model, "teacher")
        found = [prompts.prompt_texts(tower, "Ａ {label} at\thome", [cat]).batch for cat in ("ＣAT", "cat")]
        assert torch.equal(found[0].input_ids, found[1].input_ids) == (name == "clip")


def test_siglip_2_of_one_resolution_reads_lower_case(tmp_path: Path) -> None:
    """Its model type is siglip, its tokenizer Gemma's, which keeps capitals: trained on lower case."""
    folder = save(siglip(), FAMILIES["siglip"][1], tmp_path)
    letters = ["<pad>", "<eos>", "<bos>", "<unk>", "<mask>", "▁", *"aderADER"]
    GemmaTokenizer(vocab={letter: i for i, letter in enumerate(letters)}, merges=[]).save_pretrained(folder)
    teacher = load(folder)
    assert type(teacher.tokenizer).__name__.startswith("Gemma")
    upper, lower = (teacher.tokenizer(text)["input_ids"] for text in ("A RED", "a red"))
    assert upper != lower
    assert np.array_equal(teacher.tokenize(["A RED"]).ids, teacher.tokenize(["a red"]).ids)
    tower = prompts.text_tower(SimpleNamespace(teacher=teacher), "teacher")  # type: ignore[arg-type]
    assert tower.clean("A RED") == "a red"


def test_texts_equal_what_transformers_makes_of_them(family: tuple[str, Teacher]) -> None:
    """Padded to the limit as the family's own processor pads, the mask given where the family has one."""
    name, teacher = family
    fixed = FAMILIES[name][2]
    tokens = teacher.tokenizer(
        TEXTS, padding="max_length", truncation=True, max_length=8, return_tensors="pt"
    )
    given = {"input_ids": tokens["input_ids"]}
    if fixed is None:
        given["attention_mask"] = tokens["attention_mask"]
    with torch.no_grad():
        expected = F.normalize(teacher.module.get_text_features(**given).pooler_output, dim=-1)
    torch.testing.assert_close(teacher.text.embed(TEXTS), expected, rtol=0, atol=1e-5)


PACKED = {"clip", "altclip", "chinese_clip"}


def test_texts_in_bfloat16_are_near(family: tuple[str, Teacher], monkeypatch: pytest.MonkeyPatch) -> None:
    name, teacher = family
    assert teacher.text.path == ("packed" if name in PACKED else "padded")
    exact = teacher.text.embed(TEXTS)
    monkeypatch.setenv("LANGADAPT_PRECISION", "bfloat16")
    half = teacher.text.embed(TEXTS)
    cosine = (half * exact).sum(dim=1)
    assert 0.999 <= cosine.min() < 1 - 1e-7, "near, and not computed in float32"
    assert half.dtype == torch.float32
    if name in PACKED:
        parts = teacher.half.of(text_parts(teacher.module)).modules()
        fused = sum(isinstance(part, HalfLayers) for part in parts)
        assert fused == (0 if name == "altclip" else 1)
    order = np.arange(len(TEXTS))
    tokens = teacher.tokenize(TEXTS)
    torch.testing.assert_close(teacher.text.run(tokens, order, exact=True), exact, rtol=0, atol=1e-5)


def test_clip_pools_the_end_token_that_its_configuration_names(tmp_path: Path) -> None:
    """Its first place, wherever it is; the first CLIP models pool the highest number instead."""
    text = {**TEXT, "max_position_embeddings": 8, "eos_token_id": 4}
    make = lambda: CLIPModel(CLIPConfig(text_config=text, vision_config=VISION, projection_dim=24))  # noqa: E731
    teacher = load(save(make(), OLD_CLIP, tmp_path))
    texts = ["cat a tree", "a cat", "tree cat a", "a a a", "tree car"]
    assert teacher.tokenize(texts).ids.tolist().count(4) == 6
    given = teacher.tokenizer(texts, padding=True, return_tensors="pt")
    with torch.no_grad():
        expected = F.normalize(teacher.module.get_text_features(**given).pooler_output, dim=-1)
    torch.testing.assert_close(teacher.text.embed(texts), expected, rtol=0, atol=1e-5)


def test_images_become_unit_rows_of_the_same_space(family: tuple[str, Teacher]) -> None:
    _, teacher = family
    together = teacher.embed_images(IMAGES)
    assert together.dtype == torch.float32
    assert together.shape == (3, teacher.dim)
    torch.testing.assert_close(together.norm(dim=1), torch.ones(3))
    alone = torch.cat([teacher.embed_images([image]) for image in IMAGES])
    torch.testing.assert_close(together, alone, rtol=0, atol=1e-5)
    pixels = teacher.image_processor(IMAGES, return_tensors="pt")
    with torch.no_grad():
        expected = F.normalize(teacher.module.get_image_features(**pixels).pooler_output, dim=-1)
    torch.testing.assert_close(together, expected, rtol=0, atol=1e-6)


def test_a_text_beyond_the_positions_is_cut(family: tuple[str, Teacher]) -> None:
    _, teacher = family
    assert teacher.max_tokens == 8
    cut, longer = teacher.text.embed(["red cat at home a dog", "red cat at home a dog " + "sea " * 20])
    torch.testing.assert_close(cut, longer, rtol=0, atol=1e-5)


def test_a_teacher_is_frozen(family: tuple[str, Teacher]) -> None:
    _, teacher = family
    assert not teacher.module.training
    assert not any(weight.requires_grad for weight in teacher.module.parameters())
    assert not teacher.text.embed(["cat"]).requires_grad


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: ViTModel(ViTConfig(**VISION)), "(vit) does not embed texts or images"),
        (lambda: BertModel(BertConfig(**TEXT)), "(bert) does not embed texts or images"),
    ],
)
def test_half_a_teacher_is_refused(make: Callable[[], Any], said: str, tmp_path: Path) -> None:
    save(make(), OLD_CLIP, tmp_path)
    with pytest.raises(ModelError) as error:
        load(tmp_path)
    assert said in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("missing", ["tokenizer", "preprocessor_config.json", "config.json"])
def test_missing_file_is_one_line(missing: str, teacher_folder: Path, tmp_path: Path) -> None:
    for path in teacher_folder.iterdir():
        if not path.name.startswith(missing):
            (tmp_path / path.name).write_bytes(path.read_bytes())
    with pytest.raises(ModelError) as error:
        load(tmp_path)
    assert str(tmp_path) in str(error.value)
    assert "\n" not in str(error.value)
