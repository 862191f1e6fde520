"""What each tool needs in the published folder, and how the adapter is used in it."""

import json
from collections.abc import Callable
from pathlib import Path

from langadapt.export import default_probes, write_module_files
from langadapt.export.agreement import agreement
from langadapt.export.sentence_transformers import MODULE_FILES, TOLERANCE, merged_module
from langadapt.hub.card import Usage
from langadapt.models import LanguageModel


def _langadapt(folder: Path, model: LanguageModel, repo: str) -> Usage:
    artifact = model.artifact
    places = "".join(
        f', {role}="path/of/{base.repo}"'
        for role, base in (("teacher", artifact.teacher), ("text_model", artifact.text_model))
        if base.local
    )
    return Usage(
        title="langadapt",
        text=f"""```bash
pip install langadapt
```

```python
import langadapt

model = langadapt.load("{repo}"{places})  # revision="..." pins a commit
text = model.encode_text({_example(model)})  # float32 [1, {artifact.target_dim}], unit rows
images = model.encode_images(["a.jpg", "b.jpg"])  # float32 [2, {artifact.target_dim}]
print(text @ images.T)
```""",
    )


def _sentence_transformers(folder: Path, model: LanguageModel, repo: str) -> Usage:
    """Adds the module's files where it embeds as the model does; says so where it cannot."""
    if model.artifact.teacher.local or model.artifact.text_model.local:
        return Usage(
            title="sentence-transformers",
            text="Not from this repository: a base model is a folder that is not on the Hub. Whoever has "
            "it can write a folder that holds everything: `langadapt export`, below.",
        )
    agreement(model, merged_module(model), default_probes(model)).within(
        TOLERANCE, what="the sentence-transformers module"
    )
    write_module_files(folder, model)
    return Usage(
        title="sentence-transformers",
        text=f"""Without langadapt. `trust_remote_code=True` runs `langadapt_module.py` of this repository;
read it first.

```python
from PIL import Image
from sentence_transformers import SentenceTransformer

model = SentenceTransformer("{repo}", trust_remote_code=True)
texts = model.encode({_example(model)})
images = model.encode([Image.open("photo.jpg")])
print(model.similarity(texts, images))
```""",
        files=MODULE_FILES,
    )


def _onnx(folder: Path, model: LanguageModel, repo: str) -> Usage:
    return Usage(
        title="ONNX, and a folder with everything inside",
        text=f"""```bash
langadapt export {repo} --format onnx --out onnx
langadapt export {repo} --format sentence-transformers --out with-base-models
```""",
    )


def _example(model: LanguageModel) -> str:
    samples = model.artifact.samples
    return json.dumps(list(samples.texts[:1] if samples else ()), ensure_ascii=False)


TOOLS: tuple[Callable[[Path, LanguageModel, str], Usage], ...] = (_langadapt, _sentence_transformers, _onnx)
"""Each gets the folder, the adapter loaded from it, and the repository's name; it writes its files there."""
