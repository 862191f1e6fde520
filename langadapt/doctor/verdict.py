"""What the doctor found, as numbers and facts, and the verdict: a pure function of them.

The limits are no laws: they say where experience and common sense begin to doubt.
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np

from langadapt.training.distill_start import ALIGNED_PERCENT

UNKNOWN_PERCENT = 1.0
"""More unknown tokens than this hide words."""
LETTERS_PERCENT = 95.0
"""Fewer known letters than this hide words."""
TIMES_ENGLISH = 2.5
"""More tokens than this for what English says in one: words are spelt letter by letter."""
LEAST_PAIRS = 1_000
FEW_PAIRS = 5_000
DROPPED_FRACTION = 0.1
"""More rows than this that cleaning drops: train on the cleaned ones."""

MEASURED_RETENTION = {1: 0.70, 1_000: 0.85, 3_000: 0.89, 10_000: 0.92, 30_000: 0.95}
"""Pairs, and the share of the teacher's English score that students with an aligned text model kept.

About the means of Chinese and German (3,000: Chinese alone) with multilingual E5 small, captions with 30,000
English ones beside; 1 stands for no pair. Source: benchmarks/SCALING.md.
"""

Tier = Literal["ready", "trainable with changes", "not yet"]


@dataclass(frozen=True, kw_only=True)
class Coverage:
    """Counts over some sentences, special tokens left out."""

    sentences: int
    tokens_per_word: float
    """Words are what white space separates: of little meaning in a script that writes none."""
    tokens_per_character: float
    english_tokens_per_word: float | None
    english_tokens_per_character: float | None
    times_english: float | None
    """Tokens of the sentences over tokens of their English sides; None without English."""
    unknown_percent: float
    """Tokens that stand for something unknown."""
    letters_percent: float
    """Distinct letters of the sentences that are one token and not an unknown one."""
    unknown_letters: str
    """Some of the others, the most frequent first."""


@dataclass(frozen=True, kw_only=True)
class Candidate:
    """A text model and what its tokenizer makes of the language."""

    repo: str
    revision: str | None
    own: bool
    """The one that the recipe names."""
    licence: str
    coverage: Coverage | None
    alignment: float | None = None
    """R@1 in percent of translations among their English sides, before training; None without pairs."""
    missing: str | None
    """Why there is no coverage: the model is not on this machine, ..."""


@dataclass(frozen=True, kw_only=True)
class Pairs:
    """Parallel sentences, counted by the cleaning."""

    rows: int
    kept: int
    contaminated: int
    """Rows with a test caption among the dropped ones."""
    dropped: dict[str, int]


@dataclass(frozen=True, kw_only=True)
class Licences:
    """All licences, and what they mean together for the weights that are learnt."""

    stated: dict[str, str]
    together: str
    commercial: bool
    unknown: tuple[str, ...]
    noncommercial: tuple[str, ...]
    objections: tuple[str, ...]
    """Why the weights may not be published."""


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """Time and disk of a whole run; measured on `sample` sentences."""

    device: str
    sample: int
    trained_parameters: int
    teacher_seconds: float
    """Embedding the English side once."""
    states_seconds: float
    """The frozen text model's hidden states, once; 0 where they are computed in each step."""
    train_seconds: float
    steps: int
    store_bytes: int
    """Stores of teacher embeddings and hidden states."""
    artifact_bytes: int
    free_bytes: int

    @property
    def seconds(self) -> float:
        return self.teacher_seconds + self.states_seconds + self.train_seconds


@dataclass(frozen=True, kw_only=True)
class Findings:
    """Everything about one language recipe on this machine."""

    code: str
    name: str
    recipe: str
    """As the command line names it: `--lang sw`, `--recipe my/sw.yaml`."""
    sample: str
    candidates: tuple[Candidate, ...]
    extended: int
    """New pieces that the recipe asks for already."""
    pairs: Pairs | None
    missing_data: tuple[str, ...]
    test_captions: int
    missing_tests: tuple[str, ...]
    licences: Licences
    estimate: Estimate | None
    no_models: str | None
    """Why teacher or text model cannot be had."""
    alignment: float | None = None
    """Translations that the untrained text model finds, in percent, where it is here and there are pairs."""

    @property
    def own(self) -> Candidate:
        return next(item for item in self.candidates if item.own)

    @property
    def expected(self) -> float | None:
        """Retention to expect of pairs like captions; None where the text model is not aligned."""
        aligned = self.alignment is not None and self.alignment >= ALIGNED_PERCENT
        return expected_retention(self.pairs.kept) if aligned and self.pairs is not None else None


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """The tier, why, what else to know, and what to type next."""

    tier: Tier
    reasons: tuple[str, ...]
    notes: tuple[str, ...]
    next: str


def verdict(found: Findings) -> Verdict:
    """Judge what was found, and nothing else."""
    blockers, changes = _blockers(found), _changes(found)
    settings = ""
    poor = found.own.coverage is not None and poor_coverage(found.own.coverage)
    if poor and not found.extended:
        settings = f' --set "text_model.extend_vocabulary={{pieces: {proposed_pieces(found)}}}"'
    build = _needs_build(found)
    tier: Tier = "not yet" if blockers else "trainable with changes" if changes else "ready"
    if blockers:
        then = f"correct the above, then: langadapt doctor {found.recipe}"
    elif build is not None:
        where = found.recipe.removeprefix("--lang ").removeprefix("--recipe ")
        then = f"langadapt data build --lang {where} --out data/{found.code}-clean"
    else:
        then = f"langadapt distill {found.recipe}{settings}"
    return Verdict(
        tier=tier,
        reasons=tuple([*blockers, *changes] or ["tokenizer, data and licences show no obstacle"]),
        notes=tuple(_notes(found)),
        next=then,
    )


def expected_retention(pairs: int) -> float:
    """Retention by straight lines between the measured points over log(pairs); the last one's beyond it."""
    measured = MEASURED_RETENTION
    return float(np.interp(np.log(max(pairs, 1)), np.log([*measured]), [*measured.values()]))


def poor_coverage(coverage: Coverage) -> bool:
    """Whether the tokenizer hides words or spells them out."""
    return (
        coverage.unknown_percent > UNKNOWN_PERCENT
        or coverage.letters_percent < LETTERS_PERCENT
        or (coverage.times_english or 0.0) > TIMES_ENGLISH
    )


def proposed_pieces(found: Findings) -> int:
    """New pieces worth trying: one for every twenty pairs, between 500 and 5,000."""
    pairs = found.pairs.kept if found.pairs else 0
    return max(500, min(5_000, pairs // 20))


def _blockers(found: Findings) -> list[str]:
    lines = [f"data: {line}" for line in found.missing_data] if found.pairs is None else []
    if found.pairs is not None and found.pairs.kept < LEAST_PAIRS and found.expected is None:
        lines.append(
            f"data: {found.pairs.kept:,} pairs after cleaning are too few, {LEAST_PAIRS:,} are the least; "
            "`langadapt data translate` makes more from English captions"
        )
    if found.no_models is not None:
        lines.append(f"models: {found.no_models}")
    elif found.own.coverage is None:
        lines.append(f"text model: {found.own.missing}")
    return lines


def _changes(found: Findings) -> list[str]:
    lines, coverage = [], found.own.coverage
    if coverage is not None and poor_coverage(coverage):
        what = (
            f"tokenizer: {coverage.unknown_percent:.1f} % unknown tokens, "
            f"{coverage.letters_percent:.0f} % of the letters known"
        )
        if coverage.times_english is not None:
            what += f", {coverage.times_english:.1f} times the tokens of English"
        remedy = f"the recipe's {found.extended} new pieces are for that" if found.extended else ""
        lines.append(f"{what}; {remedy or 'extend its vocabulary'}")
        for item in found.candidates:
            if item.coverage is not None and not item.own and not poor_coverage(item.coverage):
                lines.append(f"or take a text model that knows the language: {item.repo}")
                break
    pairs = found.pairs
    if pairs is not None and (LEAST_PAIRS if found.expected is None else 0) <= pairs.kept < FEW_PAIRS:
        lines.append(f"data: {pairs.kept:,} pairs are few; `langadapt data translate` makes more")
    if (build := _needs_build(found)) is not None:
        lines.append(build)
    estimate = found.estimate
    if estimate is not None and estimate.store_bytes + estimate.artifact_bytes > 0.9 * estimate.free_bytes:
        lines.append(
            f"disk: stores need {estimate.store_bytes / 1e9:.1f} GB, {estimate.free_bytes / 1e9:.1f} GB are "
            "free; set LANGADAPT_CACHE, or --state-cache 0"
        )
    lines += [f"licence: {line}; train, but do not publish" for line in found.licences.objections]
    return lines


def _needs_build(found: Findings) -> str | None:
    pairs = found.pairs
    if pairs is None:
        return None
    if pairs.contaminated:
        return f"contamination: {pairs.contaminated:,} rows hold test captions; train on the cleaned data"
    share = 1 - pairs.kept / max(1, pairs.rows)
    if share > DROPPED_FRACTION:
        return f"data: cleaning drops {100 * share:.0f} % of the rows; train on the cleaned data"
    return None


def _notes(found: Findings) -> list[str]:
    licences = found.licences
    lines = []
    if licences.noncommercial:
        lines.append(f"non-commercial: {', '.join(licences.noncommercial)}; so is what is learnt from them")
    if licences.unknown:
        lines.append(f"nobody stated the licence of: {', '.join(licences.unknown)}")
    if found.pairs is not None:
        lines += [f"not counted: {line}" for line in found.missing_data]
    lines += [f"contamination not checked against: {line}" for line in found.missing_tests]
    if not found.test_captions and not found.missing_tests:
        lines.append("contamination not checked: the recipe names no test set")
    return lines
