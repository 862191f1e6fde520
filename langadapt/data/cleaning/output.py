"""The cleaned corpus: one Parquet file with the provenance of each row, and a recipe beside it."""

import hashlib
import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from langadapt.data.cleaning.report import ContaminationCheck
from langadapt.data.parquet import CONTAMINATION_KEY
from langadapt.recipes.data import ParallelRecipe, TableFiles
from langadapt.recipes.strict_yaml import dump_recipe

PAIRS = "pairs.parquet"
_SCHEMA = pa.schema(
    [
        ("english", pa.string()),
        ("target", pa.string()),
        ("source", pa.string()),
        ("licence", pa.string()),
        ("source_row", pa.int64()),
        ("weight", pa.float32()),
    ]
)


def write_pairs(path: Path, batches: Iterator[Mapping[str, Any]], check: ContaminationCheck | None) -> int:
    """Writes rows as they come; the file appears whole or not at all.

    Args:
        path: the Parquet file.
        batches: columns `english`, `target`, `source`, `licence`, `source_row`, `weight` of equal length.
        check: goes into the file's metadata; a file without it says that nobody has checked.

    Returns:
        Rows written.
    """
    said = {} if check is None else {CONTAMINATION_KEY: json.dumps(metadata(check), sort_keys=True).encode()}
    temporary = path.with_name(f".{path.name}.tmp")
    rows = 0
    with pq.ParquetWriter(temporary, _SCHEMA.with_metadata(said), compression="zstd") as writer:
        for batch in batches:
            table = pa.table(dict(batch), schema=_SCHEMA)
            if table.num_rows:
                writer.write_table(table)
            rows += table.num_rows
    os.replace(temporary, path)
    return rows


def metadata(check: ContaminationCheck) -> dict[str, Any]:
    """What later scores must know of a check."""
    return {"sets": dict(check.sets), "found": check.found, "kept": check.kept}


def copies(source: str, row: int, weight: float) -> int:
    """How often a row is written: the weight's whole part, and once more for the fraction's share of all
    rows.

    Example:
        >>> copies("news", 1, 2.0)
        2
        >>> sum(copies("news", row, 0.5) for row in range(10_000)) in range(4800, 5200)
        True
    """
    whole = int(weight)
    if whole == weight:
        return whole
    digest = hashlib.blake2b(f"{source} {row}".encode(), digest_size=8).digest()
    return whole + (int.from_bytes(digest, "little") / 2**64 < weight - whole)


def pairs_recipe(name: str, *, language: str, licences: list[str], sources: list[str], rows: int) -> str:
    """The recipe that reads the file, as YAML."""
    recipe = ParallelRecipe(
        name=name,
        title=f"Cleaned: {', '.join(sources)}",
        licence=" AND ".join(dict.fromkeys(licences)),
        licence_source="the sources' recipes; each row's own is in the column `licence`",
        language=language,
        source=TableFiles(kind="files", paths=(PAIRS,)),
        expected_rows=rows,
    )
    return dump_recipe(recipe)
