"""Image-text models as they are: the frozen teacher, or a new one of two encoders that have never met."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from inspect import signature
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional as F

from langadapt.data.tokens import TextBatch, Tokens, pinned, send
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
from langadapt.models.student import load_text_model, pooling_of
from langadapt.models.towers import DualEncoder, image_rows, plain_embedding, pooled_images, unit_rows
from langadapt.models.trainable import PROBE_IDS, Tower, embedding_table
from langadapt.recipes import AlignStage, TextModelRef

_BLANK = Image.new("RGB", (64, 64))


@dataclass(frozen=True, kw_only=True)
class Teacher:
    """An image-text model, frozen: one of transformers, or a `DualEncoder`.

    `dim` is D; `max_tokens` the text tower's limit; `fixed_tokens` the length that every text is padded to,
    None for models that mask or ignore padding; `prefix` is put before each text.
    """

    source: ResolvedModel
    module: nn.Module
    tokenizer: Any
    image_processor: Any
    dim: int
    max_tokens: int
    fixed_tokens: int | None
    prefix: str = ""
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

        def prepare(text: str) -> str:
            return self.prefix + clean(text)

        return tokenize_texts(self.tokenizer, texts, max_tokens=self.max_tokens, prepare=prepare)

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
        """Texts to `[B, D]` float32, not normalised, with gradients."""
        inputs = batch.to(self.device)
        given: dict[str, Tensor] = {"input_ids": inputs.input_ids}
        if self.fixed_tokens is None:
            given["attention_mask"] = inputs.mask.long()
        else:  # a training batch is cut at its longest text
            short = self.fixed_tokens - inputs.input_ids.shape[1]
            given["input_ids"] = F.pad(inputs.input_ids, (0, short), value=self.tokenizer.pad_token_id)
        return plain_embedding(self.module.get_text_features(**given))  # type: ignore[operator]

    @torch.inference_mode()
    def embed_texts(self, batch: TextBatch) -> Tensor:
        """Texts to `[B, D]` float32, normalised."""
        return unit_rows(self.text_features(batch))

    def read_pixels(self, images: Sequence[Image.Image]) -> dict[str, Tensor]:
        """What the image tower takes of RGB images, on the host, ready to be sent to its device.

        Channels last: a convolutional tower is 1.5 times faster so on a CPU.
        """
        made = self.image_processor(list(images), return_tensors="pt")
        last = {k: v.to(memory_format=torch.channels_last) if v.dim() == 4 else v for k, v in made.items()}
        return {key: pinned(value, self.device) for key, value in last.items()}

    def pixels(self, images: Sequence[Image.Image]) -> dict[str, Tensor]:
        """The same on the device."""
        return {key: send(value, self.device) for key, value in self.read_pixels(images).items()}

    @torch.inference_mode()
    def embed_pixels(self, pixels: dict[str, Tensor]) -> Tensor:
        """What `read_pixels` made to `[B, D]` float32 unit rows, in bfloat16 where the device has it."""
        sent = {key: send(value, self.device) for key, value in pixels.items()}
        with torch.autocast(self.device.type, torch.bfloat16, enabled=uses_bf16(self.device)):
            return image_rows(self.module, sent)

    @torch.inference_mode()
    def embed_images(self, images: Sequence[Image.Image]) -> Tensor:
        """RGB images to `[B, D]` float32 unit rows, computed in float32."""
        return image_rows(self.module, self.pixels(images))


def learned_temperature(teacher: Teacher) -> float:
    """What the teacher's cosines were divided by when it was trained."""
    scale = getattr(teacher.module, "logit_scale", None)
    if not isinstance(scale, Tensor):
        raise ModelError(f"{teacher.source.repo} keeps no temperature; set few_shot.temperature")
    return float((-scale).exp())


def load_dual_encoder(source: ResolvedModel, *, device: torch.device | None = None) -> Teacher:
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
        image = teacher.embed_images([_BLANK])
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
    pixels = teacher.pixels([_BLANK])
    return Tower(
        label=f"{teacher.source.repo} (image tower)",
        module=module,
        parts=(module.vision_model,) if projection is None else (module.vision_model, projection),
        encoder=module.vision_model,
        projection=projection,
        embeddings=None,
        embed=lambda given: plain_embedding(module.get_image_features(**given)),
        probe=pixels,
    )


def text_tower(teacher: Teacher) -> Tower:
    """The text half of an image-text model."""
    module: Any = teacher.module
    encoder, projection = module.text_model, getattr(module, "text_projection", None)
    ids = torch.tensor(PROBE_IDS)
    return Tower(
        label=f"{teacher.source.repo} (text tower)",
        module=module,
        parts=(encoder,) if projection is None else (encoder, projection),
        encoder=encoder,
        projection=getattr(encoder, "head", None) if projection is None else projection,
        embeddings=embedding_table(encoder),
        embed=teacher.text_features,
        probe=TextBatch(input_ids=ids, mask=torch.ones_like(ids, dtype=torch.bool)),
    )


def join_encoders(
    image: ResolvedModel, text: ResolvedModel, ref: TextModelRef, stage: AlignStage, *, device: torch.device
) -> Teacher:
    """Put two encoders under one roof, with new projections into a shared space of `stage.dim` numbers.

    `image` is any vision encoder of transformers (ViT, DINOv2, ConvNeXt, MobileNet), or the vision tower of
    an image-text model; `text` any text encoder. `ref` gives prefix and tokenizer language, `stage.pooling`
    what becomes one row of a text's states; captions are cut at `stage.max_tokens`.
    """
    pooler = stage.pooling == "pooler"
    language = load_text_model(text, ref, max_tokens=stage.max_tokens, pooler=pooler)
    pooling = folder_pooling(text, language.state_dim) if stage.pooling == "auto" else stage.pooling
    if pooler and getattr(language.encoder, "pooler", None) is None:
        raise ModelError(f"{text.repo} has no pooler in its file; set pooling to mean, cls or last")
    config = load_config(image)
    vision: Any = load_module(image, config, pooler=True)
    vision = getattr(vision, "vision_model", vision)
    processor = load_image_processor(image)
    if "pixel_values" not in signature(vision.forward).parameters:
        raise ModelError(f"{image.repo} ({config.model_type}) is not a vision encoder")
    with Refusing(f"{image.repo} ({config.model_type}) does not make one row of an image"), torch.no_grad():
        _, width = pooled_images(vision(**processor([_BLANK], return_tensors="pt"))).shape
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(stage.seed)
        widths = width, language.state_dim
        module = DualEncoder(vision, language.encoder, widths=widths, dim=stage.dim, pooling=pooling)
    teacher = Teacher(
        source=image,
        module=module.to(device).eval().requires_grad_(False),
        tokenizer=language.tokenizer,
        image_processor=processor,
        dim=stage.dim,
        max_tokens=language.max_tokens,
        fixed_tokens=None,
        prefix=language.prefix,
    )
    teacher.tokenizer.padding_side = "right"
    _check_padding(teacher)
    return teacher


_POOLINGS = {"mean": "mean", "mean_tokens": "mean", "cls": "cls", "cls_token": "cls", "lasttoken": "last"}
"""By the names that sentence-transformers gives them."""


def folder_pooling(source: ResolvedModel, width: int) -> str:
    """How a folder of sentence-transformers pools its states of `width` numbers; `mean` for any other."""
    found, where = pooling_of(source), f"{source.repo}: 1_Pooling/config.json"
    if found is None:
        return "mean"
    modes, wide = found
    if len(modes) != 1 or modes[0] not in _POOLINGS:
        ways = "mean, cls and last are known; set pooling yourself"
        raise ModelError(f"{where} pools by {' and '.join(modes) or 'nothing'}; {ways}")
    if wide not in (None, width):
        raise ModelError(
            f"{where} is for states of {wide} numbers, its weights give {width}; mend the folder"
        )
    return _POOLINGS[modes[0]]


def pooled_teacher(teacher: Teacher) -> Teacher:
    """The image encoder of a `DualEncoder` alone: images as it pools them, in front of the projection."""
    module: Any = teacher.module
    source = replace(teacher.source, revision=f"{teacher.source.revision}+pooled")
    pooled = _Pooled(module.vision_model)
    return replace(teacher, source=source, module=pooled, dim=module.visual_projection.in_features)


class _Pooled(nn.Module):
    def __init__(self, encoder: nn.Module) -> None:
        super().__init__()
        self.encoder = encoder

    def get_image_features(self, **pixels: Tensor) -> Tensor:
        """Pooled rows `[B, H]`."""
        return pooled_images(self.encoder(**pixels))
