"""A new image-text model from an image encoder and a text encoder that have never met."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from torch import Tensor, nn
from transformers import AutoModel, CLIPVisionModel, VisionTextDualEncoderModel
from transformers.utils import logging as transformers_logging

from langadapt.errors import ModelError
from langadapt.models.load import (
    ResolvedModel,
    load_config,
    load_image_processor,
    load_tokenizer,
    position_limit,
)
from langadapt.models.teacher import Teacher, image_tower, text_tower
from langadapt.models.trainable import Tower


@dataclass(frozen=True, kw_only=True)
class DualEncoder:
    """The model with its tokenizer and image processor, and the image encoder alone.

    `new` are the names of weights that no file had: the projections, and poolers that were never trained.
    """

    teacher: Teacher
    features: Teacher
    """Embeds images as the encoder pools them, in front of the projection."""
    new: frozenset[str]

    def text_tower(self) -> Tower:
        """Text half; its projection includes what else of it is new."""
        return self._with_new(text_tower(self.teacher), "text_model.", "text_projection.")

    def image_tower(self) -> Tower:
        """Image half; its projection includes what else of it is new."""
        return self._with_new(image_tower(self.teacher), "vision_model.", "visual_projection.")

    def _with_new(self, tower: Tower, *heads: str) -> Tower:
        places = {name.rpartition(".")[0] for name in self.new if name.startswith(heads)}
        modules = [self.teacher.module.get_submodule(place) for place in sorted(places)]
        return replace(tower, projection=nn.ModuleList(modules))


def new_dual_encoder(
    image: ResolvedModel, text: ResolvedModel, *, dim: int, max_tokens: int, seed: int, device: torch.device
) -> DualEncoder:
    """Puts two encoders under one roof, with new projections into a shared space.

    Args:
        image: any vision encoder of transformers whose output is pooled (ViT, MobileNet, ResNet, Swin, CLIP).
        text: any text encoder of transformers with a pooler (BERT and its kin).
        dim: D, width of the shared space.
        max_tokens: longer captions are cut here.
        seed: of the new weights.
        device: where to run.

    Raises:
        ModelError: a model cannot be loaded or pools nothing, or weights other than a pooler's are missing.
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
    source = ResolvedModel(
        repo=f"{Path(image.repo).name}+{Path(text.repo).name}",
        revision=f"{image.revision}+{text.revision}",
        path=text.path,
    )
    teacher = Teacher(
        source=source,
        module=module,
        tokenizer=tokenizer,
        image_processor=load_image_processor(image),
        dim=dim,
        max_tokens=limit,
        fixed_tokens=None,
    )
    features = replace(
        teacher,
        source=replace(image, revision=f"{image.revision}+pooled"),
        module=_Pooled(module.vision_model),
        dim=module.vision_embed_dim,
    )
    new = {f"vision_model.{name}" for name in missing_image} | {f"text_model.{name}" for name in missing_text}
    return DualEncoder(
        teacher=teacher,
        features=features,
        new=frozenset({*new, "visual_projection.weight", "text_projection.weight"}),
    )


class _Pooled(nn.Module):
    """A vision encoder whose pooled output stands for the embedding."""

    def __init__(self, encoder: nn.Module) -> None:
        super().__init__()
        self.encoder = encoder

    def get_image_features(self, **pixels: Tensor) -> Tensor:
        """Pooled rows `[B, H]`."""
        pooled: Tensor = self.encoder(**pixels).pooler_output
        return pooled


def _encoder(source: ResolvedModel, takes: str) -> tuple[Any, list[str]]:
    """An encoder with its pooler, and the names of the pooler's weights where the file has none."""
    config = load_config(source)
    kind = CLIPVisionModel if config.model_type == "clip" else AutoModel
    level = transformers_logging.get_verbosity()
    transformers_logging.set_verbosity_error()
    try:
        module, info = kind.from_pretrained(
            source.path, dtype=torch.float32, use_safetensors=True, output_loading_info=True
        )
    except (OSError, ValueError, KeyError, RuntimeError, SafetensorError) as error:
        raise ModelError(f"{source.repo}: cannot load its weights: {str(error).splitlines()[0]}") from error
    finally:
        transformers_logging.set_verbosity(level)
    missing = sorted(info["missing_keys"])
    wrong = [name for name in missing if "pooler" not in name]
    if wrong:
        raise ModelError(f"{source.repo}: {len(wrong)} weights are missing from the file, first '{wrong[0]}'")
    if module.main_input_name != takes:
        role = "a vision encoder" if takes == "pixel_values" else "a text encoder"
        raise ModelError(f"{source.repo} ({config.model_type}) is not {role}")
    given = torch.tensor([[5, 6]]) if takes == "input_ids" else torch.zeros(1, 3, *_image_size(config))
    with torch.no_grad():
        output = module.eval()(**{takes: given})
    pooled = getattr(output, "pooler_output", None)
    if pooled is None or pooled.dim() != 2:
        raise ModelError(f"{source.repo} ({config.model_type}) does not pool its states to one row per input")
    if getattr(module.config, "hidden_size", None) is None:  # MobileNet's does not say how wide its rows are
        module.config.hidden_size = pooled.shape[1]
    return module, missing


def _image_size(config: Any) -> tuple[int, int]:
    size = getattr(getattr(config, "vision_config", config), "image_size", None) or 224
    return (size, size) if isinstance(size, int) else (size[0], size[1])
