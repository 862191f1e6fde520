"""Which of many texts are the same, in a few numbers for each of them."""

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

DIGEST = np.dtype([("high", "<u8"), ("low", "<u8")])


@dataclass(frozen=True, kw_only=True)
class Distinct:
    """Distinct texts, counted in the order of their first appearance."""

    first: NDArray[np.int64]
    """Where each distinct text stands first, `[M]`, ascending."""
    index: NDArray[np.int64]
    """Which distinct text each text is, `[N]`."""


def digests(texts: Iterable[str]) -> NDArray[np.void]:
    """128 bits of BLAKE2b of each text, `[N]` with the fields `high` and `low` (uint64)."""
    made = bytearray()
    for text in texts:
        made += hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=16).digest()
    return np.frombuffer(made, DIGEST)


def distinct(texts: Iterable[str]) -> Distinct:
    """Numbers texts so that equal ones have one number; texts of equal digest are taken for equal."""
    said = digests(texts)
    order = np.lexsort((said["low"], said["high"]))  # stable: of equal texts the first one stands first
    ordered = said[order]
    new = np.ones(len(said), np.bool_)
    new[1:] = ordered[1:] != ordered[:-1]
    heads = order[new]
    number = np.empty(len(heads), np.int64)
    number[np.argsort(heads)] = np.arange(len(heads))
    index = np.empty(len(said), np.int64)
    index[order] = number[np.cumsum(new) - 1]
    return Distinct(first=np.sort(heads), index=index)
