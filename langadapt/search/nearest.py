"""Find the rows nearest to a query: exactly, or among candidates that a FAISS index proposes.

FAISS is for collections in which reading all rows takes too long. Its inverted lists of 8-bit codes propose
candidates, whose cosines are computed from the rows themselves. The number of lists that a search reads is
chosen when the index is built: it grows until the results agree with exact search.
"""

import json
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from langadapt.errors import DataError
from langadapt.files.atomic import replacing, write_text
from langadapt.files.json import read_json
from langadapt.metrics.ranks import exact_unit_rows
from langadapt.search.catalogue import Metadata, Rows, damaged

Slots = NDArray[np.int64]

_CHUNK_ROWS = 16384
_ROUNDING = 2.0**-23
APPROXIMATE_FACTS, _FILE = "approximate.json", "approximate.faiss"
RECALL_AT = 10
TARGET_RECALL = 0.95
_OVERFETCH = 4
_SAMPLED_QUERIES = 200
_TRAINING_ROWS_PER_LIST = 64


@dataclass(frozen=True, kw_only=True)
class Nearest:
    """The nearest rows of one query, best first: `slots [k]` int64, `scores [k]` float32 cosines."""

    slots: Slots
    scores: NDArray[np.float32]


def search_exact(queries: Rows, rows: Rows, rank: Slots, *, count: int) -> list[Nearest]:
    """Compare every row with every query.

    The float32 products only choose candidates, with a margin for all of their rounding. These are scored
    again exactly, so that equal rows tie and the order depends neither on chunks nor on the machine.

    `queries [Q, D]` and `rows [N, D]` are float32 normalised embeddings, the latter memory-mapped. `rank [N]`
    orders equal scores; -1 leaves a row out. At most `count` rows are found for each query.
    """
    best = [_NOTHING for _ in queries]
    slack = np.float32(2 * rows.shape[1] * _ROUNDING)
    for start in range(0, len(rows), _CHUNK_ROWS):
        chunk = np.asarray(rows[start : start + _CHUNK_ROWS])
        live = rank[start : start + _CHUNK_ROWS] >= 0
        scores = queries @ chunk.T
        if not np.isfinite(scores).all():
            raise DataError("a row of the index is not finite; make it anew: `langadapt index --rebuild`")
        scores[:, ~live] = -np.inf
        for number, query in enumerate(queries):
            floor = _floor(scores[number], best[number], count) - slack
            near = np.flatnonzero((scores[number] >= floor) & live)
            if len(near):
                candidates = _score(query, chunk[near], near + start)
                best[number] = _merge(best[number], candidates, rank, count=count)
    return best


_NOTHING = Nearest(slots=np.zeros(0, np.int64), scores=np.zeros(0, np.float32))


def _score(query: Rows, rows: Rows, slots: Slots) -> Nearest:
    """Compute the cosines of a query and `[n, D]` rows without rounding, in the order of the rows."""
    left = exact_unit_rows(torch.tensor(query[None]), "query").double()
    right = exact_unit_rows(torch.tensor(rows), "image").double()
    return Nearest(slots=slots.astype(np.int64), scores=(right @ left[0]).float().numpy())


def _merge(one: Nearest, other: Nearest, rank: Slots, *, count: int) -> Nearest:
    slots = np.concatenate([one.slots, other.slots])
    scores = np.concatenate([one.scores, other.scores])
    order = np.lexsort((rank[slots], -scores))[:count]
    return Nearest(slots=slots[order], scores=scores[order])


def _floor(scores: Rows, best: Nearest, count: int) -> np.float32:
    """Return what a row must reach to be among the best, as far as float32 tells."""
    floor = best.scores[-1] if len(best.scores) == count else np.float32(-np.inf)
    if len(scores) > count:
        floor = max(floor, np.partition(scores, len(scores) - count)[len(scores) - count])
    return np.float32(floor)


@dataclass(frozen=True, kw_only=True)
class ApproximateFacts:
    """Size, settings and measurements of a FAISS index."""

    state: int
    """State and generation of the index from which it was built."""
    generation: int
    rows: int
    lists: int
    probes: int
    """Lists that a search reads."""
    recall: dict[str, float]
    """Fraction of the exact ten best that are found, by kind of query."""
    queries: dict[str, int]
    exact_seconds: float
    """Per query, one at a time, on this machine."""
    approximate_seconds: float
    build_seconds: float

    def summary(self) -> str:
        """Describe it in one line."""
        shares = self.recall.items()
        measured = ", ".join(f"{100 * share:.1f} % on {self.queries[kind]} {kind}" for kind, share in shares)
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


def has_faiss() -> bool:
    """Tell whether the extra `faiss` is installed."""
    return find_spec("faiss") is not None


def open_approximate(index: Path, metadata: Metadata) -> Approximate | None:
    """Open the FAISS index beside the rows; None where there is none, a stale one, or no FAISS."""
    if not (index / APPROXIMATE_FACTS).is_file() or not has_faiss():
        return None
    import faiss

    try:
        facts = ApproximateFacts(**read_json(index / APPROXIMATE_FACTS))
        if (facts.state, facts.generation) != (metadata.state, metadata.generation):
            return None
        faiss_index: Any = faiss.read_index(str(index / _FILE), faiss.IO_FLAG_MMAP)
    except (ValueError, TypeError, RuntimeError) as error:
        raise damaged(index, f"{_FILE}: {str(error).splitlines()[0]}") from error
    faiss_index.nprobe = facts.probes
    return Approximate(facts=facts, faiss_index=faiss_index)


def build_approximate(
    index: Path, metadata: Metadata, rows: Rows, rank: Slots, *, texts: Rows
) -> ApproximateFacts:
    """Build a FAISS index, choose how many lists a search reads, and write both beside the rows.

    Memory holds 8-bit codes of `rows [N, D]`; `rank [N]` is as in `search_exact`. Recall is measured on some
    of the images and on embedded `texts [Q, D]`, which are harder to answer; there may be none.
    """
    if not has_faiss():
        raise DataError("approximate search needs FAISS: install it with `pip install 'langadapt[faiss]'`")
    import faiss

    started = time.perf_counter()
    slots = np.flatnonzero(rank >= 0)
    lists = max(1, min(int(2 * len(slots) ** 0.5), len(slots) // 39 or 1))
    faiss_index: Any = faiss.index_factory(rows.shape[1], f"IVF{lists},SQ8", faiss.METRIC_INNER_PRODUCT)
    faiss_index.cp.spherical = True
    faiss_index.cp.seed = 0
    count = min(len(slots), _TRAINING_ROWS_PER_LIST * lists)
    chosen = np.sort(np.random.default_rng(1).choice(slots, count, replace=False))
    faiss_index.train(np.ascontiguousarray(rows[chosen]))
    for start in range(0, len(slots), 65536):
        part = slots[start : start + 65536]
        faiss_index.add_with_ids(np.ascontiguousarray(rows[part]), part)
    build_seconds = time.perf_counter() - started

    sample = np.random.default_rng(0).choice(slots, min(_SAMPLED_QUERIES, len(slots)), replace=False)
    # An image finds itself in any search, so its own row does not count; a text has none.
    trials = [("images", np.array(rows[slot]), int(slot)) for slot in np.sort(sample)]
    trials += [("texts", text, -1) for text in texts]
    truth, exact_seconds = _timed_search(
        trials, lambda query, count: search_exact(query[None], rows, rank, count=count)[0]
    )
    probes, recall, seconds = 0, {"images": 0.0}, 0.0
    while min(recall.values()) < TARGET_RECALL and probes < lists:
        probes = min(max(1, 2 * probes), lists)
        faiss_index.nprobe = probes
        found, seconds = _timed_search(
            trials, lambda query, count: search_candidates(faiss_index, query, rows, rank, count=count)
        )
        shares: dict[str, list[float]] = {}
        for (kind, _, _), wanted, got in zip(trials, truth, found, strict=True):
            shares.setdefault(kind, []).append(len(wanted & got) / max(len(wanted), 1))
        recall = {kind: float(np.mean(values)) for kind, values in shares.items()}
    facts = ApproximateFacts(
        state=metadata.state,
        generation=metadata.generation,
        rows=len(slots),
        lists=lists,
        probes=probes,
        recall=recall,
        queries=dict(Counter(kind for kind, _, _ in trials)),
        exact_seconds=exact_seconds,
        approximate_seconds=seconds,
        build_seconds=build_seconds,
    )
    (index / APPROXIMATE_FACTS).unlink(missing_ok=True)  # facts without their file would be wrong
    with replacing(index / _FILE) as temporary:
        faiss.write_index(faiss_index, str(temporary))
    write_text(index / APPROXIMATE_FACTS, json.dumps(asdict(facts), indent=2) + "\n")
    return facts


def search_candidates(faiss_index: Any, query: Rows, rows: Rows, rank: Slots, *, count: int) -> Nearest:
    """Find the nearest rows of one query among those that FAISS proposes; their scores are exact."""
    slots: Slots = faiss_index.search(np.ascontiguousarray(query[None]), _OVERFETCH * count)[1][0]
    slots = np.sort(slots[slots >= 0])  # FAISS fills up with -1 where it finds too few
    slots = slots[rank[slots] >= 0]
    if not len(slots):
        return _NOTHING
    return _merge(_NOTHING, _score(query, rows[slots], slots), rank, count=count)


def _timed_search(
    trials: Sequence[tuple[str, Rows, int]], search: Callable[[Rows, int], Nearest]
) -> tuple[list[set[int]], float]:
    """Return the best rows of each trial, without its own row, and the seconds per query."""
    started = time.perf_counter()
    slots = [(search(query, RECALL_AT + (own >= 0)).slots, own) for _, query, own in trials]
    seconds = (time.perf_counter() - started) / len(trials)
    return [set(found[found != own][:RECALL_AT].tolist()) for found, own in slots], seconds
