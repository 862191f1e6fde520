"""What an index needs of a model: how images become rows, and the name of everything that decides it."""

from collections.abc import Callable
from dataclasses import dataclass

import PIL
import transformers
from PIL.Image import Image
from torch import Tensor

from langadapt.data.store import fingerprint
from langadapt.models import LanguageModel

_CODE_VERSION = 2


@dataclass(frozen=True, kw_only=True)
class ImageTower:
    """An image tower with its preprocessing.

    Two models with the same fingerprint give the same rows, whatever language they speak.
    """

    fingerprint: str
    label: str
    """For people: model and short revision."""
    dim: int
    encode: Callable[[list[Image]], Tensor]
    """RGB images to `[B, D]` float32 unit rows on the CPU."""


def image_tower(model: LanguageModel) -> ImageTower:
    """The image side of a language model."""
    teacher = model.teacher
    versions = (_CODE_VERSION, transformers.__version__, PIL.__version__)
    return ImageTower(
        fingerprint=fingerprint(*versions, model.image_identity),
        label=teacher.source.label,
        dim=teacher.dim,
        encode=lambda images: teacher.embed_images(images).cpu(),
    )
