"""The towers of a student and of an image-text model as the tuning methods see them."""

from typing import Any

import torch
from PIL import Image
from torch import Tensor, nn

from langadapt.data.tokens import TextBatch
from langadapt.models.methods import Tower
from langadapt.models.student import Student
from langadapt.models.teacher import Teacher
from langadapt.nn import ExtendedEmbedding

_PROBE = [[5, 6]]


def student_tower(student: Student) -> Tower:
    """A student's text model and adapter."""
    encoder = student.text_model.encoder
    probe = TextBatch(input_ids=torch.tensor(_PROBE), mask=torch.ones(1, 2, dtype=torch.bool))
    return Tower(
        label=f"{student.text_model.source.repo} (text tower)",
        module=student,
        parts=(student,),
        encoder=encoder,
        projection=student.adapter.up,
        embeddings=_embeddings(encoder),
        run=lambda: student(probe),
        entrance=student,
        mask=lambda args, _: args[0].mask,
    )


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
        entrance=module.vision_model,
        mask=_no_mask,
    )


def text_tower(teacher: Teacher) -> Tower:
    """The text half of an image-text model."""
    module: Any = teacher.module
    ids = torch.tensor(_PROBE, device=teacher.device)
    return Tower(
        label=f"{teacher.source.repo} (text tower)",
        module=module,
        parts=(module.text_model, module.text_projection),
        encoder=module.text_model,
        projection=module.text_projection,
        embeddings=_embeddings(module.text_model),
        run=lambda: module.get_text_features(input_ids=ids, attention_mask=torch.ones_like(ids)),
        entrance=module.text_model,
        mask=_attention_mask,
    )


def _no_mask(args: tuple[Any, ...], options: dict[str, Any]) -> Tensor | None:
    return None


def _attention_mask(args: tuple[Any, ...], options: dict[str, Any]) -> Tensor | None:
    mask = options.get("attention_mask")
    return None if mask is None else mask.bool()


def _embeddings(encoder: nn.Module) -> nn.Embedding | ExtendedEmbedding | None:
    table = encoder.get_input_embeddings()  # type: ignore[operator]
    return table if isinstance(table, nn.Embedding | ExtendedEmbedding) else None
