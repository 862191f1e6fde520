"""What the Hub says about a repository: revision, files, licence, configs, splits, columns, rows."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cache
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

RepoType = Literal["model", "dataset"]
Lookup = Callable[[RepoType, str, str | None], "RepositoryFacts"]


class HubUnreachableError(LangadaptError):
    """The Hub gave no answer, so nothing can be checked."""


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
            licence=_licence(card),
            configs=_configs(card) if repo_type == "dataset" else {},
        )

    return look


def _licence(card: Mapping[str, Any]) -> str | None:
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
