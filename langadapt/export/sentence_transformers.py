"""Folders that `SentenceTransformer(folder, trust_remote_code=True)` loads without langadapt."""

import ast
import hashlib
import json
from dataclasses import asdict
from importlib.resources import files
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from transformers.utils import logging as transformers_logging

from langadapt import __version__
from langadapt.export.folder import (
    Probes,
    agreement,
    check_tokenizer,
    sentence_transformers_readme,
    whole_folder,
)
from langadapt.export.module import CONFIG, WEIGHTS, LanguageAndImages
from langadapt.files.atomic import write_text
from langadapt.models import LanguageModel
from langadapt.models.artifact import BaseModel
from langadapt.models.load import load_config
from langadapt.models.tuning import STAGES, has_stage

MODULE_FILE, MODULE_CLASS = "langadapt_module.py", "LanguageAndImages"
_PARTS = (
    "nn/adapter.py",
    "nn/peft_modules.py",
    "data/pixels.py",
    "models/towers.py",
    "models/vocabulary.py",
    "export/module.py",
)
_HEAD = f'''"""Texts of a language and images in one space, for sentence-transformers, without langadapt.

Made of the source files of langadapt {__version__}, in this order: {", ".join(_PARTS)}.
Licence: Apache-2.0.
"""

from types import SimpleNamespace as AdapterSpec  # the adapter's shape, as langadapt_module.json has it
'''
MODULE_FILES = ("modules.json", "config_sentence_transformers.json", CONFIG, MODULE_FILE)
"""What `write_module_files` adds to an artifact."""
FORMAT_VERSION = 3
TOLERANCE = 1e-5


def export_sentence_transformers(
    model: LanguageModel, out: Path, *, probes: Probes, overwrite: bool = False
) -> dict[str, Any]:
    """Write a folder that needs no other: both base models, the adapter, and the code that joins them.

    Args:
        model: what to export.
        out: the folder; it appears when it is whole.
        probes: texts and images on which the export must agree with the model.
        overwrite: replace a folder that is not empty.

    Returns:
        `agreement`: what was compared and how far it differed at most.

    Raises:
        ModelError: the folder is in use, or the export does not embed the probes as the model does.
    """
    module = merged_module(model)
    found = agreement(model, module, probes).within(TOLERANCE, what="the exported module")
    with whole_folder(out, overwrite=overwrite) as folder:
        bars = transformers_logging.is_progress_bar_enabled()
        transformers_logging.disable_progress_bar()
        module.save(str(folder))
        check_tokenizer(
            folder / "text_model", module, probes.texts, **module.config_dict["tokenizer_options"]
        )
        if bars:
            transformers_logging.enable_progress_bar()
        _write_frame(folder)
        write_text(folder / "README.md", sentence_transformers_readme(model))
    return {"agreement": asdict(found)}


def write_module_files(folder: Path, model: LanguageModel) -> None:
    """Add to an artifact what sentence-transformers needs; it fetches the base models at their revisions.

    Args:
        folder: holds the artifact's `adapter.safetensors`.
        model: the same artifact, loaded.
    """
    config = module_config(model)
    config["weights_sha256"] = hashlib.sha256((folder / WEIGHTS).read_bytes()).hexdigest()
    write_text(folder / CONFIG, json.dumps(config, indent=2, ensure_ascii=False) + "\n")
    _write_frame(folder)


def merged_module(model: LanguageModel) -> LanguageAndImages:
    """The module of an export with the trained weights in their places."""
    return LanguageAndImages(
        config=module_config(model),
        weights=model.artifact.weights,
        text_folder=model.student.text_model.source.path,
        image_folder=model.teacher.source.path,
        vocabulary=model.artifact.vocabulary,
    ).to(model.teacher.device)


def module_config(model: LanguageModel) -> dict[str, Any]:
    """What `langadapt_module.json` says of an artifact whose base models stay where they are."""
    recipe, text_model = model.artifact.recipe, model.student.text_model
    vocabulary = model.artifact.vocabulary
    language = recipe.text_model.tokenizer_language
    return {
        "format_version": FORMAT_VERSION,
        "language": recipe.code,
        "dim": model.dim,
        "adapter": recipe.adapter.model_dump(mode="json"),
        "text_model": _base(model.artifact.text_model, _unused_by_texts(model)),
        "image_model": _base(model.artifact.teacher, _unused_by_images(model)),
        "prefix": text_model.prefix,
        "tokenizer_options": {"src_lang": language} if language else {},
        "max_tokens": text_model.max_tokens,
        "stages": ["", *(name for name in STAGES if has_stage(model.artifact.weights, name))],
        "vocabulary": None if vocabulary is None else vocabulary.digest,
    }


def _base(base: BaseModel, unused: list[str]) -> dict[str, Any]:
    return {**asdict(base), "unused": unused}


def _write_frame(folder: Path) -> None:
    place = {"idx": 0, "name": "0", "path": "", "type": f"{Path(MODULE_FILE).stem}.{MODULE_CLASS}"}
    frame = {"model_type": "SentenceTransformer", "prompts": {}, "similarity_fn_name": "cosine"}
    write_text(folder / "modules.json", json.dumps([place], indent=2) + "\n")
    write_text(folder / "config_sentence_transformers.json", json.dumps(frame, indent=2) + "\n")
    write_text(folder / MODULE_FILE, module_source())


def _unused_by_texts(model: LanguageModel) -> list[str]:
    """Parts of the whole text model that its encoder does not need: an encoder-decoder's decoder."""
    config = load_config(model.student.text_model.source)
    return ["decoder"] if getattr(config, "is_encoder_decoder", False) else []


@torch.inference_mode()
def _unused_by_images(model: LanguageModel) -> list[str]:
    """Parts of the image-text model that no image runs through: its text tower."""
    module, ran = model.teacher.module, set[int]()
    hooks = [
        part.register_forward_pre_hook(lambda part, given: ran.update(id(p) for p in part.parameters(False)))
        for part in module.modules()
    ]
    model.teacher.embed_images([Image.new("RGB", (64, 64))])
    for hook in hooks:
        hook.remove()
    return [
        name
        for name, part in module.named_children()
        if list(part.parameters()) and not any(id(p) in ran for p in part.parameters())
    ]


def module_source() -> str:
    """The text of `langadapt_module.py`."""
    return "\n".join([_HEAD, *(source_text(name) for name in _PARTS)])


def source_text(name: str) -> str:
    """A source file without its docstring and without imports of the files that stand before it."""
    text = files("langadapt").joinpath(name).read_text(encoding="utf-8")
    lines = text.splitlines(keepends=True)
    tree = ast.parse(text)
    docstring, *_ = tree.body
    gone = [docstring] + [
        node
        for node in tree.body
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("langadapt")
    ]
    for node in gone:
        assert node.end_lineno is not None
        for number in range(node.lineno - 1, node.end_lineno):
            lines[number] = ""
    return f"# ---- {name}\n" + "".join(lines)
