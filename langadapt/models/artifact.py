"""The files of a finished run: adapter weights, recipe as run, and where everything came from."""

import platform
import re
from dataclasses import asdict, dataclass, field, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from langadapt.errors import ModelError, RecipeError
from langadapt.files.atomic import (
    check_folder,
    read_sealed,
    read_weights,
    tensor_digest,
    write_sealed,
    write_tensors,
    write_text,
)
from langadapt.files.fetch import fetch_snapshot
from langadapt.files.json import read_bytes, read_json
from langadapt.files.paths import user_path
from langadapt.models.load import ARTIFACT, ResolvedModel, device_name, resolve_model
from langadapt.models.vocabulary import Vocabulary
from langadapt.recipes import (
    AlignedFiles,
    DownloadSource,
    HubSource,
    LanguageRecipe,
    ModelRef,
    PairsRecipe,
    ParallelRecipe,
    TextModelRef,
)
from langadapt.recipes.authoring import plain_recipe
from langadapt.recipes.find import is_local_name, with_paths
from langadapt.recipes.yaml import Spec, dump_recipe, parse, read_yaml

FORMAT_VERSION = 3

WEIGHTS, RECIPE, FACTS, SCORES = "adapter.safetensors", "recipe.yaml", ARTIFACT, "scores.json"
SAMPLES, VOCABULARY = "samples.safetensors", "vocabulary.json"
FILES = (WEIGHTS, RECIPE, FACTS, SAMPLES, VOCABULARY)
"""All that `load` reads; the last two are not in every artifact."""

_SAMPLE_TEXTS = 8


@dataclass(frozen=True, kw_only=True)
class BaseModel:
    """A base model as it was used: `revision` is a commit hash, or `sha256:...` of a local folder."""

    repo: str
    revision: str
    licence: str = "unknown"
    """As the recipe states it."""
    licence_source: str | None = None

    @classmethod
    def of(cls, ref: ModelRef, source: ResolvedModel | None = None) -> "BaseModel":
        """Describe a recipe's model as it was used, or as the recipe names it."""
        used = source or ref
        return cls(
            repo=used.repo,
            revision=used.revision or "",
            licence=ref.licence,
            licence_source=ref.licence_source,
        )

    @property
    def local(self) -> bool:
        """Whether it is a folder, which nobody else can fetch."""
        return self.revision.startswith("sha256:")

    @property
    def title(self) -> str:
        """Its name in headings; of a folder, whose name says little, the kind of model in it."""
        config = Path(self.repo) / "config.json"
        if self.local and config.is_file():
            return f"a local {str(read_json(config).get('model_type', 'model')).upper()}"
        return Path(self.repo).name


@dataclass(frozen=True, kw_only=True)
class DataSource:
    """A corpus as it was used, with what its recipe says about it."""

    kind: Literal["parallel", "pairs"]
    name: str
    title: str
    language: str
    rows: int = 0
    """Rows that were read and not left out; some of them are held out."""
    blank_rows: int = 0
    """Rows that were left out because a side was blank."""
    fingerprint: str = ""
    origin: str
    """Hub data set with configuration, split and revision, or names of files."""
    hub_repo: str | None
    licence: str
    licence_source: str | None
    homepage: str | None
    citation: str | None
    access: Literal["open", "gated", "request"]
    unverified: bool
    contamination: str = "unchecked"
    """`unchecked`; `dropped`: compared with test captions, none is in it; `kept(n)`: n rows hold some."""


@dataclass(frozen=True, kw_only=True)
class Samples:
    """Some texts and the finished student's `embeddings [n, D]`, float32 unit rows computed on the CPU."""

    texts: tuple[str, ...]
    embeddings: Tensor


def sample_texts(recipe: LanguageRecipe) -> tuple[str, ...]:
    """Texts whose embeddings an artifact stores so that a reload can be compared with the training.

    They come from the recipe alone: rows of a corpus may not be published with every artifact.
    """
    named = (prompt.replace("{label}", recipe.native_name) for prompt in recipe.prompts)
    texts = (*recipe.examples, *named, recipe.native_name, recipe.name)
    return tuple(dict.fromkeys(text for text in texts if text.strip()))[:_SAMPLE_TEXTS]


def data_source(recipe: ParallelRecipe | PairsRecipe, *, language: str) -> DataSource:
    """Describe the corpus of a data recipe, unread; of local files only their names are kept."""
    source, repo = recipe.source, None
    kind: Literal["parallel", "pairs"] = "parallel" if isinstance(recipe, ParallelRecipe) else "pairs"
    if isinstance(source, HubSource):
        repo = source.repo
        parts = [repo, source.config, source.split, f"revision {source.revision or 'main'}", *source.files]
    elif isinstance(source, DownloadSource):
        parts = [source.base, *source.files]
    else:
        names = (source.english, source.target) if isinstance(source, AlignedFiles) else source.paths
        parts = [Path(name).name for name in names]
    origin = ", ".join(part for part in parts if part)
    stated = ("name", "title", "licence", "licence_source", "homepage", "citation", "access", "unverified")
    facts = {name: getattr(recipe, name) for name in stated}
    return DataSource(kind=kind, language=language, origin=origin, hub_repo=repo, **facts)


@dataclass(frozen=True, kw_only=True)
class Artifact:
    """Everything of a run but the weights of its base models."""

    recipe: LanguageRecipe
    teacher: BaseModel
    text_model: BaseModel
    target_dim: int
    weights: dict[str, Tensor]
    """By stage, as `models/tuning.py` names them: of the distillation under `adapter.` and `text_model.`."""
    data: tuple[DataSource, ...] = ()
    """Corpora of all stages."""
    samples: Samples | None = None
    training: dict[str, Any] = field(default_factory=dict)
    """Steps, rows, seconds, parameter counts, held-out recall, data fingerprints."""
    environment: dict[str, str] = field(default_factory=dict)
    vocabulary: Vocabulary | None = None
    """New pieces of the text model's tokenizer; their rows are among the weights."""

    @property
    def digest(self) -> str:
        """First 8 hex digits of a SHA-256 over the weights as they are stored, and new pieces."""
        stored = {name: _stored(value) for name, value in self.weights.items()}
        return tensor_digest(stored, {"vocabulary": self.vocabulary.digest if self.vocabulary else ""})[:8]

    @property
    def contaminated(self) -> str:
        """`kept(n)` where it was trained on n rows that hold test captions, as its data say; else empty."""
        found = [re.fullmatch(r"kept\((\d+)\)", source.contamination) for source in self.data]
        kept = sum(int(match[1]) for match in found if match)
        return f"kept({kept})" if kept else ""


def write_artifact(folder: Path, artifact: Artifact) -> None:
    """Write an artifact, the facts last; floating weights in half precision, the samples in single."""
    folder.mkdir(parents=True, exist_ok=True)
    write_tensors(folder / WEIGHTS, {name: _stored(value) for name, value in artifact.weights.items()})
    write_text(folder / RECIPE, dump_recipe(artifact.recipe))
    names = [WEIGHTS, RECIPE]
    if artifact.samples is not None:
        write_tensors(folder / SAMPLES, {"embeddings": artifact.samples.embeddings})
        names.append(SAMPLES)
    if artifact.vocabulary is not None:
        write_text(folder / VOCABULARY, artifact.vocabulary.to_json())
        names.append(VOCABULARY)
    facts = {
        "teacher": asdict(artifact.teacher),
        "text_model": asdict(artifact.text_model),
        "target_dim": artifact.target_dim,
        "data": [asdict(source) for source in artifact.data],
        "samples": list(artifact.samples.texts) if artifact.samples else [],
        "training": artifact.training,
        "environment": artifact.environment,
    }
    write_sealed(folder / FACTS, facts, version=FORMAT_VERSION, files=names)


class _TrainingFacts(Spec, extra="ignore"):
    """What reports and cards calculate with; an artifact has those of its stage."""

    rows: int = 0
    english_rows: int = 0
    held_out_rows: int = 0
    blank_rows: int = 0
    images: int = 0
    steps: int = 0
    best_step: int = 0
    seconds: float = 0.0
    held_out_recall: float = 0.0
    trained_parameters: int = 0
    trained_percent: float = 0.0
    device: str = ""


class _Facts(Spec, extra="ignore"):
    """What `artifact.json` holds, of these types."""

    teacher: BaseModel
    text_model: BaseModel
    target_dim: int
    data: tuple[DataSource, ...]
    samples: tuple[str, ...]
    training: _TrainingFacts
    environment: dict[str, str]


def read_artifact(path_or_repo: str | Path, *, revision: str | None = None) -> Artifact:
    """Read an artifact from a folder, or from the Hub; refuse one that is damaged or was changed.

    An image-text model of transformers is read as an artifact that changes nothing of it.
    """
    folder = _artifact_folder(str(path_or_repo), revision)
    if (folder / "config.json").is_file() and not (folder / FACTS).is_file():
        return _unchanged(str(path_or_repo), revision)
    check_folder(folder, (FACTS, RECIPE, WEIGHTS), "an artifact is the folder that `langadapt distill` wrote")
    try:
        again = "fetch or train the artifact again"
        facts = read_sealed(folder / FACTS, version=FORMAT_VERSION, files={WEIGHTS, RECIPE}, again=again)
        checked = _checked(facts)
        files = facts["files"]
        vocabulary = read_bytes(folder / VOCABULARY).decode() if VOCABULARY in files else None
        return Artifact(
            recipe=parse(LanguageRecipe, read_yaml(folder / RECIPE), where=str(folder / RECIPE)),
            teacher=checked.teacher,
            text_model=checked.text_model,
            target_dim=checked.target_dim,
            weights=read_weights(folder / WEIGHTS),
            data=checked.data,
            samples=_samples(folder, facts) if SAMPLES in files else None,
            training=facts["training"],
            environment=checked.environment,
            vocabulary=None if vocabulary is None else Vocabulary.from_json(vocabulary),
        )
    except (ValueError, KeyError, TypeError, AttributeError, OSError, SafetensorError) as error:
        raise ModelError(f"{folder}: damaged artifact: {str(error).splitlines()[0]}") from error


def _checked(facts: dict[str, Any]) -> _Facts:
    try:
        return parse(_Facts, facts, where=FACTS)
    except RecipeError as error:
        raise ValueError(str(error)) from error


def _unchanged(name: str, revision: str | None) -> Artifact:
    source = resolve_model(ModelRef.model_construct(repo=name, revision=revision))
    model = BaseModel(repo=source.repo, revision=source.revision)
    values: dict[str, Any] = {"repo": source.repo, "revision": None if model.local else source.revision}
    recipe = plain_recipe(ModelRef(**values), TextModelRef(**values))
    return Artifact(recipe=recipe, teacher=model, text_model=model, target_dim=0, weights={})


def _samples(folder: Path, facts: dict[str, Any]) -> Samples:
    texts = tuple(facts["samples"])
    embeddings = load_file(folder / SAMPLES)["embeddings"]
    if embeddings.shape != (len(texts), facts["target_dim"]):
        raise ValueError(f"{len(texts)} sample texts, embeddings {list(embeddings.shape)}")
    return Samples(texts=texts, embeddings=embeddings)


def _stored(value: Tensor) -> Tensor:
    return (value.half() if value.is_floating_point() else value).cpu().contiguous()


def portable(artifact: Artifact) -> Artifact:
    """Remove this machine's paths from an artifact: only the names of folders and recipe files stay."""
    recipe, bases = artifact.recipe, (artifact.teacher, artifact.text_model)
    teacher, text_model = (replace(base, repo=Path(base.repo).name) if base.local else base for base in bases)
    names = {recipe.teacher.repo: teacher.repo, recipe.text_model.repo: text_model.repo}
    bare = with_paths(recipe, _bare_name, lambda name: names.get(name) or _bare_name(name))
    return replace(artifact, recipe=bare, teacher=teacher, text_model=text_model)


def _bare_name(recipe: str) -> str:
    return Path(recipe).stem if "/" in recipe or recipe.endswith((".yaml", ".yml")) else recipe


def environment_facts(device: torch.device) -> dict[str, str]:
    """Versions and device of what computed the weights."""
    names = ("langadapt", "torch", "transformers", "tokenizers", "accelerate")
    return {
        "python": platform.python_version(),
        "machine": platform.machine(),
        **{name: version(name) for name in names},
        "device": device_name(device),
    }


def _artifact_folder(path_or_repo: str, revision: str | None) -> Path:
    """Return the folder of an artifact; download the artifact's own files if it is on the Hub."""
    local = user_path(path_or_repo)
    if local.is_dir():
        return local
    if is_local_name(path_or_repo) and revision is None:
        raise ModelError(f"{path_or_repo}: no such artifact folder")
    return fetch_snapshot(path_or_repo, revision, [*FILES, "config.json"], what=path_or_repo)
