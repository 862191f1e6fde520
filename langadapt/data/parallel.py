"""Parallel sentences from wherever a recipe says they are."""

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

from langadapt.data.aligned import read_aligned
from langadapt.data.hub_data import read_hub_values
from langadapt.data.local_files import local_path
from langadapt.data.rows import BlankTextError, Row, check_texts
from langadapt.data.tables import read_values
from langadapt.errors import DataError
from langadapt.recipes.data import AlignedFiles, HubSource, ParallelRecipe
from langadapt.recipes.find import Found


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
    """Reads a recipe's sentences into memory.

    Args:
        found: the recipe and where it lies; several files are read one after the other.

    Raises:
        DataError: data not there (says how to get them), unreadable, or another number of rows than the
            recipe's `expected_rows`.
    """
    recipe = found.recipe
    english: list[str] = []
    target: list[str] = []
    columns = (recipe.columns.english, recipe.columns.target)
    skipped = 0
    for row in _rows(found):
        try:
            check_texts(row, columns)
        except BlankTextError:
            if recipe.blank_rows == "error":
                raise
            skipped += 1
            continue
        english.append(row.values[0])
        target.append(row.values[1])
    if recipe.expected_rows is not None and len(english) + skipped != recipe.expected_rows:
        raise DataError(
            f"{found.path}: expected_rows is {recipe.expected_rows}, the data hold {len(english) + skipped}; "
            "fetch the release that the recipe names or correct expected_rows"
        )
    if not english:
        raise DataError(f"{found.path}: all {skipped} rows are blank")
    return ParallelSentences(
        name=recipe.name, language=recipe.language, english=english, target=target, blank_rows=skipped
    )


def _rows(found: Found[ParallelRecipe]) -> Iterator[Row]:
    source = found.recipe.source
    columns = (found.recipe.columns.english, found.recipe.columns.target)
    if isinstance(source, HubSource):
        yield from read_hub_values(source, columns)
    elif isinstance(source, AlignedFiles):
        yield from read_aligned(local_path(found, source.english), local_path(found, source.target))
    else:
        for name in source.paths:
            yield from read_values(local_path(found, name), columns)
