"""Where a run came from: base models, data, and what the student said when it was finished."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from torch import Tensor

from langadapt.recipes import DataCard, HubSource, LanguageRecipe, TableFiles, TarShards
from langadapt.recipes.data import Source

_SAMPLES = 8


@dataclass(frozen=True, kw_only=True)
class BaseModel:
    """A base model as it was used: `revision` is a commit hash, or `sha256:...` of a local folder."""

    repo: str
    revision: str
    licence: str = "unknown"
    """As the recipe states it."""
    licence_source: str | None = None

    @property
    def local(self) -> bool:
        """Whether it is a folder, which nobody else can fetch."""
        return self.revision.startswith("sha256:")


@dataclass(frozen=True, kw_only=True)
class DataSource:
    """A corpus as it was used, with what its recipe says about it."""

    kind: Literal["parallel", "pairs"]
    name: str
    title: str
    language: str
    rows: int
    """Rows that were read and not left out; some of them are held out."""
    blank_rows: int
    """Rows that were left out because a side was blank."""
    fingerprint: str
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
    return tuple(dict.fromkeys(text for text in texts if text.strip()))[:_SAMPLES]


def data_source(
    card: DataCard,
    source: Source | TarShards,
    *,
    kind: Literal["parallel", "pairs"],
    language: str,
    rows: int,
    blank_rows: int,
    fingerprint: str,
    contamination: str = "unchecked",
) -> DataSource:
    """What an artifact keeps of a data recipe; of local files only their names."""
    return DataSource(
        kind=kind,
        name=card.name,
        title=card.title,
        language=language,
        rows=rows,
        blank_rows=blank_rows,
        fingerprint=fingerprint,
        origin=_origin(source),
        hub_repo=source.repo if isinstance(source, HubSource) else None,
        licence=card.licence,
        licence_source=card.licence_source,
        homepage=card.homepage,
        citation=card.citation,
        access=card.access,
        unverified=card.unverified,
        contamination=contamination,
    )


def _origin(source: Source | TarShards) -> str:
    if isinstance(source, HubSource):
        parts = (source.repo, source.config, source.split, f"revision {source.revision or 'main'}")
        return ", ".join(part for part in parts if part)
    names = source.paths if isinstance(source, TableFiles | TarShards) else (source.english, source.target)
    return ", ".join(Path(name).name for name in names)
