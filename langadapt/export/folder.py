"""What every exported folder has: it appears whole, embeds as the model does, and says how it is used."""

import json
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from torch import Tensor
from transformers import AutoTokenizer

from langadapt.errors import ModelError
from langadapt.models import LanguageModel
from langadapt.models.artifact import BaseModel


@contextmanager
def whole_folder(out: Path, *, overwrite: bool) -> Iterator[Path]:
    """A folder beside `out` that takes its name when everything in it is written.

    Refuse an `out` that is not empty, but for `overwrite`.
    """
    if out.exists() and not out.is_dir():
        raise ModelError(f"{out}: is a file; choose another --out")
    used = out.is_dir() and any(out.iterdir())
    if used and not overwrite:
        raise ModelError(f"{out}: is not empty; choose another --out, or --overwrite")
    out.parent.mkdir(parents=True, exist_ok=True)
    partial = Path(tempfile.mkdtemp(dir=out.parent, prefix=f".{out.name}."))
    try:
        yield partial
        for path in (partial, *partial.rglob("*")):
            path.chmod(0o755 if path.is_dir() else 0o644)  # mkdtemp's 0700 would hide it from everybody else
        if out.exists():
            shutil.rmtree(out)
        partial.replace(out)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


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
    sets one after another; `what` names the export in the error.

    Return `text_difference` and `image_difference`, the largest found, and the numbers of `texts` and
    `images`.
    """
    facts: dict[str, Any] = {"texts": len(probes.texts), "images": len(probes.images)}
    expected = model.encode_text(probes.texts, exact=True), model.encode_images(probes.images)
    for kind, rows, wanted in zip(("text", "image"), (texts, images), expected, strict=True):
        found = float((rows.view(-1, *wanted.shape) - wanted).abs().max())
        if not found <= tolerance:
            raise ModelError(
                f"{what} embeds {kind}s otherwise than the model: values differ by up to {found:.1e}, "
                f"at most {tolerance:.0e} is allowed; nothing was written"
            )
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


def sentence_transformers_readme(model: LanguageModel) -> str:
    """README.md of a sentence-transformers folder."""
    return f"""{_facts(model)}
```python
from PIL import Image
from sentence_transformers import SentenceTransformer

model = SentenceTransformer("PATH OF THIS FOLDER", trust_remote_code=True)
texts = model.encode(["{_example(model)}"])
images = model.encode([Image.open("photo.jpg")])
print(model.similarity(texts, images))
```

`trust_remote_code=True` runs `langadapt_module.py` of this folder; read it first. Tried with
sentence-transformers 6.2 and transformers 5.23. Texts and images are encoded in two calls. A photo is turned
upright by its EXIF orientation, by its path and as a PIL image. An empty text is not refused, but its row
means nothing.
"""


def onnx_readme(model: LanguageModel, facts: dict[str, Any]) -> str:
    """README.md of an ONNX folder."""
    found, prefix = facts["agreement"], facts["prefix"]
    joined = f"[{json.dumps(prefix, ensure_ascii=False)} + text for text in texts]" if prefix else "texts"
    pixels = ", ".join(f"`{name}`" for name in facts["image_inputs"])
    limit = facts["max_tokens"]
    return f"""{_facts(model)}
```python
import sys

import onnxruntime
from transformers import AutoImageProcessor, AutoTokenizer

folder = "PATH OF THIS FOLDER"
sys.path.append(folder)
from langadapt_images import read_image

tokenizer = AutoTokenizer.from_pretrained(folder)
processor = AutoImageProcessor.from_pretrained(folder, backend="pil")
text_model = onnxruntime.InferenceSession(f"{{folder}}/text_model.onnx")
image_model = onnxruntime.InferenceSession(f"{{folder}}/image_model.onnx")

texts = ["{_example(model)}"]
tokens = tokenizer({joined}, truncation=True, max_length={limit}, padding=True, padding_side="right",
                   return_tensors="np")
texts = text_model.run(None, {{name: tokens[name] for name in ("input_ids", "attention_mask")}})[0]
pixels = processor([read_image("photo.jpg")], return_tensors="np")
images = image_model.run(None, dict(pixels))[0]
print(texts @ images.T)
```

| file | takes | gives |
|---|---|---|
| `text_model.onnx` | `input_ids`, `attention_mask`: int64, any rows, up to {limit} tokens | `rows`, float32 |
| `image_model.onnx` | {pixels}: any rows | `rows`, float32 |

`langadapt_images.py` reads photos as they were read in training: upright, grey of 16 bits scaled to 8, RGB.

When they were written, onnxruntime and torch differed by at most {found["text_difference"]:.1e} on
{found["texts"]} texts and {found["image_difference"]:.1e} on {found["images"]} images, in a batch and alone.
{_int8(facts["int8"]) if "int8" in facts else ""}"""


def _int8(cost: dict[str, Any]) -> str:
    megabytes = f"{cost['bytes'] / 1e6:.1f} MB instead of {cost['float_bytes'] / 1e6:.1f} MB"
    return f"""
`text_model.int8.onnx` has weights of 8 bits: {megabytes}. On {cost["texts"]} texts
its rows have a mean cosine of {cost["mean_cosine"]:.4f} with the float model's, at the lowest
{cost["lowest_cosine"]:.4f}. What that does to a search was not measured.
"""


def _facts(model: LanguageModel) -> str:
    artifact = model.artifact
    return f"""# {artifact.recipe.name} texts and images in one space

Made by langadapt. Rows are of unit length, {model.dim} dimensions: their products are cosines.

- text model: {_name(artifact.text_model)}
- image-text model: {_name(artifact.teacher)}

The weights of both are in this folder; their licences hold for it, too.
"""


def _name(base: BaseModel) -> str:
    if base.local:
        return f"the local folder `{Path(base.repo).name}` with content `{base.revision}`"
    return f"`{base.repo}` at `{base.revision}`"


def _example(model: LanguageModel) -> str:
    recipe = model.artifact.recipe
    return (recipe.examples or (recipe.native_name,))[0].replace("\\", "").replace('"', "")
