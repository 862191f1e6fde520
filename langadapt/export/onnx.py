"""Text tower and image tower as ONNX files, each checked against torch before it is kept."""

import json
import logging
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from langadapt.errors import ModelError
from langadapt.export.module import LanguageAndImages
from langadapt.export.sentence_transformers import (
    Probes,
    check_rows,
    check_tokenizer,
    merged_module,
    readme,
    source_text,
)
from langadapt.files.atomic import whole_folder, write_text
from langadapt.models import LanguageModel
from langadapt.models.towers import image_rows

TEXT, TEXT_INT8, IMAGE, FACTS = "text_model.onnx", "text_model.int8.onnx", "image_model.onnx", "onnx.json"
IMAGES_FILE = "langadapt_images.py"
TOLERANCE = 1e-4
OPSET = 18


class _Tower(nn.Module):
    """A part of the module that is traced: its inputs in order, to rows."""

    def __init__(self, module: LanguageAndImages, run: Callable[..., Tensor]) -> None:
        super().__init__()
        self.module, self.run = module, run

    def forward(self, *inputs: Tensor) -> Tensor:
        return self.run(*inputs)


def export_onnx(
    model: LanguageModel, out: Path, *, probes: Probes, int8: bool = False, overwrite: bool = False
) -> dict[str, Any]:
    """Write both towers as ONNX with tokenizer, image preprocessing and a page on their use.

    `out` appears when it is whole; `overwrite` replaces a folder that is not empty. On the probes onnxruntime
    must agree with torch. `int8` also writes the text tower with 8-bit weights, and measures their cost.

    Return what `onnx.json` holds.
    """
    try:
        import onnx  # noqa: F401
        import onnxruntime  # noqa: F401
    except ImportError as error:
        raise ModelError(f"--format onnx needs {error.name}: pip install 'langadapt[onnx]'") from error
    module = merged_module(model).cpu()
    with whole_folder(out, overwrite=overwrite) as folder:
        _write_tower(folder / TEXT, _Tower(module, module.embed_texts), module.preprocess(_TRACED_TEXTS))
        pixels = module.preprocess(_TRACED_IMAGES)

        def embed(*inputs: Tensor) -> Tensor:
            return image_rows(module.image_tower, dict(zip(pixels, inputs, strict=True)))

        _write_tower(folder / IMAGE, _Tower(module, embed), pixels)
        texts = _run(folder / TEXT, module, probes.texts)
        images = _run(folder / IMAGE, module, probes.images)
        found = check_rows(model, probes, texts, images, tolerance=TOLERANCE, what="onnxruntime")
        facts: dict[str, Any] = {
            "language": model.artifact.recipe.code,
            "dim": model.dim,
            "prefix": module.config_dict["prefix"],
            "max_tokens": module.max_seq_length,
            "text_inputs": ["input_ids", "attention_mask"],
            "image_inputs": list(pixels),
            "opset": OPSET,
            "agreement": found,
        }
        if int8:
            facts["int8"] = _write_int8(folder, module, model, probes.texts)
        module.tokenizer.save_pretrained(folder)
        check_tokenizer(folder, module, probes.texts)
        module.image_processor.save_pretrained(folder)
        write_text(folder / FACTS, json.dumps(facts, indent=2, ensure_ascii=False) + "\n")
        write_text(folder / IMAGES_FILE, source_text("files/json.py") + source_text("data/pixels.py"))
        write_text(folder / "README.md", readme(model, "onnx", **facts))
    return facts


# Never the probes themselves: a size that tracing froze into the file must not go unnoticed.
_TRACED_TEXTS = ["a b c d e", "f", "g h"]
_TRACED_IMAGES = [Image.new("RGB", (90, 70), (40, 90, 160)), Image.new("RGB", (64, 200), (200, 30, 60))]


def _write_tower(path: Path, tower: nn.Module, inputs: dict[str, Tensor]) -> None:
    axes = {name: {0: "rows", **({1: "tokens"} if path.name == TEXT else {})} for name in inputs}
    try:
        with torch.no_grad(), _quiet():
            # The older exporter: the same rows from one file, in a twentieth of the newer one's time.
            torch.onnx.export(
                tower.eval(),
                tuple(inputs.values()),
                path,
                input_names=list(inputs),
                output_names=["rows"],
                dynamic_axes={**axes, "rows": {0: "rows"}},
                opset_version=OPSET,
                dynamo=False,
            )
    except torch.onnx.errors.OnnxExporterError as error:
        kind, reason = path.stem.removesuffix("_model"), str(error).strip().splitlines()[0]
        raise ModelError(f"the {kind} tower cannot be written as ONNX: {reason}") from error


def _run(path: Path, module: LanguageAndImages, items: list[Any]) -> Tensor:
    """Rows by onnxruntime: all in one batch, then each alone."""
    import onnxruntime

    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    rows = []
    for batch in (items, *([item] for item in items)):
        given = {name: value.numpy() for name, value in module.preprocess(batch).items()}
        try:
            rows.append(session.run(None, given)[0])
        except onnxruntime.capi.onnxruntime_pybind11_state.RuntimeException as error:
            reason = str(error).strip().splitlines()[0]
            raise ModelError(f"{path.name}: onnxruntime cannot run it: {reason}") from error
    return torch.from_numpy(np.concatenate(rows))


def _write_int8(
    folder: Path, module: LanguageAndImages, model: LanguageModel, texts: list[str]
) -> dict[str, Any]:
    """Write the text tower with 8-bit weights, and return its cosine with the float model."""
    from onnxruntime.quantization import QuantType, quantize_dynamic

    with _quiet():
        quantize_dynamic(folder / TEXT, folder / TEXT_INT8, weight_type=QuantType.QInt8, per_channel=True)
    rows = _run(folder / TEXT_INT8, module, texts)[: len(texts)]
    cosines = (rows * model.encode_text(texts, exact=True)).sum(dim=1)
    return {
        "texts": len(texts),
        "mean_cosine": round(float(cosines.mean()), 6),
        "lowest_cosine": round(float(cosines.min()), 6),
        "bytes": (folder / TEXT_INT8).stat().st_size,
        "float_bytes": (folder / TEXT).stat().st_size,
    }


@contextmanager
def _quiet() -> Iterator[None]:
    """Hide warnings on shapes that tracing might freeze: the comparison of rows finds out."""
    root = logging.getLogger()
    level = root.level
    root.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings(action="ignore"):
            yield
    finally:
        root.setLevel(level)
