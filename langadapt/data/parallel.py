"""Parallel sentences: read from where a recipe says they are, split, or made by translation."""

import json
import shutil
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import islice
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from numpy.typing import NDArray

from langadapt.data.readers import check_count, extracted, read_source
from langadapt.data.rows import BlankTextError, Row, check_texts, contamination_metadata, read_aligned
from langadapt.data.sources import local_path, source_files
from langadapt.errors import DataError
from langadapt.files.atomic import replacing, write_text
from langadapt.files.json import read_json
from langadapt.files.store import digests, fingerprint, fingerprint_of
from langadapt.files.temporary import temporary_texts
from langadapt.recipes.data import AlignedFiles, DownloadSource, ParallelRecipe, Rows, TableFiles
from langadapt.recipes.find import RecipeFile

UNCHECKED = "unchecked"
_CHUNK_ROWS = 256


@dataclass(frozen=True, kw_only=True)
class ParallelSentences:
    """English sentences and their translations, row by row; no text is blank."""

    name: str
    language: str
    """Code of the target language."""
    english: Sequence[str]
    target: Sequence[str]
    blank_rows: int = 0
    """Rows that were left out because a side was blank."""
    contamination: str = UNCHECKED
    """`unchecked`; `dropped`: compared with test captions, none is in it; `kept(n)`: n rows hold some."""

    def __post_init__(self) -> None:
        if len(self.english) != len(self.target):
            counts = f"{len(self.english)} English sentences beside {len(self.target)} translations"
            raise DataError(f"{self.name}: {counts}; each row needs both")

    @cached_property
    def fingerprint(self) -> str:
        """16 hex digits of a SHA-256 over all rows in order."""
        pairs = zip(self.english, self.target, strict=True)
        return fingerprint_of(text for pair in pairs for text in pair)[:16]


def load_parallel(found: RecipeFile[ParallelRecipe]) -> ParallelSentences:
    """Read a recipe's sentences into a temporary file of the cache; a DataError says how to get them."""
    recipe = found.recipe
    columns = (recipe.columns.english, recipe.columns.target)
    skipped = 0

    def whole_rows() -> Iterator[Sequence[str]]:
        nonlocal skipped
        for row in parallel_rows(found):
            try:
                check_texts(row, columns)
            except BlankTextError:
                if recipe.blank_rows == "error":
                    raise
                skipped += 1
                continue
            yield row.values

    english, target = temporary_texts(whole_rows(), columns=2)
    check_count(found, "rows", len(english) + skipped)
    if not english:
        raise DataError(f"{found.path}: all {skipped} rows are blank")
    return ParallelSentences(
        name=recipe.name,
        language=recipe.language,
        english=english,
        target=target,
        blank_rows=skipped,
        contamination=_contamination(found),
    )


def _contamination(found: RecipeFile[ParallelRecipe]) -> str:
    source = found.recipe.source
    if not isinstance(source, TableFiles):
        return UNCHECKED
    kept = 0
    for name in source.paths:
        check = contamination_metadata(local_path(found, name)) if name.endswith(".parquet") else None
        if check is None:
            return UNCHECKED
        kept += int(check["kept"])
    return f"kept({kept})" if kept else "dropped"


def parallel_rows(found: RecipeFile[ParallelRecipe], *, blank_lines: bool = False) -> Iterator[Row]:
    """Stream a recipe's rows, English first, unchecked; `blank_lines` of aligned files are rows."""
    source, columns = found.recipe.source, found.recipe.columns
    if isinstance(source, AlignedFiles | DownloadSource) and source.english and source.target:
        blank_lines = blank_lines or found.recipe.blank_rows == "skip"
        english, target = source_files(found, source, (source.english, source.target))
        yield from islice(read_aligned(english, target, blank_lines=blank_lines), source.max_rows)
        return
    files = source_files(found, source)
    wanted = (columns.english, columns.target)
    rows: Rows = Rows() if isinstance(source, AlignedFiles) else source
    if rows.where:
        files, wanted, rows = [extracted(found, files, rows)], ("english", "target"), Rows()
    yield from read_source(files, wanted, rows)


@dataclass(frozen=True, kw_only=True)
class Distinct:
    """Distinct texts, numbered in the order of their first appearance."""

    first: NDArray[np.int64]
    """Row of each distinct text's first appearance, `[M]`, ascending."""
    index: NDArray[np.int64]
    """Number of each text's distinct text, `[N]`."""


def distinct(texts: Iterable[str]) -> Distinct:
    """Number texts so that equal ones share a number; texts of equal 128-bit digest count as equal."""
    keys = digests(texts)
    column = pa.Array.from_buffers(pa.binary(16), len(keys), [None, pa.py_buffer(keys.tobytes())])
    index = column.dictionary_encode().indices.to_numpy().astype(np.int64)
    return Distinct(first=np.unique(index, return_index=True)[1], index=index)


@dataclass(frozen=True, kw_only=True)
class Split:
    """Row numbers, int64: `train [n]` and `held_out [m]`."""

    train: NDArray[np.int64]
    held_out: NDArray[np.int64]


def split_by_english(
    english: Iterable[str],
    *,
    held_out: int,
    generator: torch.Generator,
    language: NDArray[np.int64] | None = None,
    names: Sequence[str] = ("the data",),
) -> Split:
    """Hold out `held_out` distinct English sentences, at most a tenth, with all their translations.

    Sentences are compared without case and spacing. Each `language [rows]`, a number in `names`, has its
    share of them, drawn among its own sentences, first among those that other languages hold out: English
    that they share is held out once. Rows of language -1 are never held out. `Split.held_out` has of each
    language the first row of each of its sentences. Raise a DataError for a language of fewer than 20
    distinct sentences, or of which others hold out all.
    """
    same = distinct(" ".join(text.casefold().split()) for text in english)
    language = np.zeros(len(same.index), np.int64) if language is None else language
    chosen, first = np.zeros(len(same.first), np.bool_), []
    for number, name in enumerate(names):
        rows = np.flatnonzero(language == number)
        sentences, places = np.unique(same.index[rows], return_index=True)
        if len(sentences) < 20:
            few = f"{len(sentences)} distinct English sentences are too few to train and hold some out"
            raise DataError(f"{name}: {few}")
        count = min(-(-held_out // len(names)), len(sentences) // 10)
        order = torch.randperm(len(sentences), generator=generator).numpy()
        order = order[np.argsort(~chosen[sentences[order]], kind="stable")]
        drawn = np.sort(order[:count])
        chosen[sentences[drawn]] = True
        first.append(rows[places[drawn]])
    train = np.flatnonzero(~chosen[same.index])
    for number in np.setdiff1d(np.arange(len(names)), language[train]).tolist():
        problem = f"other languages hold out every English sentence of {names[number]}"
        raise DataError(f"{problem}; lower distill.held_out_sentences, or leave the language out")
    return Split(train=train, held_out=np.concatenate(first))


def split_by_image(image_of_text: NDArray[np.int64], *, fraction: float, generator: torch.Generator) -> Split:
    """Hold out a fraction of the images, at least two of ten, with all their captions.

    `image_of_text`, int64 `[pairs]`, numbers each caption's image.
    """
    images = np.unique(image_of_text)
    if len(images) < 10:
        raise DataError(f"{len(images)} images are too few to train and hold some out; 10 are the least")
    wanted = min(max(2, round(fraction * len(images))), len(images) - 2)
    chosen = images[torch.randperm(len(images), generator=generator)[:wanted].numpy()]
    held_out = np.isin(image_of_text, chosen)
    return Split(train=np.flatnonzero(~held_out), held_out=np.flatnonzero(held_out))


def write_translated(
    out: Path,
    english: Sequence[str],
    translate: Callable[[list[str]], list[str]],
    *,
    key: str,
    progress: Callable[[int, int], None],
    finish: Callable[[list[str]], None],
) -> list[str]:
    """Translate texts and write columns `english` and `target`; a resumed run ends with the same bytes.

    Args:
        out: .tsv or .parquet; finished chunks wait in a folder beside it.
        english: the texts; white space inside becomes one space.
        translate: texts to as many translations.
        key: names model and settings; chunks of another key are not taken.
        progress: told how many of how many rows are done.
        finish: writes what stands beside the table, before the chunks are removed.
    """
    if out.suffix not in (".tsv", ".parquet"):
        raise DataError(f"{out}: expected a file that ends in .tsv or .parquet")
    texts = [" ".join(text.split()) for text in english]
    parts = out.with_name(f".{out.name}.parts-{fingerprint(key, *texts)[:12]}")
    if out.exists() and not parts.is_dir():
        raise DataError(f"{out} is there already; remove it or choose another --out")
    target: list[str] = []
    for start in range(0, len(texts), _CHUNK_ROWS):
        chunk = texts[start : start + _CHUNK_ROWS]
        path = parts / f"{start // _CHUNK_ROWS:06d}.json"
        translated = _read_part(path)
        if translated is None:
            translated = translate(chunk)
            if len(translated) != len(chunk):
                raise ValueError(f"{len(chunk)} texts became {len(translated)} translations")
            content = {"texts": translated, "sum": fingerprint(*translated)}
            write_text(path, json.dumps(content, ensure_ascii=False))
        target += translated
        progress(len(target), len(texts))
    rows = [(a, b) for a, b in zip(texts, target, strict=True) if b.strip()]
    if target and not rows:
        raise DataError(f"{out}: every translation is blank; is it the right model for these languages?")
    if out.suffix == ".tsv":
        write_text(out, "".join(f"{a}\t{b}\n" for a, b in [("english", "target"), *rows]))
    else:
        with replacing(out) as temporary:
            table = pa.table({"english": [a for a, _ in rows], "target": [b for _, b in rows]})
            pq.write_table(table, temporary)
    finish(target)
    shutil.rmtree(parts)
    return target


def _read_part(path: Path) -> list[str] | None:
    try:
        content = read_json(path)
        texts: list[str] = content["texts"]
        return texts if content["sum"] == fingerprint(*texts) else None
    except (FileNotFoundError, KeyError, TypeError, ValueError):
        return None
