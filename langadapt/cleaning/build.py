"""From corpora to one clean corpus: learn, judge chunk by chunk, find duplicates, write."""

import hashlib
import json
import os
import re
import shutil
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
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
    judge_chunks,
    read_counts,
    survey,
)
from langadapt.cleaning.contamination import Captions, index_captions
from langadapt.cleaning.duplicates import find_duplicates, pair_features
from langadapt.cleaning.profile import CorpusProfile, NoIdentifier, SampleRow, identifier, learn_profile
from langadapt.cleaning.report import (
    CODES,
    DROPPING,
    EXAMPLES,
    MENDING,
    BuildReport,
    CleaningRules,
    ContaminationCheck,
    Example,
    SourceCount,
    markdown,
)
from langadapt.cleaning.rules import ChunkJudge, Judge
from langadapt.data.rows import CONTAMINATION_KEY
from langadapt.errors import DataError, Progress, Report
from langadapt.files.atomic import write_text
from langadapt.recipes.data import ParallelRecipe, TableFiles
from langadapt.recipes.yaml import dump_recipe

Agreement = Callable[[Sequence[str], Sequence[str]], NDArray[np.float32]]

"""Cosine of the two sides of each row, `[R]`."""

_CODE_VERSION = 1


@dataclass(frozen=True, kw_only=True)
class BuildPlan:
    """What is built and how."""

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


def build_parallel(plan: BuildPlan, out: Path, report: Report) -> BuildReport:
    """Cleans corpora into `out`: `pairs.parquet`, a recipe named like the folder, `report.json` and
    `report.md`.

    An interrupted build goes on with the chunks that are missing when the same command is given again. The
    bytes of all files depend on rows, rules and test captions only, not on the number of processes.

    Args:
        plan: corpora, language, rules, test captions.
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
    key = _digest(
        _CODE_VERSION, read.digest, plan.rules, plan.codes, plan.scripts, plan.agreement_name,
        *(part for item in plan.tests or () for part in (item.set_name, item.english, *item.texts)),
        *(f"{source.found.recipe.name} {source.found.recipe.licence} {source.weight}" for source in
        plan.sources), plan.tests is None,
    )  # fmt: skip
    work = out / ".work" / key
    work.mkdir(parents=True, exist_ok=True)
    with FileLock(out / ".work" / "lock"):
        profile = learn_profile(read.sample, plan.scripts, plan.rules)
        judge = Judge(
            codes=plan.codes,
            scripts=plan.scripts,
            rules=plan.rules,
            profile=profile,
            tests=None if plan.tests is None else index_captions(plan.tests),
        )
        done = 0
        for count in judge_chunks(chunk_tasks(plan.sources), judge, work, workers=plan.workers):
            done += count
            report(Progress(stage="rules", done=done, total=sum(read.rows)))
        counts = [read_counts(work, number) for number in range(read.chunks)]
        fates = _later_fates(plan, work, counts, report)
        result = _write(plan, out, name, work, counts, fates, profile)
    shutil.rmtree(out / ".work")
    return result


@dataclass(frozen=True, kw_only=True, eq=False)
class _Fates:
    """Fate of each living row, uint8 `[R]`, and the row that it repeats, -1 for none."""

    fate: NDArray[np.uint8]
    repeats: NDArray[np.int64]


def _later_fates(plan: BuildPlan, work: Path, counts: Sequence[ChunkCounts], report: Report) -> _Fates:
    """Rules that look at all rows together."""
    features = all_features(work, [item.alive for item in counts])
    rules = plan.rules
    found = find_duplicates(features, rules.near_share if rules.runs("near_duplicate") else 0.0, report)
    fate = np.zeros(len(features), np.uint8)
    if rules.runs("duplicate"):
        fate[found.exact >= 0] = CODES["duplicate"]
    fate[(fate == 0) & (found.near >= 0)] = CODES["near_duplicate"]
    if plan.agreement is not None and rules.runs("disagreement"):
        first = 0
        for number, item in enumerate(counts):
            place = slice(first, first + item.alive)
            values = _agreement(plan, work, number, fate[place])
            fate[place][(fate[place] == 0) & (values < rules.least_agreement)] = CODES["disagreement"]
            first += item.alive
            report(Progress(stage="agreement", done=first, total=len(fate)))
    return _Fates(fate=fate, repeats=np.maximum(found.exact, found.near))


def _agreement(plan: BuildPlan, work: Path, number: int, fate: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Agreement of a chunk's living rows, from disk where it was computed before; 1 for rows already
    dropped."""
    assert plan.agreement is not None
    path = work / f"agreement-{number:06d}.npy"
    if path.exists():
        return np.asarray(np.load(path, allow_pickle=False), np.float32)
    columns, alive = chunk_rows(work, number), np.flatnonzero(fate == 0)
    values = np.ones(len(fate), np.float32)
    if len(alive):
        texts = [[columns[side][row] for row in alive.tolist()] for side in ("english", "target")]
        values[alive] = plan.agreement(texts[0], texts[1])
    with path.with_suffix(".tmp").open("wb") as file:
        np.save(file, values)
    os.replace(path.with_suffix(".tmp"), path)
    return values


def _write(
    plan: BuildPlan,
    out: Path,
    name: str,
    work: Path,
    counts: Sequence[ChunkCounts],
    fates: _Fates,
    profile: CorpusProfile,
) -> BuildReport:
    dropped: Counter[str] = Counter()
    mended: Counter[str] = Counter()
    examples: dict[str, list[Example]] = {}
    for item in counts:
        dropped.update(item.dropped)
        mended.update(item.mended)
        for rule, rows in item.examples.items():
            examples.setdefault(rule, []).extend(rows)
    kept = [0] * len(plan.sources)
    starts = np.cumsum([0, *(item.alive for item in counts)])

    def where(row: int) -> str:
        if row < 0:
            return ""
        number = int(np.searchsorted(starts, row, side="right")) - 1
        place = chunk_rows(work, number, ["row"])["row"][row - int(starts[number])]
        return f"{plan.sources[counts[number].source].found.recipe.name} {place}"

    def batches() -> Iterator[Mapping[str, Any]]:
        for number, item in enumerate(counts):
            source = plan.sources[item.source]
            recipe = source.found.recipe
            columns = chunk_rows(work, number)
            fate = fates.fate[starts[number] : starts[number + 1]]
            repeats = fates.repeats[starts[number] : starts[number + 1]]
            for rule in ("duplicate", "near_duplicate", "disagreement"):
                shown = examples.setdefault(rule, [])
                for row in np.flatnonzero(fate == CODES[rule])[: EXAMPLES - len(shown)].tolist():
                    shown.append(_example(recipe.name, columns, row, where(int(repeats[row]))))
            dropped.update({rule: count for rule in DROPPING if (count := int((fate == CODES[rule]).sum()))})
            alive = np.flatnonzero(fate == 0).tolist()
            times = [copies(recipe.name, columns["row"][row], source.weight) for row in alive]
            dropped.update({"weight": times.count(0)} if 0 in times else {})
            kept[item.source] += len(times) - times.count(0)
            rows = [row for row, count in zip(alive, times, strict=True) for _ in range(count)]
            yield {
                "english": [columns["english"][row] for row in rows],
                "target": [columns["target"][row] for row in rows],
                "source": [recipe.name] * len(rows),
                "licence": [recipe.licence] * len(rows),
                "source_row": [columns["row"][row] for row in rows],
                "weight": [source.weight] * len(rows),
            }

    check = _check(plan, work, counts, fates)
    written = write_pairs(out / PAIRS, batches(), check)
    if not written:
        (out / PAIRS).unlink()
        raise DataError(
            f"{out}: no row is left of {sum(item.rows for item in counts)}; look at the rules, --off RULE"
        )
    recipes = [source.found.recipe for source in plan.sources]
    read = Counter[int]()
    for item in counts:
        read[item.source] += item.rows
    result = BuildReport(
        rows=sum(item.rows for item in counts),
        kept=sum(kept),
        written=written,
        mended={rule: mended[rule] for rule in MENDING if mended[rule]},
        dropped={rule: dropped[rule] for rule in DROPPING if dropped[rule]},
        examples={rule: examples[rule][:EXAMPLES] for rule in (*MENDING, *DROPPING) if examples.get(rule)},
        off=_off(plan, profile),
        notes=_notes(plan, profile),
        sources=[
            SourceCount(
                name=recipe.name, licence=recipe.licence, weight=source.weight, rows=read[i], kept=kept[i]
            )
            for i, (source, recipe) in enumerate(zip(plan.sources, recipes, strict=True))
        ],
        contamination=check,
    )
    write_text(out / "report.json", json.dumps(result.to_dict(), ensure_ascii=False, indent=2) + "\n")
    write_text(out / "report.md", markdown(result, name))
    yaml = pairs_recipe(
        name,
        language=plan.language,
        licences=[recipe.licence for recipe in recipes],
        sources=[recipe.name for recipe in recipes],
        rows=written,
    )
    write_text(out / f"{name}.yaml", yaml)
    return result


def _example(name: str, columns: Mapping[str, Any], row: int, repeats: str) -> Example:
    return Example(
        source=name,
        row=columns["row"][row],
        english=columns["english"][row][:1000],
        target=columns["target"][row][:1000],
        repeats=repeats,
    )


def _check(
    plan: BuildPlan, work: Path, counts: Sequence[ChunkCounts], fates: _Fates
) -> ContaminationCheck | None:
    if plan.tests is None:
        return None
    sets: dict[str, int] = {}
    for tests in plan.tests:
        sets[tests.set_name] = sets.get(tests.set_name, 0) + len(tests.texts)
    kept, first = 0, 0
    for number, item in enumerate(counts):
        source = plan.sources[item.source]
        columns = chunk_rows(work, number, ["row", "leak"])
        fate = fates.fate[first : first + item.alive]
        for row, leak, dropped in zip(columns["row"], columns["leak"], fate.tolist(), strict=True):
            kept += leak and not dropped and copies(source.found.recipe.name, row, source.weight) > 0
        first += item.alive
    return ContaminationCheck(
        sets=sets, found=sum(item.leaks for item in counts), kept=kept, missing=plan.missing_tests
    )


def _off(plan: BuildPlan, profile: CorpusProfile) -> dict[str, str]:
    """Rules that did not run, with the reason."""
    rules = plan.rules
    off = dict(profile.off)
    languages = {"English": identifier(["en"]), "the target": identifier(plan.codes)}
    missing = [
        f"{side}: {found.reason}" for side, found in languages.items() if isinstance(found, NoIdentifier)
    ]
    if len(missing) == len(languages) and profile.sides is None:
        off["language"] = "; ".join(missing)
    if plan.tests is None:
        off |= dict.fromkeys(
            ("contaminated", "contaminated_near"), "no test captions: contamination is unchecked"
        )
    elif rules.keep_contaminated:
        off |= dict.fromkeys(("contaminated", "contaminated_near"), "found rows are kept, as asked")
    if plan.agreement is None:
        off["disagreement"] = "no model was named to judge it"
    if rules.near_share == 0:
        off["near_duplicate"] = "near_share is 0"
    off["swapped" if rules.swapped == "mend" else "swapped_mended"] = "swapped rows are dropped"
    if rules.swapped == "mend":
        off["swapped"] = "swapped rows are mended"
    return {**off, **dict.fromkeys(rules.off, "turned off")}


def _notes(plan: BuildPlan, profile: CorpusProfile) -> list[str]:
    """What a rule does only in part."""
    notes = []
    for side, found in (("English", identifier(["en"])), ("target", identifier(plan.codes))):
        if isinstance(found, NoIdentifier):
            judge = "nobody judges" if profile.sides is None else "only the corpus' own words judge"
            notes.append(f"language, {side} side: {judge} ({found.reason})")
    if profile.separation is not None:
        notes.append(
            f"misaligned: pairs and neighbours are told apart with an area of {profile.separation:.3f}"
        )
    return notes


def _digest(*parts: object) -> str:
    """A short name for what determines the result."""
    digest = hashlib.blake2b(digest_size=12)
    for part in parts:
        raw = str(part).encode("utf-8", "surrogatepass")
        digest.update(len(raw).to_bytes(8, "little") + raw)
    return digest.hexdigest()


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


@dataclass(frozen=True, kw_only=True)
class CleaningEstimate:
    """Rows of the sample, how many are kept, and how many each rule drops or mends. Duplicates of rows
    outside are not seen."""

    rows: int
    kept: int
    dropped: Mapping[str, int]
    mended: Mapping[str, int]
    off: Mapping[str, str]


def estimate_cleaning(
    english: Sequence[str],
    target: Sequence[str],
    *,
    codes: tuple[str, ...],
    scripts: tuple[str, ...],
    rules: CleaningRules | None = None,
    tests: Sequence[Captions] | None = None,
) -> CleaningEstimate:
    """Cleans some neighbouring rows of one corpus.

    Args:
        english: raw English sides.
        target: raw target sides.
        codes: ISO 639 codes of the language, the shortest first.
        scripts: ISO 15924 codes.
        rules: limits; None takes those of `langadapt data build`.
        tests: captions of test sets; None leaves contamination unchecked.
    """
    rules = rules or CleaningRules()
    pairs = enumerate(zip(english, target, strict=True))
    rows = [SampleRow(english=a, target=b, source=0, place=place) for place, (a, b) in pairs]
    profile = learn_profile(rows, scripts, rules)
    index = None if tests is None else index_captions(tests)
    judge = ChunkJudge(judge=Judge(codes=codes, scripts=scripts, rules=rules, profile=profile, tests=index))
    judged = judge(english, target, 0)
    fate = judged.fate.copy()
    found = find_duplicates(pair_features(judged.english, judged.target), rules.near_share, _silent)
    for rule, repeats in (("duplicate", found.exact), ("near_duplicate", found.near)):
        if rules.runs(rule):
            fate[(fate == 0) & (repeats >= 0)] = CODES[rule]
    counts = {rule: int((fate == code).sum()) for rule, code in zip(DROPPING, range(1, 99), strict=False)}
    return CleaningEstimate(
        rows=len(fate),
        kept=int((fate == 0).sum()),
        dropped={rule: count for rule, count in counts.items() if count},
        mended={rule: count for rule, count in judged.mended.items() if count},
        off=profile.off,
    )


def _silent(progress: Progress) -> None:
    """A sample is done at once."""
