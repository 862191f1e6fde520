"""The frozen English image-text model: text tower and image tower into one space."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor, nn

from langadapt.data.tokens import TextBatch, Tokens, tokenize
from langadapt.errors import ModelError
from langadapt.models.bfloat16 import HalfPrecision
from langadapt.models.device import uses_bf16
from langadapt.models.families import family_of
from langadapt.models.frozen_text import FrozenText, packed_embeddings, text_parts, text_path
from langadapt.models.load import (
    ResolvedModel,
    load_config,
    load_image_processor,
    load_module,
    load_tokenizer,
    position_limit,
    token_ids,
)
from langadapt.models.towers import image_rows, unit_rows
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
        """Token ids, cut at the tower's limit."""
        return tokenize(texts, token_ids(self.tokenizer, self.max_tokens), pad_id=self.tokenizer.pad_token_id)

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
        packed = (
            family_of(self.module.config).pooling
            and text_path(self.module.get_submodule("text_model")) == "packed"
        )
        return FrozenText(
            tokenize=self.tokenize,
            run=self._run,
            path="packed" if packed else "padded",
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

    @torch.inference_mode()
    def embed_texts(self, batch: TextBatch) -> Tensor:
        """English texts to `[B, D]` float32 unit rows."""
        inputs = batch.to(self.device)
        given: dict[str, Tensor] = {"input_ids": inputs.input_ids}
        if self.fixed_tokens is None:
            given["attention_mask"] = inputs.mask.long()
        return unit_rows(self.module.get_text_features(**given))  # type: ignore[operator]

    def pixels(self, images: Sequence[Image.Image]) -> dict[str, Tensor]:
        """What the image tower takes of RGB images, on its device."""
        return dict(self.image_processor(list(images), return_tensors="pt").to(self.device))

    @torch.inference_mode()
    def embed_images(self, images: Sequence[Image.Image]) -> Tensor:
        """RGB images to `[B, D]` float32 unit rows."""
        return image_rows(self.module, self.pixels(images))


def learned_temperature(teacher: Teacher) -> float:
    """What the teacher's cosines were divided by when it was trained.

    Raises:
        ModelError: it does not say.
    """
    scale = getattr(teacher.module, "logit_scale", None)
    if not isinstance(scale, Tensor):
        raise ModelError(f"{teacher.source.repo} keeps no temperature; set few_shot.temperature")
    return float((-scale).exp())


def load_teacher(source: ResolvedModel, *, device: torch.device | None = None) -> Teacher:
    """Loads an image-text model: CLIP, SigLIP, AltCLIP, ChineseCLIP, a VisionTextDualEncoder.

    Raises:
        ModelError: the model has no text or no image tower, or cannot be loaded.
    """
    config = load_config(source)
    module = load_module(source, config).to(device or torch.device("cpu"))
    lacks = [f"{kind}s" for kind in ("text", "image") if not hasattr(module, f"get_{kind}_features")]
    if lacks:
        raise ModelError(
            f"{source.repo} ({config.model_type}) does not embed {' or '.join(lacks)}; a teacher embeds both "
            "into one space (CLIP, SigLIP, AltCLIP, ChineseCLIP or a VisionTextDualEncoderModel)"
        )
    tokenizer = load_tokenizer(source)
    text_config = getattr(config, "text_config", config)
    text_tower = getattr(module, "text_model", module)
    limit = min(position_limit(text_config, text_tower), int(tokenizer.model_max_length))
    fixed = limit if family_of(config).fixed_length else None
    teacher = Teacher(
        source=source,
        module=module,
        tokenizer=tokenizer,
        image_processor=load_image_processor(source),
        dim=0,
        max_tokens=limit,
        fixed_tokens=fixed,
    )
    probe = teacher.embed_texts(teacher.batch(teacher.tokenize(["a"]), np.zeros(1, np.int64)))
    return replace(teacher, dim=probe.shape[1])


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
