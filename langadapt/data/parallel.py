"""Parallel sentences from wherever a recipe says they are."""

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

from langadapt.data.aligned import read_aligned
from langadapt.data.hub_data import read_hub
from langadapt.data.local_files import local_path
from langadapt.data.rows import Row
from langadapt.data.tables import read_table
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
    for row in _rows(found):
        english.append(row.values[0])
        target.append(row.values[1])
    if recipe.expected_rows is not None and len(english) != recipe.expected_rows:
        raise DataError(
            f"{found.path}: expected_rows is {recipe.expected_rows}, the data hold {len(english)}; "
            "fetch the release that the recipe names or correct expected_rows"
        )
    return ParallelSentences(name=recipe.name, language=recipe.language, english=english, target=target)


def _rows(found: Found[ParallelRecipe]) -> Iterator[Row]:
    source = found.recipe.source
    columns = (found.recipe.columns.english, found.recipe.columns.target)
    if isinstance(source, HubSource):
        yield from read_hub(source, columns)
    elif isinstance(source, AlignedFiles):
        yield from read_aligned(local_path(found, source.english), local_path(found, source.target))
    else:
        for name in source.paths:
            yield from read_table(local_path(found, name), columns)
