"""Compares what recipes say with what the Hub says: ids, revisions, splits, columns, rows, licences."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from langadapt.hub.repository_facts import Lookup, RepositoryFacts, RepoType
from langadapt.recipes import DataCard, HubSource, LanguageRecipe, ModelRef, PairsRecipe, ParallelRecipe
from langadapt.recipes.find import Found

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


def check_language(found: Found[LanguageRecipe], look: Lookup) -> tuple[Checked, ...]:
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


def check_data(found: Found[DataCard], look: Lookup) -> Checked:
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
