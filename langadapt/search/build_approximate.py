"""Builds the FAISS index of many images and measures it against exact search.

How many lists a search looks into is not guessed: it grows until what is found agrees with exact search.
"""

import json
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from types import ModuleType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from langadapt.files.atomic import write_text
from langadapt.search.approximate import (
    FACTS,
    FILE,
    OVERFETCH,
    RECALL_AT,
    ApproximateFacts,
    candidate_slots,
    faiss_module,
)
from langadapt.search.catalogue import Rows
from langadapt.search.index import ImageIndex, best_rows, exact

TARGET_RECALL = 0.95
_SAMPLED_QUERIES = 200
_TRAINING_ROWS_PER_LIST = 64


def build_approximate(index: ImageIndex, *, texts: Rows) -> ApproximateFacts:
    """Builds it, chooses the number of probes, and writes both beside the rows.

    Args:
        index: whose rows; they pass through memory as 8-bit codes.
        texts: `[Q, D]` embedded texts, which lie elsewhere than images and are harder to answer; or none.

    Raises:
        DataError: FAISS is not installed.
    """
    faiss = faiss_module()
    began = time.perf_counter()
    slots = np.flatnonzero(index.first_image >= 0)
    lists = max(1, min(int(2 * len(slots) ** 0.5), len(slots) // 39 or 1))
    built = _trained(faiss, index.rows, slots, lists)
    for start in range(0, len(slots), 65536):
        part = slots[start : start + 65536]
        built.add_with_ids(np.ascontiguousarray(index.rows[part]), part)
    build_seconds = time.perf_counter() - began

    trials = [
        _Trial(kind="images", query=np.array(index.rows[slot]), own=int(slot)) for slot in _sample(slots)
    ]
    trials += [_Trial(kind="texts", query=text, own=-1) for text in texts]
    began = time.perf_counter()
    truth = [_exact_slots(index, trial) for trial in trials]
    exact_seconds = (time.perf_counter() - began) / len(trials)
    probes, recall, seconds = 0, {"images": 0.0}, 0.0
    while min(recall.values()) < TARGET_RECALL and probes < lists:
        probes = min(max(1, 2 * probes), lists)
        built.nprobe = probes
        recall, seconds = _measured(built, index, trials, truth)
    facts = ApproximateFacts(
        state=index.meta.state,
        generation=index.meta.generation,
        rows=len(slots),
        lists=lists,
        probes=probes,
        recall=recall,
        queries=dict(Counter(trial.kind for trial in trials)),
        exact_seconds=exact_seconds,
        approximate_seconds=seconds,
        build_seconds=build_seconds,
    )
    (index.place / FACTS).unlink(missing_ok=True)  # it goes with the file below and comes back after it
    temporary = index.place / f"{FILE}.tmp"
    faiss.write_index(built, str(temporary))
    temporary.replace(index.place / FILE)
    write_text(index.place / FACTS, json.dumps(asdict(facts), indent=2) + "\n")
    return facts


@dataclass(frozen=True, kw_only=True, eq=False)
class _Trial:
    kind: str
    query: Rows
    own: int
    """The query's own row, which any search finds and which does not count; -1 for a text."""


def _sample(slots: NDArray[np.int64]) -> NDArray[np.int64]:
    count = min(_SAMPLED_QUERIES, len(slots))
    return np.sort(np.random.default_rng(0).choice(slots, count, replace=False))


def _exact_slots(index: ImageIndex, trial: _Trial) -> set[int]:
    (best,) = best_rows(trial.query[None], index.rows, index.first_image, count=RECALL_AT + (trial.own >= 0))
    return set(best.slots[best.slots != trial.own][:RECALL_AT].tolist())


def _measured(
    built: Any, index: ImageIndex, trials: Sequence[_Trial], truth: Sequence[set[int]]
) -> tuple[dict[str, float], float]:
    found: dict[str, list[float]] = {}
    began = time.perf_counter()
    for trial, right in zip(trials, truth, strict=True):
        slots = candidate_slots(built, trial.query, min(OVERFETCH * RECALL_AT, len(index.first_image)))
        exact(trial.query, index.rows[slots], slots)  # belongs to the time of a search
        found.setdefault(trial.kind, []).append(len(right & set(slots.tolist())) / max(len(right), 1))
    seconds = (time.perf_counter() - began) / len(trials)
    return {kind: float(np.mean(values)) for kind, values in found.items()}, seconds


def _trained(faiss: ModuleType, rows: Rows, slots: NDArray[np.int64], lists: int) -> Any:
    built = faiss.index_factory(rows.shape[1], f"IVF{lists},SQ8", faiss.METRIC_INNER_PRODUCT)
    built.cp.spherical = True
    built.cp.seed = 0
    count = min(len(slots), _TRAINING_ROWS_PER_LIST * lists)
    chosen = np.sort(np.random.default_rng(1).choice(slots, count, replace=False))
    built.train(np.ascontiguousarray(rows[chosen]))
    return built
