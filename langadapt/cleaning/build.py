"""From corpora to one clean corpus: learn, filter chunk by chunk, find duplicates, write."""

import hashlib
import json
import re
import shutil
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from filelock import FileLock
from numpy.typing import NDArray

from langadapt.cleaning.chunks import (
    ChunkCounts,
    Source,
    all_features,
    chunk_rows,
    chunk_tasks,
    filter_chunks,
    read_counts,
    survey,
)
from langadapt.cleaning.contamination import Captions, index_captions
from langadapt.cleaning.duplicates import find_duplicates
from langadapt.cleaning.profile import learn_profile
from langadapt.cleaning.row_filter import RowFilter
from langadapt.cleaning.rules import (
    CODES,
    DROPPING,
    EXAMPLES,
    NORMALISING,
    BuildReport,
    CleaningRules,
    ContaminationCheck,
    Example,
    SourceCount,
    markdown,
)
from langadapt.data.rows import CONTAMINATION_KEY
from langadapt.errors import DataError, Progress, Report
from langadapt.files.atomic import replacing, write_text
from langadapt.files.store import fingerprint
from langadapt.recipes.data import ParallelRecipe, TableFiles
from langadapt.recipes.yaml import dump_recipe

Agreement = Callable[[Sequence[str], Sequence[str]], NDArray[np.float32]]
"""Cosine of the two sides of each row, `[R]`."""

PAIRS = "pairs.parquet"
_CODE_VERSION = 3
_TEXTS = ("english", "target", "row")
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


@dataclass(frozen=True, kw_only=True)
class BuildPlan:
    """Corpora, language, rules and test captions of a build."""

    sources: Sequence[Source]
    language: str
    """Code that the built recipe carries."""
    codes: tuple[str, ...]
    """All ISO 639 codes of the language."""
    scripts: tuple[str, ...]
    rules: CleaningRules = field(default_factory=CleaningRules)
    tests: Sequence[Captions] | None = None
    """Captions of all test sets; None leaves contamination unchecked."""
    missing_tests: tuple[str, ...] = ()
    agreement: Agreement | None = None
    agreement_name: str = ""
    workers: int = 1

    def key(self, rows_digest: str) -> str:
        """Return a short name for all that determines the result."""
        captions = (part for item in self.tests or () for part in (item.set_name, item.english, *item.texts))
        sources = ((item.found.recipe.name, item.found.recipe.licence, item.weight) for item in self.sources)
        settings = (self.rules, self.codes, self.scripts, self.agreement_name, self.tests is None)
        return fingerprint(_CODE_VERSION, rows_digest, *settings, *sources, *captions)


def build_parallel(plan: BuildPlan, out: Path, report: Report) -> BuildReport:
    """Clean corpora into `pairs.parquet`, a recipe named like the folder, `report.json` and `report.md`.

    An interrupted build goes on with the chunks that are missing when the same command is given again. The
    bytes of all files depend on rows, rules and test captions only, not on the number of processes.

    Args:
        plan: what to build.
        out: folder of the result.
        report: told what is done.

    Raises:
        DataError: unreadable data, a folder's name that cannot be a recipe's, nothing left.
    """
    name = out.resolve().name
    if not re.fullmatch(r"[a-z0-9][a-z0-9._-]*", name):
        raise DataError(f"{out}: the folder's name becomes the recipe's: use a-z, 0-9, '.', '_' and '-' only")
    if not plan.sources:
        raise DataError("nothing to build: name at least one parallel data recipe")
    read = survey(plan.sources, report)
    work = out / ".work" / plan.key(read.digest)
    work.mkdir(parents=True, exist_ok=True)
    with FileLock(out / ".work" / "lock"):
        row_filter = RowFilter(
            codes=plan.codes,
            scripts=plan.scripts,
            rules=plan.rules,
            profile=learn_profile(read.sample, plan.scripts, plan.rules),
            tests=None if plan.tests is None else index_captions(plan.tests),
        )
        done = 0
        for count in filter_chunks(chunk_tasks(plan.sources), row_filter, work, workers=plan.workers):
            done += count
            report(Progress(stage="rules", done=done, total=sum(read.rows)))
        chunks = _final_verdicts(plan, work, [read_counts(work, n) for n in range(read.chunks)], report)
        check = None if plan.tests is None else _check(plan, plan.tests, chunks)
        total = _write_pairs(out, chunks, check)
        result = _report(plan, total, check, row_filter)
        write_text(out / "report.json", json.dumps(result.to_dict(), ensure_ascii=False, indent=2) + "\n")
        write_text(out / "report.md", markdown(result, name))
        write_text(out / f"{name}.yaml", dump_recipe(_recipe(plan, name, result.written)))
    shutil.rmtree(out / ".work")
    return result


@dataclass(frozen=True, kw_only=True, eq=False)
class _Chunk:
    """A chunk on disk and the final verdict of each of its living rows."""

    folder: Path
    number: int
    counts: ChunkCounts
    source: Source
    verdicts: NDArray[np.uint8]
    repeats: NDArray[np.int64]
    """For each row the row that it repeats, counted through all chunks; -1 for none."""

    def columns(self, *names: str) -> dict[str, list[Any]]:
        return chunk_rows(self.folder, self.number, names)

    def copies(self, rows: Sequence[int]) -> list[int]:
        """How often rows of this chunk, by their numbers in the source, are written."""
        return [copies(self.source.found.recipe.name, row, self.source.weight) for row in rows]


def _final_verdicts(
    plan: BuildPlan, work: Path, counts: Sequence[ChunkCounts], report: Report
) -> list[_Chunk]:
    """Run the rules that look at all rows together."""
    features = all_features(work, [item.alive for item in counts])
    rules = plan.rules
    found = find_duplicates(features, rules.near_share if rules.runs("near_duplicate") else 0.0, report)
    verdicts = np.zeros(len(features), np.uint8)
    if rules.runs("duplicate"):
        verdicts[found.exact >= 0] = CODES["duplicate"]
    verdicts[(verdicts == 0) & (found.near >= 0)] = CODES["near_duplicate"]
    repeats = np.maximum(found.exact, found.near)
    chunks, first = [], 0
    for number, item in enumerate(counts):
        here = slice(first, first + item.alive)
        source = plan.sources[item.source]
        chunk = _Chunk(
            folder=work, number=number, counts=item, source=source, verdicts=verdicts[here],
            repeats=repeats[here],
        )  # fmt: skip
        chunks.append(chunk)
        first += item.alive
        if plan.agreement is not None and rules.runs("disagreement"):
            low = _agreement(plan.agreement, chunk) < rules.least_agreement
            chunk.verdicts[(chunk.verdicts == 0) & low] = CODES["disagreement"]
            report(Progress(stage="agreement", done=first, total=len(verdicts)))
    return chunks


def _agreement(agreement: Agreement, chunk: _Chunk) -> NDArray[np.float32]:
    """Read or compute the agreement of a chunk's living rows; 1 for rows already dropped."""
    path = chunk.folder / f"agreement-{chunk.number:06d}.npy"
    if path.exists():
        return np.asarray(np.load(path, allow_pickle=False), np.float32)
    columns, alive = chunk.columns("english", "target"), np.flatnonzero(chunk.verdicts == 0)
    values = np.ones(len(chunk.verdicts), np.float32)
    if len(alive):
        english, target = ([columns[side][row] for row in alive.tolist()] for side in ("english", "target"))
        values[alive] = agreement(english, target)
    with replacing(path) as temporary, temporary.open("wb") as file:
        np.save(file, values)
    return values


def _check(plan: BuildPlan, tests: Sequence[Captions], chunks: Sequence[_Chunk]) -> ContaminationCheck:
    sets: Counter[str] = Counter()
    for item in tests:
        sets[item.set_name] += len(item.texts)
    kept = 0
    for chunk in chunks:
        columns = chunk.columns("row", "leak")
        leaks = np.flatnonzero(np.array(columns["leak"], bool) & (chunk.verdicts == 0)).tolist()
        kept += sum(count > 0 for count in chunk.copies([columns["row"][row] for row in leaks]))
    found = sum(chunk.counts.leaks for chunk in chunks)
    return ContaminationCheck(sets=dict(sets), found=found, kept=kept, missing=plan.missing_tests)


@dataclass(kw_only=True)
class _Total:
    """Counts of all chunks, added up while rows are written."""

    dropped: Counter[str] = field(default_factory=Counter)
    normalised: Counter[str] = field(default_factory=Counter)
    examples: dict[str, list[Example]] = field(default_factory=dict)
    read: Counter[int] = field(default_factory=Counter)
    kept: Counter[int] = field(default_factory=Counter)
    written: int = 0


def _write_pairs(out: Path, chunks: Sequence[_Chunk], check: ContaminationCheck | None) -> _Total:
    """Write the kept rows; a file without metadata of a check says that nobody has checked."""
    total = _Total()
    for chunk in chunks:
        total.dropped.update(chunk.counts.dropped)
        total.normalised.update(chunk.counts.normalised)
        total.read[chunk.counts.source] += chunk.counts.rows
        for rule, examples in chunk.counts.examples.items():
            total.examples.setdefault(rule, []).extend(examples)
    metadata = {}
    if check is not None:
        facts = {"sets": dict(check.sets), "found": check.found, "kept": check.kept}
        metadata[CONTAMINATION_KEY] = json.dumps(facts, sort_keys=True).encode()
    with replacing(out / PAIRS) as temporary:
        schema = _SCHEMA.with_metadata(metadata)
        with pq.ParquetWriter(temporary, schema, compression="zstd") as writer:
            for chunk in chunks:
                table = pa.table(_kept_rows(chunks, chunk, total), schema=_SCHEMA)
                if table.num_rows:
                    writer.write_table(table)
                total.written += table.num_rows
        if not total.written:
            raise DataError(f"{out}: no row is left of {total.read.total()}; look at the rules, --off RULE")
    return total


def _kept_rows(chunks: Sequence[_Chunk], chunk: _Chunk, total: _Total) -> Mapping[str, Any]:
    """Return the columns that are written of a chunk, and count what is not."""
    recipe = chunk.source.found.recipe
    columns = chunk.columns(*_TEXTS)
    for rule in ("duplicate", "near_duplicate", "disagreement"):
        dropped = np.flatnonzero(chunk.verdicts == CODES[rule])
        if len(dropped):
            total.dropped[rule] += len(dropped)
        shown = total.examples.setdefault(rule, [])
        for row in dropped[: EXAMPLES - len(shown)].tolist():
            repeats = _source_row(chunks, int(chunk.repeats[row]))
            english, target, number = (columns[name][row] for name in _TEXTS)
            shown.append(Example.cut(recipe.name, number, english, target, repeats=repeats))
    alive = np.flatnonzero(chunk.verdicts == 0).tolist()
    times = chunk.copies([columns["row"][row] for row in alive])
    total.dropped["weight"] += times.count(0)
    total.kept[chunk.counts.source] += len(times) - times.count(0)
    rows = [row for row, count in zip(alive, times, strict=True) for _ in range(count)]
    english, target, source_row = ([columns[name][row] for row in rows] for name in _TEXTS)
    return {
        "english": english,
        "target": target,
        "source": [recipe.name] * len(rows),
        "licence": [recipe.licence] * len(rows),
        "source_row": source_row,
        "weight": [chunk.source.weight] * len(rows),
    }


def _source_row(chunks: Sequence[_Chunk], row: int) -> str:
    """Name a living row, counted through all chunks, by its source and number; empty for -1."""
    for chunk in chunks if row >= 0 else ():
        if row < chunk.counts.alive:
            return f"{chunk.source.found.recipe.name} {chunk.columns('row')['row'][row]}"
        row -= chunk.counts.alive
    return ""


def copies(source: str, row: int, weight: float) -> int:
    """Return how often a row is written: the weight's whole part, and once more by lot for its fraction.

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


def _report(
    plan: BuildPlan, total: _Total, check: ContaminationCheck | None, row_filter: RowFilter
) -> BuildReport:
    sources = [
        SourceCount(
            name=source.found.recipe.name,
            licence=source.found.recipe.licence,
            weight=source.weight,
            rows=total.read[number],
            kept=total.kept[number],
        )
        for number, source in enumerate(plan.sources)
    ]
    examples = {rule: total.examples.get(rule, [])[:EXAMPLES] for rule in (*NORMALISING, *DROPPING)}
    return BuildReport(
        rows=total.read.total(),
        kept=total.kept.total(),
        written=total.written,
        normalised={rule: total.normalised[rule] for rule in NORMALISING if total.normalised[rule]},
        dropped={rule: total.dropped[rule] for rule in DROPPING if total.dropped[rule]},
        examples={rule: rows for rule, rows in examples.items() if rows},
        off=row_filter.off(judged=plan.agreement is not None),
        notes=row_filter.notes(),
        sources=sources,
        contamination=check,
    )


def _recipe(plan: BuildPlan, name: str, rows: int) -> ParallelRecipe:
    """Make the recipe that reads the file."""
    recipes = [source.found.recipe for source in plan.sources]
    return ParallelRecipe(
        name=name,
        title=f"Cleaned: {', '.join(recipe.name for recipe in recipes)}",
        licence=" AND ".join(dict.fromkeys(recipe.licence for recipe in recipes)),
        licence_source="the sources' recipes; each row's own is in the column `licence`",
        language=plan.language,
        source=TableFiles(kind="files", paths=(PAIRS,)),
        expected_rows=rows,
    )
