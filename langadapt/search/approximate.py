"""A FAISS index beside the rows, for collections in which reading all rows takes too long.

Inverted lists of 8-bit codes choose candidates, whose cosines are then taken from the rows themselves.
"""

import json
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from langadapt.errors import DataError
from langadapt.search.catalogue import Meta, Rows, damaged

RECALL_AT = 10
FACTS, FILE = "approximate.json", "approximate.faiss"
OVERFETCH = 4


@dataclass(frozen=True, kw_only=True)
class ApproximateFacts:
    """What was built and what was measured on it."""

    state: int
    """State and generation of the index that it was built from."""
    generation: int
    rows: int
    lists: int
    probes: int
    """Lists that a search looks into."""
    recall: dict[str, float]
    """Fraction of the exact ten best that are found, by kind of query."""
    queries: dict[str, int]
    exact_seconds: float
    """Per query, one at a time, on this machine."""
    approximate_seconds: float
    build_seconds: float

    def summary(self) -> str:
        """One line for people."""
        measured = ", ".join(
            f"{100 * self.recall[kind]:.1f} % on {self.queries[kind]} {kind}" for kind in self.recall
        )
        return (
            f"search is approximate: {self.probes} of {self.lists} lists read, recall@{RECALL_AT} against "
            f"exact search {measured}; {1000 * self.approximate_seconds:.1f} ms a query, exact "
            f"{1000 * self.exact_seconds:.1f} ms"
        )


@dataclass(frozen=True, kw_only=True, eq=False)
class Approximate:
    """A FAISS index that is up to date."""

    facts: ApproximateFacts
    faiss_index: Any

    def candidates(self, query: Rows, *, count: int) -> NDArray[np.int64]:
        """Rows among which the best `count` probably are."""
        wanted = min(OVERFETCH * count, self.facts.rows)
        return candidate_slots(self.faiss_index, query, wanted)


def has_faiss() -> bool:
    """Whether the extra is installed."""
    from importlib.util import find_spec

    return find_spec("faiss") is not None


def has_approximate(place: Path) -> bool:
    """Whether a FAISS index was built once, up to date or not."""
    return (place / FACTS).is_file()


def open_approximate(place: Path, meta: Meta) -> Approximate | None:
    """The FAISS index beside the rows; None where there is none, a stale one, or no FAISS.

    Raises:
        DataError: it is damaged.
    """
    if not has_approximate(place) or not has_faiss():
        return None
    try:
        facts = ApproximateFacts(**json.loads((place / FACTS).read_text(encoding="utf-8")))
        if (facts.state, facts.generation) != (meta.state, meta.generation):
            return None
        faiss = faiss_module()
        index = faiss.read_index(str(place / FILE), faiss.IO_FLAG_MMAP)
    except (ValueError, TypeError, RuntimeError) as error:
        raise damaged(place, f"{FILE}: {str(error).splitlines()[0]}") from error
    index.nprobe = facts.probes
    return Approximate(facts=facts, faiss_index=index)


def candidate_slots(built: Any, query: Rows, count: int) -> NDArray[np.int64]:
    """Rows that FAISS proposes for a query, sorted."""
    slots: NDArray[np.int64] = built.search(np.ascontiguousarray(query[None]), count)[1][0]
    return np.sort(slots[slots >= 0])


def faiss_module() -> ModuleType:
    """FAISS.

    Raises:
        DataError: the extra is not installed.
    """
    try:
        import faiss
    except ImportError as error:
        raise DataError(
            "approximate search needs FAISS: install it with `pip install 'langadapt[faiss]'`"
        ) from error
    return faiss
