"""The files of a finished run: adapter weights, recipe as run, and where everything came from."""

import hashlib
import json
import os
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from huggingface_hub import snapshot_download
from huggingface_hub.errors import (
    HfHubHTTPError,
    HFValidationError,
    HTTPError,
    LocalEntryNotFoundError,
)
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from langadapt.data.write_text import write_text
from langadapt.errors import ModelError
from langadapt.recipes import LanguageRecipe, dump_recipe
from langadapt.recipes.strict_yaml import parse, read_yaml

FORMAT_VERSION = 1
WEIGHTS, RECIPE, FACTS, SCORES = "adapter.safetensors", "recipe.yaml", "artifact.json", "scores.json"


@dataclass(frozen=True, kw_only=True)
class BaseModel:
    """A base model as it was used: `revision` is a commit hash, or `sha256:...` of a local folder."""

    repo: str
    revision: str


@dataclass(frozen=True, kw_only=True)
class Artifact:
    """Everything of a run but the weights of its base models."""

    recipe: LanguageRecipe
    teacher: BaseModel
    text_model: BaseModel
    target_dim: int
    weights: dict[str, Tensor]
    """Adapter weights under `adapter.`, trained weights of the text model under `text_model.`."""
    training: dict[str, Any] = field(default_factory=dict)
    """Steps, rows, seconds, parameter counts, held-out recall, data fingerprints."""
    environment: dict[str, str] = field(default_factory=dict)

    @property
    def digest(self) -> str:
        """First 8 hex digits of a SHA-256 over the weights as they are stored."""
        digest = hashlib.sha256()
        for name, value in sorted(self.weights.items()):
            digest.update(name.encode())
            digest.update(_stored(value).numpy().tobytes())
        return digest.hexdigest()[:8]

    def part(self, prefix: str) -> dict[str, Tensor]:
        """Weights whose names start with `prefix.`, without it."""
        head = prefix + "."
        return {
            name.removeprefix(head): value for name, value in self.weights.items() if name.startswith(head)
        }


def write_artifact(folder: Path, artifact: Artifact) -> None:
    """Writes an artifact; each file appears whole or not at all, the facts last.

    Floating weights are stored in half precision.
    """
    folder.mkdir(parents=True, exist_ok=True)
    save_file(
        {name: _stored(value) for name, value in artifact.weights.items()},
        folder / f".{WEIGHTS}.tmp",
        metadata={"format": "pt"},
    )
    (folder / f".{WEIGHTS}.tmp").chmod(0o644)  # safetensors' own 0600 would hide it from everybody else
    os.replace(folder / f".{WEIGHTS}.tmp", folder / WEIGHTS)
    write_text(folder / RECIPE, dump_recipe(artifact.recipe))
    facts = {
        "format_version": FORMAT_VERSION,
        "teacher": asdict(artifact.teacher),
        "text_model": asdict(artifact.text_model),
        "target_dim": artifact.target_dim,
        "weights_sha256": _file_hash(folder / WEIGHTS),
        "training": artifact.training,
        "environment": artifact.environment,
    }
    write_text(folder / FACTS, json.dumps(facts, indent=2, ensure_ascii=False) + "\n")


def read_artifact(path_or_repo: str | Path, *, revision: str | None = None) -> Artifact:
    """Reads an artifact from a folder, or from the Hub.

    Raises:
        ModelError: it is not there, incomplete, damaged, or of a newer format.
    """
    folder = _folder_of(str(path_or_repo), revision)
    for name in (FACTS, RECIPE, WEIGHTS):
        if not (folder / name).is_file():
            raise ModelError(
                f"{folder}: no {name} in it; an artifact is the folder that `langadapt distill` wrote"
            )
    try:
        facts = json.loads((folder / FACTS).read_text(encoding="utf-8"))
        if facts["format_version"] > FORMAT_VERSION:
            raise ModelError(
                f"{folder}: written by a newer langadapt; update with `pip install -U langadapt`"
            )
        if facts.get("weights_sha256", found := _file_hash(folder / WEIGHTS)) != found:
            raise ModelError(
                f"{folder}: {WEIGHTS} is not the file that was written; fetch or train the artifact again"
            )
        weights = load_file(folder / WEIGHTS)
        return Artifact(
            recipe=parse(LanguageRecipe, read_yaml(folder / RECIPE), where=str(folder / RECIPE)),
            teacher=BaseModel(**facts["teacher"]),
            text_model=BaseModel(**facts["text_model"]),
            target_dim=facts["target_dim"],
            weights={k: v.float() if v.is_floating_point() else v for k, v in weights.items()},
            training=facts["training"],
            environment=facts["environment"],
        )
    except (ValueError, KeyError, TypeError, SafetensorError) as error:
        raise ModelError(f"{folder}: damaged artifact: {str(error).splitlines()[0]}") from error


def _stored(value: Tensor) -> Tensor:
    return (value.half() if value.is_floating_point() else value).cpu().contiguous()


def _file_hash(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def environment_facts() -> dict[str, str]:
    """Versions of what computed the weights."""
    import platform
    from importlib.metadata import version

    names = ("langadapt", "torch", "transformers", "tokenizers", "accelerate", "datasets")
    return {
        "python": platform.python_version(),
        "machine": platform.machine(),
        **{name: version(name) for name in names},
    }


def _folder_of(path_or_repo: str, revision: str | None) -> Path:
    local = Path(path_or_repo).expanduser()
    if local.is_dir():
        return local
    if path_or_repo.startswith((".", "/", "~")) or path_or_repo.count("/") != 1:
        raise ModelError(f"{path_or_repo}: no such artifact folder")
    try:
        return Path(
            snapshot_download(path_or_repo, revision=revision, allow_patterns=[WEIGHTS, RECIPE, FACTS])
        )
    except LocalEntryNotFoundError as error:
        raise ModelError(
            f"{path_or_repo}: no such folder here, and the Hub cannot be reached for an artifact of that name"
        ) from error
    except (HfHubHTTPError, HFValidationError, HTTPError) as error:
        raise ModelError(
            f"{path_or_repo}: no such folder here, no such artifact on the Hub: {str(error).splitlines()[0]}"
        ) from error
