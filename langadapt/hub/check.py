"""Compare recipes with the Hub: ids, revisions, splits, columns, rows, licences."""

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatch
from functools import cache
from pathlib import Path
from typing import Any, Literal

from huggingface_hub import HfApi
from huggingface_hub.errors import (
    GatedRepoError,
    HfHubHTTPError,
    HFValidationError,
    HTTPError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)

from langadapt.errors import LangadaptError
from langadapt.files.fetch import one_line
from langadapt.recipes import DataCard, HubSource, LanguageRecipe, ModelRef, RetrievalRecipe
from langadapt.recipes.find import RecipeFile

State = Literal["confirmed", "wrong", "open"]
RepoType = Literal["model", "dataset"]


@dataclass(frozen=True, kw_only=True)
class Fact:
    """One statement of a recipe. `open`: the Hub neither confirms nor denies it."""

    key: str
    state: State
    says: str
    hub: str
    """What the Hub says, or why it cannot tell."""


@dataclass(frozen=True, kw_only=True)
class Checked:
    """A recipe, or one model of a language recipe, compared with the Hub."""

    name: str
    path: Path
    unverified: bool
    facts: tuple[Fact, ...]

    @property
    def wrong(self) -> tuple[Fact, ...]:
        return tuple(fact for fact in self.facts if fact.state == "wrong")

    @property
    def confirmed(self) -> bool:
        """Every fact was confirmed."""
        return all(fact.state == "confirmed" for fact in self.facts)

    @property
    def mark_can_go(self) -> bool:
        """Nobody had checked it, and now every fact is confirmed: `unverified: true` may be removed."""
        return self.unverified and self.confirmed


@dataclass(frozen=True, kw_only=True)
class RepositoryFacts:
    """A repository at a revision; what the Hub does not state is None or missing."""

    exists: bool = True
    has_revision: bool = True
    gated: bool = False
    files: frozenset[str] = frozenset()
    licence: str | None = None
    """As the card states it: the Hub's identifiers, in lower case."""
    splits: Mapping[str, dict[str, int | None]] = field(default_factory=dict)
    """By the name of a config: rows of each split, where they are stated."""
    columns: Mapping[str, frozenset[str]] = field(default_factory=dict)
    """By the name of a config: names, `translation.de` for the languages inside a translation."""

    @property
    def readable(self) -> bool:
        return self.exists and self.has_revision and not self.gated


Lookup = Callable[[RepoType, str, str | None], RepositoryFacts]


class HubUnreachableError(LangadaptError):
    """The Hub gave no answer, so nothing can be checked."""


def check_language(file: RecipeFile[LanguageRecipe], look: Lookup) -> tuple[Checked, ...]:
    """Check the two base models of a language recipe."""
    recipe = file.recipe
    models = {"teacher": recipe.teacher, "text_model": recipe.text_model}
    return tuple(
        Checked(
            name=f"{recipe.code}: {key}",
            path=file.path,
            unverified=model.unverified,
            facts=tuple(_model_facts(key, model, file.folder, look)),
        )
        for key, model in models.items()
    )


def check_data(file: RecipeFile[DataCard], look: Lookup) -> tuple[Checked, ...]:
    """Check a data recipe; only what lies on the Hub can be compared."""
    card = file.recipe
    facts = tuple(_data_facts(card, file.folder, look))
    return (Checked(name=card.name, path=file.path, unverified=card.unverified, facts=facts),)


def _model_facts(key: str, model: ModelRef, folder: Path, look: Lookup) -> Iterator[Fact]:
    if _is_folder(model.repo, folder):
        yield _fact(f"{key}.repo", model.repo, None, "a folder of your own")
        return
    facts = look("model", model.repo, model.revision)
    yield from _repository(f"{key}.", "model", model, facts)
    if facts.readable:
        weights = any(name.endswith(".safetensors") for name in facts.files)
        yield _fact(f"{key}.repo", "safetensors weights", weights, "it has none at this revision")
        yield _licence(f"{key}.", model.repo, model, facts)


def _data_facts(card: DataCard, folder: Path, look: Lookup) -> Iterator[Fact]:
    source = getattr(card, "source", None)
    if not isinstance(source, HubSource):
        where = card.homepage or "where they came from"
        yield _fact("source", "files", None, f"not on the Hub; look at {where}")
        return
    if _is_folder(source.repo, folder):
        yield _fact("source.repo", source.repo, None, "a folder of your own")
        return
    facts = look("dataset", source.repo, source.revision)
    yield from _repository("source.", "data set", source, facts)
    if facts.readable:
        names = source.files
        if isinstance(card, RetrievalRecipe):
            names = (*card.captions, *card.english)
        for glob in names:
            there = any(fnmatch(file, glob) for file in facts.files)
            yield _fact("source.files", glob, there, f"it holds {_some(facts.files)}")
        yield from _rows(card, source, facts)
        yield _licence("", source.repo, card, facts)


def _repository(prefix: str, noun: str, own: ModelRef | HubSource, facts: RepositoryFacts) -> Iterator[Fact]:
    repo, revision = f"{prefix}repo", f"{prefix}revision"
    if facts.gated:
        yield _fact(repo, own.repo, None, "it is gated: log in with `hf auth login` and check again")
        return
    yield _fact(repo, own.repo, facts.exists, f"no such {noun}, or a private one")
    if facts.exists and own.revision is None:
        yield _fact(revision, "none", None, "name the commit that was read")
    elif facts.exists:
        yield _fact(revision, str(own.revision), facts.has_revision, "no such revision")


def _rows(card: DataCard, source: HubSource, facts: RepositoryFacts) -> Iterator[Fact]:
    name = source.config or "default"
    splits, names = facts.splits.get(name), facts.columns.get(name)
    if splits is None:
        # The card may leave configs to the folders' names.
        in_files = any(file.startswith(f"{name}/") for file in facts.files)
        hub = f"the card has {_some(facts.splits)}" if facts.splits else "the card lists no configs"
        yield _fact("source.config", name, False if facts.splits and not in_files else None, hub)
        return
    yield _fact("source.config", name, True)
    yield _listed("source.split", source.split, splits or None, "splits")
    columns = getattr(card, "columns", None)
    for key, column in (columns.model_dump(exclude_none=True) if columns else {}).items():
        if names and not any(name.startswith(f"{column.partition('.')[0]}.") for name in names):
            column = column.partition(".")[0]  # the card does not say what is inside
        yield _listed(f"columns.{key}", column, names, "columns")
    expected, stated = getattr(card, "expected_rows", None), splits.get(source.split)
    if expected is not None:
        agrees = None if stated is None else expected == stated
        hub = "the card states no number of rows" if stated is None else f"the card says {stated}"
        yield _fact("expected_rows", str(expected), agrees, hub)


def _licence(prefix: str, repo: str, card: ModelRef | DataCard, facts: RepositoryFacts) -> Fact:
    stated, source = facts.licence or "unknown", card.licence_source
    key, hub = f"{prefix}licence", f"the card says {stated}"
    if card.licence.lower() == stated:
        return Fact(key=key, state="confirmed", says=card.licence, hub=stated)
    if any(f"huggingface.co/{folder}{repo}" in (source or "") for folder in ("", "datasets/")):
        return _fact(key, card.licence, False, hub)
    return _fact(key, card.licence, None, f"{hub}; it was read at {source}")


def _fact(key: str, says: str, agrees: bool | None, hub: str = "") -> Fact:
    """A statement that the Hub confirms, denies, or says nothing about (None); `hub` unless it agrees."""
    state: State = "open" if agrees is None else "confirmed" if agrees else "wrong"
    return Fact(key=key, state=state, says=says, hub=says if agrees else hub)


def _listed(key: str, name: str, names: Collection[str] | None, what: str) -> Fact:
    if names is None:
        return _fact(key, name, None, f"the card lists no {what}")
    return _fact(key, name, name in names, f"the card has {_some(names)}")


def _is_folder(repo: str, start: Path) -> bool:
    return repo.startswith((".", "/", "~")) or (start / repo).is_dir() or repo.count("/") != 1


def _some(names: Iterable[str]) -> str:
    listed = sorted(names)
    return ", ".join(listed[:8]) + (", ..." if len(listed) > 8 else "")


def hub_lookup(api: HfApi) -> Lookup:
    """Return a function that asks the Hub once for each repository and revision.

    It raises HubUnreachableError: no connection, offline mode, or an answer without the repository's facts.
    """

    @cache
    def look(repo_type: RepoType, repo: str, revision: str | None) -> RepositoryFacts:
        ask = api.model_info if repo_type == "model" else api.dataset_info
        try:
            info = ask(repo, revision=revision)
        except GatedRepoError:
            return RepositoryFacts(gated=True)
        except RevisionNotFoundError:
            return RepositoryFacts(has_revision=False)
        except (RepositoryNotFoundError, HFValidationError):
            return RepositoryFacts(exists=False)
        except (HfHubHTTPError, HTTPError, OSError) as error:
            raise HubUnreachableError(
                f"the Hub is out of reach ({repo}: {one_line(error):.120}); nothing was checked; try again "
                "when online, and look at HF_ENDPOINT and HF_HUB_OFFLINE"
            ) from error
        card: dict[str, Any] = {} if info.card_data is None else vars(info.card_data)
        files = frozenset(item.rfilename for item in info.siblings or ())
        configs = _configs(card) if repo_type == "dataset" else {}
        return RepositoryFacts(files=files, licence=_card_licence(card), **configs)

    return look


def _card_licence(card: Mapping[str, Any]) -> str | None:
    stated = card.get("license")
    if isinstance(stated, list):
        stated = stated[0] if len(stated) == 1 else ", ".join(map(str, stated))
    if stated == "other":
        stated = card.get("license_name") or "other"
    return str(stated).lower() if stated else None


def _configs(card: Mapping[str, Any]) -> dict[str, Any]:
    """Splits and columns by config, from `configs` and `dataset_info`, either of which may lack."""
    splits: dict[str, dict[str, int | None]] = {}
    columns: dict[str, frozenset[str]] = {}
    for item in _mappings(card.get("configs")):
        own = splits.setdefault(str(item.get("config_name", "default")), {})
        files = _mappings(item.get("data_files"))
        own.update({str(part["split"]): None for part in files if "split" in part})
    for item in _mappings(card.get("dataset_info")):
        name = str(item.get("config_name", "default"))
        own = splits.setdefault(name, {})
        for part in _mappings(item.get("splits")):
            rows = part.get("num_examples")
            own[str(part.get("name"))] = rows if isinstance(rows, int) else None
        if features := _mappings(item.get("features")):
            columns[name] = frozenset(column for feature in features for column in _columns(feature))
    return {"splits": splits, "columns": columns}


def _columns(feature: Mapping[str, Any]) -> list[str]:
    name = str(feature.get("name"))
    kind = feature.get("dtype")
    inner = kind.get("translation") if isinstance(kind, dict) else None
    languages = inner.get("languages") if isinstance(inner, dict) else None
    return [name, *(f"{name}.{language}" for language in languages or ())]


def _mappings(value: Any) -> list[Mapping[str, Any]]:
    listed = value if isinstance(value, list) else [value]
    return [item for item in listed if isinstance(item, dict)]
