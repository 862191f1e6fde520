"""Compares what recipes say with what the Hub says: ids, revisions, splits, columns, rows, licences."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
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
from langadapt.recipes import DataCard, HubSource, LanguageRecipe, ModelRef, PairsRecipe, ParallelRecipe
from langadapt.recipes.find import RecipeFile

State = Literal["confirmed", "wrong", "open"]


@dataclass(frozen=True, kw_only=True)
class Fact:
    """One thing that a recipe says. `open`: the Hub neither confirms nor denies it."""

    key: str
    state: State
    says: str
    hub: str
    """What the Hub says, or why it cannot tell."""


@dataclass(frozen=True, kw_only=True)
class Checked:
    """A recipe, or one model of a language recipe, beside the Hub."""

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


RepoType = Literal["model", "dataset"]

Lookup = Callable[[RepoType, str, str | None], "RepositoryFacts"]


def check_language(found: RecipeFile[LanguageRecipe], look: Lookup) -> tuple[Checked, ...]:
    """The two base models of a language recipe.

    Raises:
        HubUnreachableError: nothing can be checked.
    """
    recipe = found.recipe
    models = {"teacher": recipe.teacher, "text_model": recipe.text_model}
    return tuple(
        Checked(
            name=f"{recipe.code}: {key}",
            path=found.path,
            unverified=model.unverified,
            facts=tuple(_model_facts(key, model, found.folder, look)),
        )
        for key, model in models.items()
    )


def check_data(found: RecipeFile[DataCard], look: Lookup) -> Checked:
    """One data recipe; only what lies on the Hub can be compared.

    Raises:
        HubUnreachableError: nothing can be checked.
    """
    card = found.recipe
    facts = tuple(_data_facts(card, found.folder, look))
    return Checked(name=card.name, path=found.path, unverified=card.unverified, facts=facts)


def _model_facts(key: str, model: ModelRef, folder: Path, look: Lookup) -> Iterator[Fact]:
    if _is_folder(model.repo, folder):
        yield Fact(key=f"{key}.repo", state="open", says=model.repo, hub="a folder of your own")
        return
    facts = look("model", model.repo, model.revision)
    yield from _repository(f"{key}.", "model", model.repo, model.revision, facts)
    if not (facts.exists and facts.has_revision) or facts.gated:
        return
    weights = any(name.endswith(".safetensors") for name in facts.files)
    yield _compared(f"{key}.repo", "safetensors weights", "it has none at this revision", weights)
    yield _licence(f"{key}.", model.licence, model.licence_source, model.repo, facts)


def _data_facts(card: DataCard, folder: Path, look: Lookup) -> Iterator[Fact]:
    source = card.source if isinstance(card, ParallelRecipe | PairsRecipe) else None
    if not isinstance(source, HubSource):
        where = card.homepage or "where they came from"
        yield Fact(key="source", state="open", says="files", hub=f"not on the Hub; look at {where}")
        return
    if _is_folder(source.repo, folder):
        yield Fact(key="source.repo", state="open", says=source.repo, hub="a folder of your own")
        return
    facts = look("dataset", source.repo, source.revision)
    yield from _repository("source.", "dataset", source.repo, source.revision, facts)
    if not (facts.exists and facts.has_revision) or facts.gated:
        return
    yield from _rows(card, source, facts)
    yield _licence("", card.licence, card.licence_source, source.repo, facts)


@dataclass(frozen=True, kw_only=True)
class RepositoryFacts:
    """A repository at a revision; what the Hub does not state is None or missing."""

    exists: bool = True
    has_revision: bool = True
    gated: bool = False
    files: frozenset[str] = frozenset()
    licence: str | None = None
    """As the card states it: the Hub's identifiers, in lower case."""
    configs: Mapping[str, "ConfigFacts"] = field(default_factory=dict)


def _repository(
    prefix: str, kind: RepoType, repo: str, revision: str | None, facts: RepositoryFacts
) -> Iterator[Fact]:
    noun = "model" if kind == "model" else "data set"
    if facts.gated:
        hub = "it is gated: log in with `hf auth login` and check again"
        yield Fact(key=f"{prefix}repo", state="open", says=repo, hub=hub)
        return
    missing = f"no such {noun}, or a private one"
    yield _compared(f"{prefix}repo", repo, missing, facts.exists)
    if facts.exists and revision is None:
        yield Fact(key=f"{prefix}revision", state="open", says="none", hub="name the commit that was read")
    elif facts.exists:
        yield _compared(f"{prefix}revision", str(revision), "no such revision", facts.has_revision)


def _rows(card: DataCard, source: HubSource, facts: RepositoryFacts) -> Iterator[Fact]:
    name = source.config or "default"
    config = facts.configs.get(name)
    if config is None:
        # The card may leave configs to the folders' names.
        in_files = any(file.startswith(f"{name}/") for file in facts.files)
        state: State = "wrong" if facts.configs and not in_files else "open"
        hub = f"the card has {_some(facts.configs)}" if facts.configs else "the card lists no configs"
        yield Fact(key="source.config", state=state, says=name, hub=hub)
        return
    yield _compared("source.config", name, "", True)
    if not config.splits:
        hub = "the card lists no splits"
        yield Fact(key="source.split", state="open", says=source.split, hub=hub)
    else:
        there = source.split in config.splits
        yield _compared("source.split", source.split, f"the card has {_some(config.splits)}", there)
    columns = getattr(card, "columns", None)
    for key, column in (columns.model_dump(exclude_none=True) if columns else {}).items():
        if config.columns is None:
            hub = "the card lists no columns"
            yield Fact(key=f"columns.{key}", state="open", says=column, hub=hub)
        else:
            hub = f"the card has {_some(config.columns)}"
            yield _compared(f"columns.{key}", column, hub, column in config.columns)
    expected = getattr(card, "expected_rows", None)
    stated = config.splits.get(source.split)
    if expected is not None and stated is None:
        hub = "the card states no number of rows"
        yield Fact(key="expected_rows", state="open", says=str(expected), hub=hub)
    elif expected is not None:
        yield _compared("expected_rows", str(expected), f"the card says {stated}", expected == stated)


def _licence(prefix: str, says: str, source: str | None, repo: str, facts: RepositoryFacts) -> Fact:
    key = f"{prefix}licence"
    stated = facts.licence or "unknown"
    if says.lower() == stated:
        return Fact(key=key, state="confirmed", says=says, hub=stated)
    if f"huggingface.co/{repo}" in (source or "") or f"huggingface.co/datasets/{repo}" in (source or ""):
        return Fact(key=key, state="wrong", says=says, hub=f"the card says {stated}")
    return Fact(key=key, state="open", says=says, hub=f"the card says {stated}; it was read at {source}")


def _compared(key: str, says: str, otherwise: str, agrees: bool) -> Fact:
    if agrees:
        return Fact(key=key, state="confirmed", says=says, hub=says)
    return Fact(key=key, state="wrong", says=says, hub=otherwise)


def _is_folder(repo: str, start: Path) -> bool:
    return repo.startswith((".", "/", "~")) or (start / repo).is_dir() or repo.count("/") != 1


def _some(names: Iterable[str]) -> str:
    listed = sorted(names)
    return ", ".join(listed[:8]) + (", ..." if len(listed) > 8 else "")


class HubUnreachableError(LangadaptError):
    """The Hub gave no answer, so nothing can be checked."""


@dataclass(frozen=True, kw_only=True)
class ConfigFacts:
    """One config of a data set, as its card states it."""

    splits: Mapping[str, int | None]
    """Rows of each split, where they are stated."""
    columns: frozenset[str] | None
    """Names, `translation.de` for the languages inside a translation; None where the card states none."""


def hub_lookup(api: HfApi) -> Lookup:
    """A function that asks the Hub once for each repository and revision.

    Raises (when it is called):
        HubUnreachableError: no connection, offline mode, or an answer that says nothing about the repository.
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
            first = next(iter(str(error).strip().splitlines()), type(error).__name__)
            raise HubUnreachableError(
                f"the Hub is out of reach ({repo}: {first:.120}); nothing was checked; try again when "
                "online, and look at HF_ENDPOINT and HF_HUB_OFFLINE"
            ) from error
        card: dict[str, Any] = {} if info.card_data is None else vars(info.card_data)
        return RepositoryFacts(
            files=frozenset(item.rfilename for item in info.siblings or ()),
            licence=_card_licence(card),
            configs=_configs(card) if repo_type == "dataset" else {},
        )

    return look


def _card_licence(card: Mapping[str, Any]) -> str | None:
    stated = card.get("license")
    if isinstance(stated, list):
        stated = stated[0] if len(stated) == 1 else ", ".join(map(str, stated))
    if stated == "other":
        stated = card.get("license_name") or "other"
    return str(stated).lower() if stated else None


def _configs(card: Mapping[str, Any]) -> dict[str, ConfigFacts]:
    """From `configs` (files of each split) and `dataset_info` (rows, columns), either of which may lack."""
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
    return {name: ConfigFacts(splits=own, columns=columns.get(name)) for name, own in splits.items()}


def _columns(feature: Mapping[str, Any]) -> list[str]:
    name = str(feature.get("name"))
    kind = feature.get("dtype")
    inner = kind.get("translation") if isinstance(kind, dict) else None
    languages = inner.get("languages") if isinstance(inner, dict) else None
    return [name, *(f"{name}.{language}" for language in languages or ())]


def _mappings(value: Any) -> list[Mapping[str, Any]]:
    listed = value if isinstance(value, list) else [value]
    return [item for item in listed if isinstance(item, dict)]
