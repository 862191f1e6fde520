"""A table of English texts and their translations, made chunk by chunk; a stopped run goes on.

Each chunk is one file that appears whole or not at all. Chunks are cut by row numbers alone, so a resumed run
translates the same rows together and ends with the same bytes as an uninterrupted one.
"""

import json
import shutil
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from langadapt.errors import DataError
from langadapt.files.atomic import write_text
from langadapt.files.store import fingerprint

_CHUNK_ROWS = 256


def write_translated(
    out: Path,
    english: Sequence[str],
    translate: Callable[[list[str]], list[str]],
    *,
    key: str,
    progress: Callable[[int, int], None],
    finish: Callable[[list[str]], None] = lambda target: None,
) -> list[str]:
    """Translates texts and writes columns `english` and `target`.

    Args:
        out: .tsv or .parquet; unfinished chunks wait in a folder beside it.
        english: the texts; in a TSV a tab or line break inside becomes a space.
        translate: texts to as many translations.
        key: names model and settings; chunks of another key are not taken.
        progress: told how many of how many rows are done.
        finish: writes what stands beside the table; a run that is stopped before its end goes on.

    Returns:
        The translations.

    Raises:
        DataError: another kind of file, a finished file is there, or a translation is blank.
    """
    if out.suffix not in (".tsv", ".parquet"):
        raise DataError(f"{out}: expected a file that ends in .tsv or .parquet")
    texts = [" ".join(text.split()) for text in english]
    parts = out.with_name(f".{out.name}.parts-{fingerprint(key, *texts)[:12]}")
    if out.exists() and not parts.is_dir():
        raise DataError(f"{out} is there already; remove it or choose another --out")
    target: list[str] = []
    for number, chunk in _chunks(texts):
        path = parts / f"{number:06d}.json"
        made = _read_part(path)
        if made is None:
            made = translate(chunk)
            if len(made) != len(chunk):
                raise ValueError(f"{len(chunk)} texts became {len(made)} translations")
            write_text(path, json.dumps({"texts": made, "sum": fingerprint(*made)}, ensure_ascii=False))
        target += made
        progress(len(target), len(texts))
    blank = [row for row, text in enumerate(target) if not text.strip()]
    if len(blank) == len(target):
        raise DataError(f"{out}: every translation is blank; is it the right model for these languages?")
    rows = [(a, b) for a, b in zip(texts, target, strict=True) if b.strip()]
    _write(out, rows)
    finish(target)
    shutil.rmtree(parts)
    return target


def _read_part(path: Path) -> list[str] | None:
    """A finished chunk; None where there is none, or another than was written."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        texts: list[str] = found["texts"]
        return texts if found["sum"] == fingerprint(*texts) else None
    except (FileNotFoundError, KeyError, TypeError, ValueError):
        return None


def _chunks(texts: list[str]) -> Iterator[tuple[int, list[str]]]:
    for start in range(0, len(texts), _CHUNK_ROWS):
        yield start // _CHUNK_ROWS, texts[start : start + _CHUNK_ROWS]


def _write(out: Path, rows: list[tuple[str, str]]) -> None:
    if out.suffix == ".tsv":
        write_text(out, "".join(f"{a}\t{b}\n" for a, b in [("english", "target"), *rows]))
        return
    temporary = out.with_name(f".{out.name}.tmp")
    pq.write_table(pa.table({"english": [a for a, _ in rows], "target": [b for _, b in rows]}), temporary)
    temporary.replace(out)
