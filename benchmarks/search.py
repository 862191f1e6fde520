"""Exact search beside the FAISS index, on synthetic unit rows in clusters: recall and time, one line each.

python benchmarks/search.py --rows 1000000 --dim 256 --out /tmp/search-bench

The rows stand for images. Two kinds of queries: rows of the collection, and `texts`, points between a cluster
and a common direction of their own, since texts lie apart from images in CLIP's space.
"""

import argparse
import json
import shutil
import sqlite3
import sys
import time
import zlib
from dataclasses import asdict
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from langadapt.search.catalogue import CATALOGUE, Metadata, create_catalogue
from langadapt.search.index import open_index

_CLUSTERS = 20_000


def main() -> None:
    """Writes an index without images, builds FAISS on it, prints what was measured."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--dim", type=int, default=256)
    parser.add_argument("--noise", type=float, default=0.8, help="length of the noise beside a unit centre")
    parser.add_argument("--out", type=Path, required=True, help="folder for the index; removed first")
    parser.add_argument("--queries", type=int, default=20, help="timed queries")
    given = parser.parse_args()
    shutil.rmtree(given.out, ignore_errors=True)
    texts = _write(given.out, rows=given.rows, dim=given.dim, noise=given.noise)
    facts = open_index(given.out, None).build_approximate(texts)
    began = time.perf_counter()
    index = open_index(given.out, None)
    opened = time.perf_counter() - began
    seconds = {}
    for way in (False, True):
        began = time.perf_counter()
        for text in texts[: given.queries]:
            index.search(text[None], count=10, approximate=way)
        seconds[way] = (time.perf_counter() - began) / given.queries
    line = {
        **asdict(facts),
        "dim": given.dim,
        "noise": given.noise,
        "open_seconds": opened,
        "exact_ms": 1000 * seconds[False],
        "approximate_ms": 1000 * seconds[True],
        "ratio": seconds[False] / seconds[True],
        "rows_bytes": (given.out / "rows-0.bin").stat().st_size,
        "faiss_bytes": (given.out / "approximate.faiss").stat().st_size,
    }
    sys.stdout.write(json.dumps(line, indent=2) + "\n")


def _write(index: Path, *, rows: int, dim: int, noise: float) -> NDArray[np.float32]:
    draws = np.random.default_rng(0)
    centres = _unit(draws.normal(size=(_CLUSTERS, dim)))
    metadata = Metadata(
        fingerprint="synthetic", label="synthetic", folder="/nowhere", dim=dim, end=rows, state=1
    )
    index.mkdir(parents=True)
    create_catalogue(index, metadata)
    with sqlite3.connect(index / CATALOGUE) as connection, (index / "rows-0.bin").open("wb") as file:
        for start in range(0, rows, 50_000):
            slots = range(start, min(start + 50_000, rows))
            near = centres[draws.integers(0, _CLUSTERS, len(slots))]
            chunk = _unit(near + noise * draws.normal(size=near.shape) / dim**0.5)
            file.write(chunk.tobytes())
            connection.executemany(
                "INSERT INTO rows VALUES (?, ?, ?)",
                ((slot, slot.to_bytes(32), zlib.crc32(row)) for slot, row in zip(slots, chunk, strict=True)),
            )
            connection.executemany(
                "INSERT INTO images VALUES (?, 0, 0, 0, ?, NULL)",
                ((b"%09d.jpg" % slot, slot) for slot in slots),
            )
    own = _unit(draws.normal(size=(1, dim)))
    texts = centres[draws.integers(0, _CLUSTERS, 200)] + own + 0.5 * draws.normal(size=(200, dim)) / dim**0.5
    return _unit(texts)


def _unit(rows: NDArray[np.floating]) -> NDArray[np.float32]:
    return np.ascontiguousarray(rows / np.linalg.norm(rows, axis=1, keepdims=True), dtype=np.float32)


if __name__ == "__main__":
    main()
