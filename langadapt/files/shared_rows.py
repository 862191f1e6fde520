"""Rows of texts that many runs share: computed once for each text, whoever needs it first.

A folder holds parts. Each is a store (`files/store.py`) of the texts that were missing when it was made, with
the digest of each text beside it. A text is looked up in all parts, the oldest first.
"""

import contextlib
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from filelock import FileLock
from numpy.typing import NDArray
from torch import Tensor

from langadapt.errors import LangadaptWarning
from langadapt.files.atomic import read_tensors, write_tensors
from langadapt.files.store import DIGEST, StoreSpec, digests, fingerprint, opened_rows, stored_rows, writing

Fill = Callable[[int], Iterator[Tensor]]

Compute = Callable[[NDArray[np.int64], int], tuple[NDArray[np.int64], Fill]]

_DIGESTS = "digests.safetensors"

_ROWS = 65536

_TEXTS_PER_PART = 65536

"""What an interruption may lose where the next run wants other texts."""


@dataclass(frozen=True, kw_only=True)
class SharedRows:
    """Float32 rows `[N, D]`, one per text, wherever they lie: `parts` are mapped, `places` int64 `[N]`."""

    parts: tuple[Tensor, ...]
    places: NDArray[np.int64]
    """Counted through all parts, one behind another."""
    dim: int
    """Width of a row."""

    def __len__(self) -> int:
        return len(self.places)

    def take(self, rows: NDArray[np.int64]) -> Tensor:
        """Some rows, float32 `[len(rows), D]`."""
        places = self.places[rows]
        out = torch.empty(len(places), self.dim)
        ends = np.cumsum([len(part) for part in self.parts])
        number = np.searchsorted(ends, places, side="right")
        for each in np.unique(number):  # a batch lies in few of many parts
            part, here = self.parts[each], np.flatnonzero(number == each)
            rows_there = places[here] - (ends[each] - len(part))
            out[torch.from_numpy(here)] = part[torch.from_numpy(rows_there)]
        return out

    def weighted_sum(self, weights: NDArray[np.float64]) -> Tensor:
        """Float32 `[D]`: all rows times their weights `[N]`, added up."""
        total = torch.zeros(self.dim)
        for start in range(0, len(self), _ROWS):
            rows = np.arange(start, min(start + _ROWS, len(self)))
            total += torch.from_numpy(weights[rows]).float() @ self.take(rows)
        return total


def shared_rows(folder: Path, texts: Sequence[str], *, dim: int, compute: Compute) -> SharedRows:
    """Looks texts up, and computes what no part has as new parts.

    One process of a machine computes at a time; the others wait, and then find what it has made.

    Args:
        folder: of everything that is computed in the same way.
        texts: distinct texts; one that stands twice would be computed twice.
        dim: width of a row.
        compute: given the places of some missing texts, int64, and how many are missing, these included,
            says in which order it computes them and how: a function as `stored_rows` wants it.

    Raises:
        DataError: the disk is full or not writable.
    """
    wanted = digests(texts)
    places, parts = _opened(folder, wanted, dim)
    if (places >= 0).all():
        return SharedRows(parts=tuple(parts), places=places, dim=dim)
    with writing(folder, bytes_needed=4 * dim * int((places < 0).sum())):
        folder.mkdir(parents=True, exist_ok=True)
        with FileLock(folder / "lock"):
            places, parts = _opened(folder, wanted, dim)  # somebody else may have computed them meanwhile
            missing = np.flatnonzero(places < 0)
            for start in range(0, len(missing), _TEXTS_PER_PART):
                order, fill = compute(missing[start : start + _TEXTS_PER_PART], len(missing) - start)
                places[order] = sum(map(len, parts)) + np.arange(len(order))
                parts.append(_new_part(folder, wanted[order], dim, fill))
    return SharedRows(parts=tuple(parts), places=places, dim=dim)


def _new_part(folder: Path, said: NDArray[np.void], dim: int, fill: Fill) -> Tensor:
    spec = StoreSpec(kind=folder.name, fingerprint=fingerprint(said), rows=len(said), dim=dim)
    rows = stored_rows(folder.parent, spec, fill)
    # After the rows: what has digests is complete.
    pairs = torch.from_numpy(said.view(np.int64).reshape(-1, 2).copy())
    write_tensors(folder / spec.fingerprint / _DIGESTS, {"digests": pairs}, said={})
    return rows


def _opened(folder: Path, wanted: NDArray[np.void], dim: int) -> tuple[NDArray[np.int64], list[Tensor]]:
    """Where each text's row lies in the parts that have some of them; -1 where none has it."""
    places = np.full(len(wanted), -1, np.int64)
    parts: list[Tensor] = []
    start = 0
    order = np.argsort(wanted["high"], kind="stable")
    highs = wanted["high"][order]
    for path in sorted(folder.glob(f"*/{_DIGESTS}"), key=lambda path: (path.stat().st_mtime_ns, path)):
        known = _known(path)
        near = np.searchsorted(highs, known["high"])
        row = np.flatnonzero(near < len(wanted))
        text = order[near[row]]
        new = (wanted[text] == known[row]) & (places[text] < 0)
        if len(known) and not new.any():
            continue
        spec = StoreSpec(kind=folder.name, fingerprint=path.parent.name, rows=len(known), dim=dim)
        rows = opened_rows(folder.parent, spec) if len(known) else None
        if rows is None:
            with contextlib.suppress(OSError):
                path.unlink()  # a damaged part is no part any more
            continue
        places[text[new]] = start + row[new]
        parts.append(rows)
        start += len(rows)
    return places, parts


def _known(path: Path) -> NDArray[np.void]:
    """The digests of a part; none where the file is damaged, so that its texts are computed again."""
    try:
        pairs = read_tensors(path)[0]["digests"]
    except (ValueError, KeyError, OSError) as error:
        problem = f"{path}: damaged ({error}); what it stands for is computed again"
        warnings.warn(problem, LangadaptWarning, stacklevel=4)
        return np.zeros(0, DIGEST)
    return pairs.numpy().view(DIGEST).reshape(-1)
