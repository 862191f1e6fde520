"""Half precision on disk, single precision in use."""

import json
from pathlib import Path

from transformers import PreTrainedModel


def save_half(model: PreTrainedModel, folder: Path) -> None:
    """Store a model's weights as float16; an ordinary `from_pretrained` makes them float32 again.

    Args:
        model: Converted in place.
        folder: Receives `config.json` and `model.safetensors`.
    """
    model.half().save_pretrained(folder)
    (folder / "model.safetensors").chmod(0o644)  # written as private as a temporary file
    path = folder / "config.json"
    config = json.loads(path.read_text(encoding="utf-8"))
    path.write_text(json.dumps(config | {"dtype": "float32"}, indent=2) + "\n", encoding="utf-8")
