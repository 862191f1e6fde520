"""The rows that go into a build: read twice, once to learn from them, once to judge them."""

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from langadapt.data.cleaning.chunks import ChunkTask
from langadapt.data.cleaning.profile import Sample, SampleRow
from langadapt.data.parallel import parallel_rows
from langadapt.errors import DataError
from langadapt.progress import Progress, Report
from langadapt.recipes.data import ParallelRecipe
from langadapt.recipes.find import Found

_ROWS_PER_CHUNK = 10_000


@dataclass(frozen=True, kw_only=True)
class Source:
    """A corpus and how much it counts: with weight 0.5 every second clean row stays, with 2 each stands
    twice."""

    found: Found[ParallelRecipe]
    weight: float = 1.0

    def __post_init__(self) -> None:
        if not 0 < self.weight <= 100:
            raise DataError(
                f"{self.found.recipe.name}: weight must be above 0 and at most 100, got {self.weight:g}"
            )


@dataclass(frozen=True, kw_only=True)
class Survey:
    """What the first reading gave: `rows` of each source, a digest of all, a sample."""

    rows: Sequence[int]
    digest: str
    sample: Sequence[SampleRow]

    @property
    def chunks(self) -> int:
        """Chunks that the second reading will give."""
        return sum(-(-count // _ROWS_PER_CHUNK) for count in self.rows)


def survey(sources: Sequence[Source], report: Report) -> Survey:
    """Reads all rows once.

    Raises:
        DataError: unreadable data, a value that is no text, another number of rows than a recipe's
        `expected_rows`.
    """
    sample, digest, counts = Sample(), hashlib.blake2b(digest_size=16), []
    for number, source in enumerate(sources):
        recipe = source.found.recipe
        count = 0
        for english, target in _texts(source):
            digest.update(f"{len(english)} {len(target)} {english}{target}".encode("utf-8", "surrogatepass"))
            sample.see(SampleRow(english=english, target=target, source=number, place=count))
            count += 1
        if recipe.expected_rows is not None and count != recipe.expected_rows:
            raise DataError(
                f"{source.found.path}: expected_rows is {recipe.expected_rows}, the data hold {count}; "
                "fetch the release that the recipe names or correct expected_rows"
            )
        digest.update(f"end of {recipe.name}".encode())
        counts.append(count)
        report(Progress(stage=f"{recipe.name}: {count:,} rows"))
    return Survey(rows=counts, digest=digest.hexdigest(), sample=sample.rows)


def chunk_tasks(sources: Sequence[Source]) -> Iterator[ChunkTask]:
    """All rows again, in chunks that never span two sources."""
    number = 0
    for place, source in enumerate(sources):
        english: list[str] = []
        target: list[str] = []
        first = 1

        def task(number: int) -> ChunkTask:
            return ChunkTask(
                number=number,
                source=place,  # noqa: B023 - used at once
                name=source.found.recipe.name,  # noqa: B023
                first=first,  # noqa: B023
                english=english,  # noqa: B023
                target=target,  # noqa: B023
            )

        for pair in _texts(source):
            english.append(pair[0])
            target.append(pair[1])
            if len(english) == _ROWS_PER_CHUNK:
                yield task(number)
                number, first = number + 1, first + len(english)
                english, target = [], []
        if english:
            yield task(number)
            number += 1


def _texts(source: Source) -> Iterator[tuple[str, str]]:
    for row in parallel_rows(source.found, blank_lines=True):
        english, target = ("" if value is None else value for value in row.values)
        if not isinstance(english, str) or not isinstance(target, str):
            raise DataError(
                f"{row.place}: expected two texts, got {row.values!r:.80}; correct or remove this row"
            )
        yield english, target
