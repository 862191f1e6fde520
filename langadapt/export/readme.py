"""A page beside an export that says how it is used."""

import json
from pathlib import Path
from typing import Any

from langadapt.models import LanguageModel
from langadapt.models.provenance import BaseModel


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
upright when you give its path; a PIL image is taken as it is. An empty text is not refused, but its row means
nothing.
"""


def onnx_readme(model: LanguageModel, facts: dict[str, Any]) -> str:
    """README.md of an ONNX folder."""
    found, prefix = facts["agreement"], facts["prefix"]
    joined = f"[{json.dumps(prefix, ensure_ascii=False)} + text for text in texts]" if prefix else "texts"
    pixels = ", ".join(f"`{name}`" for name in facts["image_inputs"])
    limit = facts["max_tokens"]
    return f"""{_facts(model)}
```python
import onnxruntime
from PIL import Image
from transformers import AutoImageProcessor, AutoTokenizer

folder = "PATH OF THIS FOLDER"
tokenizer = AutoTokenizer.from_pretrained(folder)
processor = AutoImageProcessor.from_pretrained(folder, backend="pil")
text_model = onnxruntime.InferenceSession(f"{{folder}}/text_model.onnx")
image_model = onnxruntime.InferenceSession(f"{{folder}}/image_model.onnx")

texts = ["{_example(model)}"]
tokens = tokenizer({joined}, truncation=True, max_length={limit}, padding=True, padding_side="right",
                   return_tensors="np")
texts = text_model.run(None, {{name: tokens[name] for name in ("input_ids", "attention_mask")}})[0]
pixels = processor([Image.open("photo.jpg").convert("RGB")], return_tensors="np")
images = image_model.run(None, dict(pixels))[0]
print(texts @ images.T)
```

| file | takes | gives |
|---|---|---|
| `text_model.onnx` | `input_ids`, `attention_mask`: int64, any rows, up to {limit} tokens | `rows`, float32 |
| `image_model.onnx` | {pixels}: any rows | `rows`, float32 |

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
    if base.revision.startswith("sha256:"):
        return f"the local folder `{Path(base.repo).name}` with content `{base.revision}`"
    return f"`{base.repo}` at `{base.revision}`"


def _example(model: LanguageModel) -> str:
    recipe = model.artifact.recipe
    return (recipe.examples or (recipe.native_name,))[0].replace("\\", "").replace('"', "")
