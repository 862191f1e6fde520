"""The files of a finished run: adapter weights, recipe as run, and where everything came from."""

import hashlib
import json
import re
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from langadapt.data.write_tensors import write_tensors
from langadapt.data.write_text import write_text
from langadapt.errors import ModelError
from langadapt.models.artifact_folder import (
    FACTS,
    FORMAT_VERSION,
    RECIPE,
    SAMPLES,
    SCORES,
    VOCABULARY,
    WEIGHTS,
    artifact_folder,
    check_files,
    check_unchanged,
    file_hash,
    sealed,
)
from langadapt.models.pieces import Vocabulary
from langadapt.models.provenance import BaseModel, DataSource, Samples
from langadapt.recipes import LanguageRecipe, dump_recipe
from langadapt.recipes.strict_yaml import parse, read_yaml

__all__ = [
    "FACTS",
    "RECIPE",
    "SAMPLES",
    "SCORES",
    "VOCABULARY",
    "WEIGHTS",
    "Artifact",
    "read_artifact",
    "write_artifact",
]


@dataclass(frozen=True, kw_only=True)
class Artifact:
    """Everything of a run but the weights of its base models."""

    recipe: LanguageRecipe
    teacher: BaseModel
    text_model: BaseModel
    target_dim: int
    weights: dict[str, Tensor]
    """Adapter weights under `adapter.`, trained weights of the text model under `text_model.`."""
    data: tuple[DataSource, ...] = ()
    """Corpora of all stages; empty in an artifact of format 1, which did not keep them."""
    samples: Samples | None = None
    """None in an artifact of format 1."""
    training: dict[str, Any] = field(default_factory=dict)
    """Steps, rows, seconds, parameter counts, held-out recall, data fingerprints."""
    environment: dict[str, str] = field(default_factory=dict)
    vocabulary: Vocabulary | None = None
    """New pieces of the text model's tokenizer; their rows are among the weights."""

    @property
    def digest(self) -> str:
        """First 8 hex digits of a SHA-256 over the weights as they are stored, and new pieces."""
        digest = hashlib.sha256((self.vocabulary.digest if self.vocabulary else "").encode())
        for name, value in sorted(self.weights.items()):
            digest.update(name.encode())
            digest.update(_stored(value).numpy().tobytes())
        return digest.hexdigest()[:8]

    @property
    def contaminated(self) -> str:
        """`kept(n)` where it was trained on n rows that hold test captions, as its data say; else empty."""
        told = [re.fullmatch(r"kept\((\d+)\)", source.contamination) for source in self.data]
        kept = sum(int(match[1]) for match in told if match)
        return f"kept({kept})" if kept else ""

    def part(self, prefix: str) -> dict[str, Tensor]:
        """Weights whose names start with `prefix.`, without it."""
        head = prefix + "."
        return {
            name.removeprefix(head): value for name, value in self.weights.items() if name.startswith(head)
        }


def write_artifact(folder: Path, artifact: Artifact) -> None:
    """Writes an artifact; each file appears whole or not at all, the facts last.

    Floating weights are stored in half precision, the samples in single.
    """
    folder.mkdir(parents=True, exist_ok=True)
    write_tensors(folder / WEIGHTS, {name: _stored(value) for name, value in artifact.weights.items()})
    names = [WEIGHTS, RECIPE]
    if artifact.samples is not None:
        write_tensors(folder / SAMPLES, {"embeddings": artifact.samples.embeddings})
        names.append(SAMPLES)
    write_text(folder / RECIPE, dump_recipe(artifact.recipe))
    if artifact.vocabulary is not None:
        write_text(folder / VOCABULARY, artifact.vocabulary.to_json())
        names.append(VOCABULARY)
    facts = {
        "format_version": FORMAT_VERSION,
        "teacher": asdict(artifact.teacher),
        "text_model": asdict(artifact.text_model),
        "target_dim": artifact.target_dim,
        "data": [asdict(source) for source in artifact.data],
        "samples": list(artifact.samples.texts) if artifact.samples else [],
        "files": {name: file_hash(folder / name) for name in names},
        "training": artifact.training,
        "environment": artifact.environment,
    }
    write_text(folder / FACTS, json.dumps(sealed(facts), indent=2, ensure_ascii=False) + "\n")


def read_artifact(path_or_repo: str | Path, *, revision: str | None = None) -> Artifact:
    """Reads an artifact from a folder, or from the Hub.

    Raises:
        ModelError: it is not there, incomplete, damaged, changed by hand, or of a newer format.
    """
    folder = artifact_folder(str(path_or_repo), revision)
    check_files(folder)
    try:
        facts = json.loads((folder / FACTS).read_text(encoding="utf-8"))
        if facts["format_version"] > FORMAT_VERSION:
            raise ModelError(
                f"{folder}: written by a newer langadapt; update with `pip install -U langadapt`"
            )
        check_unchanged(folder, facts)
        weights = load_file(folder / WEIGHTS)
        return Artifact(
            recipe=parse(LanguageRecipe, read_yaml(folder / RECIPE), where=str(folder / RECIPE)),
            teacher=BaseModel(**facts["teacher"]),
            text_model=BaseModel(**facts["text_model"]),
            target_dim=facts["target_dim"],
            weights={k: v.float() if v.is_floating_point() else v for k, v in weights.items()},
            data=tuple(DataSource(**source) for source in facts.get("data", ())),
            samples=_samples(folder, facts),
            training=facts["training"],
            environment=facts["environment"],
            vocabulary=_vocabulary(folder, facts),
        )
    except (ValueError, KeyError, TypeError, AttributeError, SafetensorError) as error:
        raise ModelError(f"{folder}: damaged artifact: {str(error).splitlines()[0]}") from error


def _samples(folder: Path, facts: dict[str, Any]) -> Samples | None:
    if SAMPLES not in facts.get("files", ()):
        return None
    texts = tuple(facts["samples"])
    embeddings = load_file(folder / SAMPLES)["embeddings"]
    if embeddings.shape != (len(texts), facts["target_dim"]):
        raise ValueError(f"{len(texts)} sample texts, embeddings {list(embeddings.shape)}")
    return Samples(texts=texts, embeddings=embeddings)


def _vocabulary(folder: Path, facts: dict[str, Any]) -> Vocabulary | None:
    if VOCABULARY not in facts.get("files", ()):
        return None
    return Vocabulary.from_json((folder / VOCABULARY).read_text(encoding="utf-8"))


def _stored(value: Tensor) -> Tensor:
    return (value.half() if value.is_floating_point() else value).cpu().contiguous()


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
