"""The frozen English image-text model, and a new one from two encoders that have never met."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor, nn
from transformers import AutoModel, CLIPVisionModel, VisionTextDualEncoderModel

from langadapt.data.tokens import TextBatch, Tokens
from langadapt.errors import ModelError
from langadapt.models.families import HalfPrecision, cleaner, family_of
from langadapt.models.frozen_text import FrozenText, packed_embeddings, text_parts, text_path
from langadapt.models.load import (
    PROBE_TEXTS,
    Refusing,
    ResolvedModel,
    check_padding,
    load_config,
    load_image_processor,
    load_module,
    load_tokenizer,
    position_limit,
    tokenize_texts,
    uses_bf16,
)
from langadapt.models.towers import image_rows, plain_embedding, quiet_transformers, unit_rows
from langadapt.models.trainable import PROBE_IDS, Tower, embedding_table


@dataclass(frozen=True, kw_only=True)
class Teacher:
    """An image-text model of transformers, frozen.

    `dim` is D; `max_tokens` the text tower's limit; `fixed_tokens` the length that every text is padded to,
    None for models that mask or ignore padding.
    """

    source: ResolvedModel
    module: nn.Module
    tokenizer: Any
    image_processor: Any
    dim: int
    max_tokens: int
    fixed_tokens: int | None
    half: HalfPrecision[nn.ModuleDict] = field(
        default_factory=lambda: HalfPrecision(fused=True), compare=False, repr=False
    )

    @property
    def device(self) -> torch.device:
        """Where the towers run."""
        return next(self.module.parameters()).device

    def tokenize(self, texts: Sequence[str]) -> Tokens:
        """Token ids of texts, cleaned as in the model's training and cut at the tower's limit."""
        clean = cleaner(self.module.config, self.tokenizer)
        return tokenize_texts(self.tokenizer, texts, max_tokens=self.max_tokens, prepare=clean)

    def batch(self, tokens: Tokens, rows: NDArray[np.int64]) -> TextBatch:
        """Some texts as the text tower wants them: trimmed to the longest, or at the fixed length."""
        batch = tokens.batch(rows, length=self.fixed_tokens)
        if self.fixed_tokens is None or self.tokenizer.padding_side == "right":
            return batch
        order = batch.mask.int().argsort(dim=1, stable=True)
        return TextBatch(input_ids=batch.input_ids.gather(1, order), mask=batch.mask.gather(1, order))

    @property
    def text(self) -> FrozenText:
        """The text tower over many texts, each to a normalised embedding `[D]` float32."""
        pools = family_of(self.module.config).pooling is not None
        return FrozenText(
            tokenize=self.tokenize,
            run=self._run,
            path=text_path(self.module.get_submodule("text_model")) if pools else "padded",
            dim=self.dim,
            device=self.device,
            fixed_tokens=self.fixed_tokens,
        )

    @torch.inference_mode()
    def _run(self, tokens: Tokens, rows: NDArray[np.int64], *, exact: bool = False) -> Tensor:
        fast = not exact and uses_bf16(self.device)
        if self.text.path == "packed":
            parts = text_parts(self.module)
            return unit_rows(packed_embeddings(self.half.of(parts) if fast else parts, tokens, rows))
        with torch.autocast(self.device.type, torch.bfloat16, enabled=fast):
            return self.embed_texts(self.batch(tokens, rows))

    def text_features(self, batch: TextBatch) -> Tensor:
        """English texts to `[B, D]` float32, not normalised, with gradients."""
        inputs = batch.to(self.device)
        given: dict[str, Tensor] = {"input_ids": inputs.input_ids}
        if self.fixed_tokens is None:
            given["attention_mask"] = inputs.mask.long()
        return plain_embedding(self.module.get_text_features(**given))  # type: ignore[operator]

    @torch.inference_mode()
    def embed_texts(self, batch: TextBatch) -> Tensor:
        """English texts to `[B, D]` float32, normalised."""
        return unit_rows(self.text_features(batch))

    def pixels(self, images: Sequence[Image.Image]) -> dict[str, Tensor]:
        """What the image tower takes of RGB images, on its device."""
        return dict(self.image_processor(list(images), return_tensors="pt").to(self.device))

    @torch.inference_mode()
    def embed_images(self, images: Sequence[Image.Image]) -> Tensor:
        """RGB images to `[B, D]` float32 unit rows."""
        return image_rows(self.module, self.pixels(images))


def learned_temperature(teacher: Teacher) -> float:
    """What the teacher's cosines were divided by when it was trained."""
    scale = getattr(teacher.module, "logit_scale", None)
    if not isinstance(scale, Tensor):
        raise ModelError(f"{teacher.source.repo} keeps no temperature; set few_shot.temperature")
    return float((-scale).exp())


def load_teacher(source: ResolvedModel, *, device: torch.device | None = None) -> Teacher:
    """Load a model that embeds texts and images: CLIP, SigLIP, AltCLIP, a VisionTextDualEncoder."""
    config = load_config(source)
    module = load_module(source, config).to(device or torch.device("cpu"))
    lacks = [f"{kind}s" for kind in ("text", "image") if not hasattr(module, f"get_{kind}_features")]
    if lacks:
        what = f"{source.repo} ({config.model_type}) does not embed {' or '.join(lacks)}"
        raise ModelError(f"{what}; a teacher embeds both into one space, as CLIP, SigLIP and AltCLIP do")
    tokenizer = load_tokenizer(source)
    positions = position_limit(getattr(config, "text_config", config), getattr(module, "text_model", module))
    limit = min(positions, int(tokenizer.model_max_length))
    teacher = Teacher(
        source=source,
        module=module,
        tokenizer=tokenizer,
        image_processor=load_image_processor(source),
        dim=0,
        max_tokens=limit,
        fixed_tokens=limit if family_of(config).fixed_length else None,
    )
    with Refusing(f"{source.repo} ({config.model_type}) does not embed texts and images"):
        text = teacher.embed_texts(teacher.batch(teacher.tokenize(["a"]), np.zeros(1, np.int64)))
        image = teacher.embed_images([Image.new("RGB", (64, 64))])
    if text.shape != image.shape or text.dim() != 2:
        shapes = f"a text becomes {list(text.shape[1:])} numbers, an image {list(image.shape[1:])}"
        raise ModelError(
            f"{source.repo} ({config.model_type}): {shapes}; a teacher embeds both into one space"
        )
    _check_padding(teacher)
    return replace(teacher, dim=text.shape[1])


def _check_padding(teacher: Teacher) -> None:
    tokens = teacher.tokenize(PROBE_TEXTS)
    check_padding(teacher.source, lambda rows: teacher.text_features(teacher.batch(tokens, rows)))


def image_tower(teacher: Teacher) -> Tower:
    """The image half of an image-text model."""
    module: Any = teacher.module
    projection = getattr(module, "visual_projection", None)
    pixels = teacher.pixels([Image.new("RGB", (64, 64))])
    return Tower(
        label=f"{teacher.source.repo} (image tower)",
        module=module,
        parts=(module.vision_model,) if projection is None else (module.vision_model, projection),
        encoder=module.vision_model,
        projection=projection,
        embeddings=None,
        run=lambda: module.get_image_features(**pixels),
    )


def text_tower(teacher: Teacher) -> Tower:
    """The text half of an image-text model."""
    module: Any = teacher.module
    ids = torch.tensor(PROBE_IDS, device=teacher.device)
    return Tower(
        label=f"{teacher.source.repo} (text tower)",
        module=module,
        parts=(module.text_model, module.text_projection),
        encoder=module.text_model,
        projection=module.text_projection,
        embeddings=embedding_table(module.text_model),
        run=lambda: module.get_text_features(input_ids=ids, attention_mask=torch.ones_like(ids)),
    )


@dataclass(frozen=True, kw_only=True)
class DualEncoder:
    """The model with its tokenizer and image processor, and the image encoder alone."""

    teacher: Teacher
    features: Teacher
    """Embeds images as the encoder pools them, in front of the projection."""
    new: frozenset[str]
    """Names of weights that no file had: the projections, and poolers that were never trained."""

    def text_tower(self) -> Tower:
        """Text half; its projection includes what else of it is new."""
        return self._with_new(text_tower(self.teacher), "text_model.", "text_projection.")

    def image_tower(self) -> Tower:
        """Image half; its projection includes what else of it is new."""
        return self._with_new(image_tower(self.teacher), "vision_model.", "visual_projection.")

    def _with_new(self, tower: Tower, *heads: str) -> Tower:
        names = sorted({name.rpartition(".")[0] for name in self.new if name.startswith(heads)})
        return replace(tower, projection=nn.ModuleList(map(self.teacher.module.get_submodule, names)))


def new_dual_encoder(
    image: ResolvedModel, text: ResolvedModel, *, dim: int, max_tokens: int, seed: int, device: torch.device
) -> DualEncoder:
    """Put two encoders under one roof, with new projections into a shared space of `dim` numbers.

    `image` is any vision encoder of transformers whose output is pooled (ViT, MobileNet, ResNet, Swin, CLIP),
    `text` any text encoder with a pooler (BERT and its kin). Weights other than a pooler's may not be
    missing. Captions are cut at `max_tokens`.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        vision, missing_image = _encoder(image, "pixel_values")
        language, missing_text = _encoder(text, "input_ids")
        module: Any = VisionTextDualEncoderModel(vision_model=vision, text_model=language)
        module.config.projection_dim = module.projection_dim = dim
        module.visual_projection = nn.Linear(module.vision_embed_dim, dim, bias=False)
        module.text_projection = nn.Linear(module.text_embed_dim, dim, bias=False)
    module.to(device).eval().requires_grad_(False)
    tokenizer = load_tokenizer(text)
    limit = min(max_tokens, position_limit(language.config, language), int(tokenizer.model_max_length))
    teacher = Teacher(
        source=ResolvedModel(
            repo=f"{Path(image.repo).name}+{Path(text.repo).name}",
            revision=f"{image.revision}+{text.revision}",
            path=text.path,
        ),
        module=module,
        tokenizer=tokenizer,
        image_processor=load_image_processor(image),
        dim=dim,
        max_tokens=limit,
        fixed_tokens=None,
    )
    _check_padding(teacher)
    features = replace(
        teacher,
        source=replace(image, revision=f"{image.revision}+pooled"),
        module=_Pooled(module.vision_model),
        dim=module.vision_embed_dim,
    )
    poolers = [*(f"vision_model.{n}" for n in missing_image), *(f"text_model.{n}" for n in missing_text)]
    new = frozenset({*poolers, "visual_projection.weight", "text_projection.weight"})
    return DualEncoder(teacher=teacher, features=features, new=new)


class _Pooled(nn.Module):
    """A vision encoder whose pooled output stands for the embedding."""

    def __init__(self, encoder: nn.Module) -> None:
        super().__init__()
        self.encoder = encoder

    def get_image_features(self, **pixels: Tensor) -> Any:
        """Output with pooled rows `[B, H]`."""
        return self.encoder(**pixels)


def _encoder(source: ResolvedModel, takes: str) -> tuple[Any, list[str]]:
    """An encoder with its pooler, and the names of the pooler's weights where the file has none."""
    config = load_config(source)
    kind = CLIPVisionModel if config.model_type == "clip" else AutoModel
    with Refusing(f"{source.repo}: cannot load its weights"), quiet_transformers():
        module, info = kind.from_pretrained(
            source.path, dtype=torch.float32, use_safetensors=True, output_loading_info=True
        )
    missing = sorted(info["missing_keys"])
    wrong = [name for name in missing if "pooler" not in name]
    if wrong:
        raise ModelError(f"{source.repo}: {len(wrong)} weights are missing from the file, first '{wrong[0]}'")
    if module.main_input_name != takes:
        role = "a vision encoder" if takes == "pixel_values" else "a text encoder"
        raise ModelError(f"{source.repo} ({config.model_type}) is not {role}")
    size = getattr(getattr(config, "vision_config", config), "image_size", None) or 224
    height, width = (size, size) if isinstance(size, int) else size[:2]
    given = torch.tensor(PROBE_IDS) if takes == "input_ids" else torch.zeros(1, 3, height, width)
    with torch.no_grad():
        output = module.eval()(**{takes: given})
    pooled = getattr(output, "pooler_output", None)
    if pooled is None or pooled.dim() != 2:
        raise ModelError(f"{source.repo} ({config.model_type}) does not pool its states to one row per input")
    if getattr(module.config, "hidden_size", None) is None:  # MobileNet's does not say how wide its rows are
        module.config.hidden_size = pooled.shape[1]
    return module, missing
