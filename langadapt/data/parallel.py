"""Parallel sentences from wherever a recipe says they are."""

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

from langadapt.data.aligned import read_aligned, read_aligned_lines
from langadapt.data.local_files import local_path
from langadapt.data.parquet import contamination_metadata
from langadapt.data.rows import BlankTextError, Row, check_texts
from langadapt.data.tables import read_values
from langadapt.data.texts import on_disk
from langadapt.errors import DataError
from langadapt.recipes.data import AlignedFiles, HubSource, ParallelRecipe, TableFiles
from langadapt.recipes.find import Found

UNCHECKED = "unchecked"


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
            raise DataError(
                f"{self.name}: {len(self.english)} English sentences beside {len(self.target)} translations; "
                "each row needs both"
            )

    @cached_property
    def fingerprint(self) -> str:
        """First 16 hex digits of a sha256 over all rows in order."""
        digest = hashlib.sha256()
        for pair in zip(self.english, self.target, strict=True):
            for text in pair:
                raw = text.encode()
                digest.update(len(raw).to_bytes(8, "little"))
                digest.update(raw)
        return digest.hexdigest()[:16]


def load_parallel(found: Found[ParallelRecipe]) -> ParallelSentences:
    """Reads a recipe's sentences once; they are kept on disk, in a nameless file of the cache.

    Args:
        found: the recipe and where it lies; several files are read one after the other.

    Raises:
        DataError: data not there (says how to get them), unreadable, or another number of rows than the
            recipe's `expected_rows`.
    """
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

    english, target = on_disk(whole_rows(), columns=2)
    if recipe.expected_rows is not None and len(english) + skipped != recipe.expected_rows:
        raise DataError(
            f"{found.path}: expected_rows is {recipe.expected_rows}, the data hold {len(english) + skipped}; "
            "fetch the release that the recipe names or correct expected_rows"
        )
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


def _contamination(found: Found[ParallelRecipe]) -> str:
    """What `langadapt data build` wrote into the files; unchecked if one of them says nothing."""
    source = found.recipe.source
    if not isinstance(source, TableFiles):
        return UNCHECKED
    kept = 0
    for name in source.paths:
        said = contamination_metadata(local_path(found, name)) if name.endswith(".parquet") else None
        if said is None:
            return UNCHECKED
        kept += int(said["kept"])
    return f"kept({kept})" if kept else "dropped"


def parallel_rows(found: Found[ParallelRecipe], *, blank_lines: bool = False) -> Iterator[Row]:
    """Streams a recipe's rows, English first, with values as they are; they are not checked.

    Args:
        found: the recipe and where it lies.
        blank_lines: take blank lines of aligned files for rows instead of stopping at them.
    """
    source = found.recipe.source
    columns = (found.recipe.columns.english, found.recipe.columns.target)
    if isinstance(source, HubSource):
        from langadapt.data.hub_data import read_hub_values  # `datasets` is large, and most builds read files

        yield from read_hub_values(source, columns)
    elif isinstance(source, AlignedFiles):
        read = read_aligned_lines if blank_lines else read_aligned
        yield from read(local_path(found, source.english), local_path(found, source.target))
    else:
        for name in source.paths:
            yield from read_values(local_path(found, name), columns)
