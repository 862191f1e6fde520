"""What every exported folder has: it appears whole, embeds as the model does, and says how it is used."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from torch import Tensor
from transformers import AutoTokenizer

from langadapt.errors import ModelError
from langadapt.files.templates import templates
from langadapt.models import LanguageModel


@dataclass(frozen=True, kw_only=True)
class Probes:
    """Texts of the language, none empty, and RGB images."""

    texts: list[str]
    images: list[Image.Image]


def check_rows(
    model: LanguageModel, probes: Probes, texts: Tensor, images: Tensor, *, tolerance: float, what: str
) -> dict[str, Any]:
    """Compare an export's unit rows of the probes with the model's; refuse differences above the tolerance.

    `texts` and `images` are the export's rows `[N, D]` float32 of N texts and of the images, or several such
    sets one after another; `what` names the export. Return the largest differences and the numbers.
    """
    facts: dict[str, Any] = {"texts": len(probes.texts), "images": len(probes.images)}
    expected = model.encode_text(probes.texts, exact=True), model.encode_images(probes.images)
    for kind, rows, wanted in zip(("text", "image"), (texts, images), expected, strict=True):
        found = float((rows.view(-1, *wanted.shape) - wanted).abs().max())
        if not found <= tolerance:
            far = f"values differ by up to {found:.1e}, at most {tolerance:.0e} is allowed"
            raise ModelError(f"{what} embeds {kind}s otherwise than the model: {far}; nothing was written")
        facts[f"{kind}_difference"] = found
    return facts


def check_tokenizer(folder: Path, module: Any, texts: list[str], **options: str) -> None:
    """Read a module's tokenizer that was just written; refuse it if it gives some texts other ids."""
    again = AutoTokenizer.from_pretrained(folder, trust_remote_code=False, **options)
    cut = {"truncation": True, "max_length": module.max_seq_length}
    if again(texts, **cut)["input_ids"] != module.tokenizer(texts, **cut)["input_ids"]:
        kind = type(again).__name__
        raise ModelError(f"the {kind}, read from its files, cuts texts otherwise; nothing was written")


def default_probes(model: LanguageModel, *, texts: list[str] | None = None) -> Probes:
    """The given texts, else those that the artifact keeps, and a long one; and four pictures of noise."""
    artifact = model.artifact
    kept = artifact.samples.texts if artifact.samples else artifact.recipe.examples
    own = texts or [*kept, artifact.recipe.native_name]
    noise = np.random.default_rng(0)
    shapes = [(48, 64, 3), (224, 224, 3), (500, 300, 3), (512, 37, 3)]
    images = [Image.fromarray(noise.integers(0, 256, shape, dtype=np.uint8)) for shape in shapes]
    return Probes(texts=[*own, " ".join(own[:40])], images=images)


def readme(model: LanguageModel, kind: str, **facts: Any) -> str:
    """README.md of an exported folder, by the template of its kind."""
    recipe = model.artifact.recipe
    example = (recipe.examples or (recipe.native_name,))[0].replace("\\", "").replace('"', "")
    template = templates("langadapt.export", escape_html=False).get_template(f"{kind}.md")
    return template.render(model=model, recipe=recipe, example=example, **facts)
