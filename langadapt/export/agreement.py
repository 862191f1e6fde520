"""Whether an export embeds as the model that it was made of."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from transformers import AutoTokenizer

from langadapt.errors import ModelError
from langadapt.models import LanguageModel


@dataclass(frozen=True, kw_only=True)
class Probes:
    """Texts of the language, none empty, and RGB images."""

    texts: list[str]
    images: list[Image.Image]


@dataclass(frozen=True, kw_only=True)
class Agreement:
    """Largest absolute difference of any value of the unit rows, and how many rows were compared."""

    text_difference: float
    image_difference: float
    texts: int
    images: int

    def within(self, tolerance: float, *, what: str) -> "Agreement":
        """Itself.

        Raises:
            ModelError: a difference is larger than the tolerance, or is not a number.
        """
        for kind, found in (("texts", self.text_difference), ("images", self.image_difference)):
            if not found <= tolerance:
                raise ModelError(
                    f"{what} embeds {kind} otherwise than the model: values differ by up to {found:.1e}, "
                    f"at most {tolerance:.0e} is allowed; nothing was written"
                )
        return self


class Module(Protocol):
    """What is compared: inputs of one kind to features, features to rows."""

    def preprocess(self, inputs: Sequence[Any]) -> dict[str, Tensor]: ...

    def __call__(self, features: dict[str, Any]) -> dict[str, Any]: ...


def agreement(model: LanguageModel, module: Module, probes: Probes) -> Agreement:
    """Compares an export with the model on probes; texts also in one padded batch."""
    with torch.inference_mode():
        texts, images = (
            module({k: v.to(model.teacher.device) for k, v in module.preprocess(items).items()})[
                "sentence_embedding"
            ].cpu()
            for items in (probes.texts, probes.images)
        )
    return Agreement(
        text_difference=difference(texts, model.encode_text(probes.texts, exact=True)),
        image_difference=difference(images, model.encode_images(probes.images)),
        texts=len(texts),
        images=len(images),
    )


def check_tokenizer(folder: Path, module: Any, texts: list[str], **options: str) -> None:
    """Reads a tokenizer that was just written, and compares the ids.

    Args:
        folder: where it was written.
        module: it was this one's.
        texts: on which both must agree.
        options: with which it is read.

    Raises:
        ModelError: they differ.
    """
    again = AutoTokenizer.from_pretrained(folder, trust_remote_code=False, **options)
    cut = {"truncation": True, "max_length": module.max_seq_length}
    if again(texts, **cut)["input_ids"] != module.tokenizer(texts, **cut)["input_ids"]:
        kind = type(again).__name__
        raise ModelError(f"the {kind}, read from its files, cuts texts otherwise; nothing was written")


def difference(found: Tensor, expected: Tensor) -> float:
    """Largest absolute difference; NaN where there is one."""
    return float((found - expected).abs().max())


def default_probes(model: LanguageModel, *, texts: list[str] | None = None) -> Probes:
    """The given texts, else those that the artifact keeps, and a long one; and four pictures of noise."""
    artifact = model.artifact
    kept = artifact.samples.texts if artifact.samples else artifact.recipe.examples
    own = texts or [*kept, artifact.recipe.native_name]
    noise = np.random.default_rng(0)
    sizes = [(64, 48), (224, 224), (300, 500), (37, 512)]
    images = [
        Image.fromarray(noise.integers(0, 256, (height, width, 3), dtype=np.uint8)) for width, height in sizes
    ]
    return Probes(texts=[*own, " ".join(own[:40])], images=images)
