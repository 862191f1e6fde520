"""Rows of Parquet files, streamed through pyarrow."""

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from langadapt.data.lines import unreadable
from langadapt.data.rows import Row, missing_column, reach
from langadapt.errors import DataError

CONTAMINATION_KEY = b"langadapt.contamination"


def contamination_metadata(path: Path) -> dict[str, Any] | None:
    """What a check for test captions wrote into a file: `sets`, `found`, `kept`; None where none did.

    Raises:
        DataError: unreadable file, or something else under that name.
    """
    with _opened(path) as file:
        said = (file.schema_arrow.metadata or {}).get(CONTAMINATION_KEY)
    if said is None:
        return None
    try:
        found = json.loads(said)
        return {"sets": dict(found["sets"]), "found": int(found["found"]), "kept": int(found["kept"])}
    except (ValueError, KeyError, TypeError) as error:
        raise DataError(
            f"{path}: its record of the check for test captions is damaged; build it again"
        ) from error


def parquet_columns(path: Path) -> list[str]:
    """Names of the outermost columns."""
    with _opened(path) as file:
        return [str(name) for name in file.schema_arrow.names]


def read_parquet(path: Path, columns: Sequence[str]) -> Iterator[Row]:
    """Streams columns of any type; a dotted name reaches into nested ones.

    Raises:
        DataError: unreadable or damaged file, wrong column.
    """
    with _opened(path) as file:
        names = [str(name) for name in file.schema_arrow.names]
        roots = [column if column in names else column.partition(".")[0] for column in columns]
        for column, root in zip(columns, roots, strict=True):
            if root not in names:
                raise missing_column(column, names, str(path))
        number = 0
        for batch in file.iter_batches(batch_size=1024, columns=list(dict.fromkeys(roots))):
            for record in batch.to_pylist():
                number += 1
                place = f"{path}: row {number}"
                yield Row(place, tuple(reach(record, column, place) for column in columns))


@contextmanager
def _opened(path: Path) -> Iterator[pq.ParquetFile]:
    try:
        raw = path.open("rb")
    except OSError as error:
        raise unreadable(path, error) from error
    with raw:
        try:
            yield pq.ParquetFile(raw)
        except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
            problem = str(error).splitlines()[0].rstrip(". ")
            raise DataError(f"{path}: not readable as Parquet ({problem}); fetch it again") from error
