"""From corpora to one clean corpus: learn, filter chunk by chunk, find duplicates, write."""

import json
import re
import shutil
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from langadapt.cleaning.chunks import (
    ChunkCounts,
    Source,
    all_features,
    chunk_tasks,
    filter_chunks,
    read_chunk,
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
    contamination_lines,
)
from langadapt.cleaning.words import hash64
from langadapt.data.rows import CONTAMINATION_KEY
from langadapt.errors import DataError, Progress, Report
from langadapt.files.atomic import alone, remove_old, replacing, write_text
from langadapt.files.paths import real_path
from langadapt.files.store import fingerprint
from langadapt.files.templates import templates
from langadapt.recipes.data import ParallelRecipe, TableFiles
from langadapt.recipes.yaml import dump_recipe

Agreement = Callable[[Sequence[str], Sequence[str]], NDArray[np.float32]]
"""Cosine of the two sides of each row, `[R]`."""

PAIRS = "pairs.parquet"
_CODE_VERSION = 3
_TEXTS = ("english", "target", "row")
_LATE = ("duplicate", "near_duplicate", "disagreement")
"""Rules that look at all rows together."""

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
    """
    name = real_path(out).name
    if not re.fullmatch(r"[a-z0-9][a-z0-9._-]*", name):
        raise DataError(f"{out}: the folder's name becomes the recipe's: use a-z, 0-9, '.', '_' and '-' only")
    if not plan.sources:
        raise DataError("nothing to build: name at least one parallel data recipe")
    read = survey(plan.sources, report)
    work = out / ".work" / plan.key(read.digest)
    with alone(out / ".lock", f"{out}: another process builds in it; wait for it, or choose another --out"):
        remove_old(out, seconds=0)
        work.mkdir(parents=True, exist_ok=True)
        row_filter = RowFilter(
            codes=plan.codes,
            scripts=plan.scripts,
            rules=plan.rules,
            profile=learn_profile(read.sample, plan.scripts, plan.rules),
            tests=None if plan.tests is None else index_captions(plan.tests),
        )
        workers = plan.workers if read.chunks > 1 else 1  # a new process takes seconds to start
        done = 0
        for count in filter_chunks(chunk_tasks(plan.sources), row_filter, work, workers=workers):
            done += count
            report(Progress(stage="rules", done=done, total=sum(read.rows)))
        chunks = _final_verdicts(plan, work, [read_counts(work, n) for n in range(read.chunks)], report)
        check = None if plan.tests is None else _check(plan, plan.tests, chunks)
        written = _write_pairs(out, chunks, check)
        result = _report(plan, chunks, written, check, row_filter)
        write_text(out / "report.json", json.dumps(asdict(result), ensure_ascii=False, indent=2) + "\n")
        template = templates("langadapt.cleaning", escape_html=False).get_template("report.md")
        checked = contamination_lines(result.contamination)
        write_text(out / "report.md", template.render(report=result, title=name, checked=checked))
        write_text(out / f"{name}.yaml", dump_recipe(_recipe(plan, name, result.written)))
        shutil.rmtree(out / ".work")
    return result


@dataclass(frozen=True, eq=False)
class _Chunk:
    """A chunk on disk and the final verdict of each of its living rows."""

    folder: Path
    number: int
    counts: ChunkCounts
    source: Source
    verdicts: NDArray[np.uint8]
    repeats: NDArray[np.int64]
    """For each row the row that it repeats, counted through all chunks; -1 for none."""

    def columns(self, *names: str) -> pa.Table:
        return read_chunk(self.folder, self.number).select(names)


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
        chunk = _Chunk(work, number, item, source, verdicts[here], repeats[here])
        chunks.append(chunk)
        first += item.alive
        if plan.agreement is not None and rules.runs("disagreement"):
            low = _agreement(plan.agreement, chunk) < rules.least_agreement
            chunk.verdicts[(chunk.verdicts == 0) & low] = CODES["disagreement"]
            report(Progress(stage="agreement", done=first, total=len(verdicts)))
        if source.weight < 1:
            name, rows = source.found.recipe.name, chunk.columns("row")["row"].to_pylist()
            unwritten = np.array([copies(name, row, source.weight) == 0 for row in rows], bool)
            chunk.verdicts[(chunk.verdicts == 0) & unwritten] = CODES["weight"]
    return chunks


def _agreement(agreement: Agreement, chunk: _Chunk) -> NDArray[np.float32]:
    """Read or compute the agreement of a chunk's living rows; 1 for rows already dropped."""
    path = chunk.folder / f"agreement-{chunk.number:06d}.npy"
    if path.exists():
        return np.asarray(np.load(path, allow_pickle=False), np.float32)
    alive = np.flatnonzero(chunk.verdicts == 0)
    values = np.ones(len(chunk.verdicts), np.float32)
    if len(alive):
        english, target = (side.to_pylist() for side in chunk.columns("english", "target").take(alive))
        values[alive] = agreement(english, target)
    with replacing(path) as temporary, temporary.open("wb") as file:
        np.save(file, values)
    return values


def _check(plan: BuildPlan, tests: Sequence[Captions], chunks: Sequence[_Chunk]) -> ContaminationCheck:
    sets: Counter[str] = Counter()
    for item in tests:
        sets[item.set_name] += len(item.texts)
    kept = sum(int(chunk.columns("leak")["leak"].to_numpy()[chunk.verdicts == 0].sum()) for chunk in chunks)
    found = sum(chunk.counts.leaks for chunk in chunks)
    return ContaminationCheck(sets=dict(sets), found=found, kept=kept, missing=plan.missing_tests)


def _write_pairs(out: Path, chunks: Sequence[_Chunk], check: ContaminationCheck | None) -> int:
    """Write the kept rows and count them; a file without metadata of a check says that nobody has checked."""
    metadata = {}
    if check is not None:
        facts = {"sets": dict(check.sets), "found": check.found, "kept": check.kept}
        metadata[CONTAMINATION_KEY] = json.dumps(facts, sort_keys=True).encode()
    written = 0
    with replacing(out / PAIRS) as temporary:
        schema = _SCHEMA.with_metadata(metadata)
        with pq.ParquetWriter(temporary, schema, compression="zstd") as writer:
            for chunk in chunks:
                table = _kept_rows(chunk)
                if table.num_rows:
                    writer.write_table(table)
                written += table.num_rows
        if not written:
            read = sum(chunk.counts.rows for chunk in chunks)
            causes = sum((Counter(chunk.counts.dropped) for chunk in chunks), Counter[str]()).most_common(3)
            why = ", ".join(f"{rule} {count:,}" for rule, count in causes)
            way_out = "check language and columns, or --off RULE"
            raise DataError(f"cleaning: no row is left of {read:,} (dropped: {why}); {way_out}")
    return written


def _kept_rows(chunk: _Chunk) -> pa.Table:
    recipe, weight = chunk.source.found.recipe, chunk.source.weight
    alive = np.flatnonzero(chunk.verdicts == 0)
    living = chunk.columns(*_TEXTS).take(alive)
    times = [copies(recipe.name, row, weight) for row in living["row"].to_pylist()]
    table = living.take(np.repeat(np.arange(len(alive)), times))
    names, licences, weights = ([value] * len(table) for value in (recipe.name, recipe.licence, weight))
    return pa.table([*table.columns[:2], names, licences, table["row"], weights], schema=_SCHEMA)


def _examples(chunks: Sequence[_Chunk], chunk: _Chunk, rule: str, most: int) -> list[Example]:
    """Return the first rows of a chunk that a late rule dropped."""
    dropped = np.flatnonzero(chunk.verdicts == CODES[rule])[:most]
    rows = chunk.columns(*_TEXTS).take(dropped).to_pylist()
    name, origins = chunk.source.found.recipe.name, map(int, chunk.repeats[dropped])
    return [
        Example.cut(name, **row, repeats=_source_row(chunks, origin))
        for row, origin in zip(rows, origins, strict=True)
    ]


def _source_row(chunks: Sequence[_Chunk], row: int) -> str:
    """Name a living row, counted through all chunks, by its source and number; empty for -1."""
    for chunk in chunks if row >= 0 else ():
        if row < chunk.counts.alive:
            return f"{chunk.source.found.recipe.name} {chunk.columns('row')['row'][row].as_py()}"
        row -= chunk.counts.alive
    return ""


def copies(source: str, row: int, weight: float) -> int:
    """Return how often a row is written: the weight's whole part, and once more by lot for its fraction."""
    whole = int(weight)
    if whole == weight:
        return whole
    return whole + (hash64(f"{source} {row}") / 2**64 < weight - whole)


def _report(
    plan: BuildPlan,
    chunks: Sequence[_Chunk],
    written: int,
    check: ContaminationCheck | None,
    row_filter: RowFilter,
) -> BuildReport:
    """Add up what became of all rows."""
    dropped, normalised = Counter[str](), Counter[str]()
    read, kept = Counter[int](), Counter[int]()
    examples: defaultdict[str, list[Example]] = defaultdict(list)
    for chunk in chunks:
        counts = chunk.counts
        normalised.update(counts.normalised)
        dropped.update(counts.dropped)
        late = np.bincount(chunk.verdicts, minlength=len(CODES) + 1)
        dropped.update({rule: int(late[CODES[rule]]) for rule in (*_LATE, "weight")})
        read[counts.source] += counts.rows
        kept[counts.source] += int(late[0])
        for rule in (*NORMALISING, *DROPPING):
            most = EXAMPLES - len(examples[rule])
            examples[rule] += counts.examples.get(rule, [])[:most]
            examples[rule] += _examples(chunks, chunk, rule, most) if rule in _LATE else []
    return BuildReport(
        rows=read.total(),
        kept=kept.total(),
        written=written,
        normalised={rule: normalised[rule] for rule in NORMALISING if normalised[rule]},
        dropped={rule: dropped[rule] for rule in DROPPING if dropped[rule]},
        examples={rule: rows for rule, rows in examples.items() if rows},
        off=row_filter.off(judged=plan.agreement is not None),
        notes=row_filter.notes(),
        sources=[
            SourceCount(
                name=source.found.recipe.name,
                licence=source.found.recipe.licence,
                weight=source.weight,
                rows=read[number],
                kept=kept[number],
            )
            for number, source in enumerate(plan.sources)
        ],
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
