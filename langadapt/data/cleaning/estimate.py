"""How much of a corpus survives cleaning, from some of its rows, in memory and without files."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from langadapt.data.cleaning.chunk import ChunkJudge, Judge
from langadapt.data.cleaning.contamination import Captions, index_captions
from langadapt.data.cleaning.duplicates import find_duplicates, pair_features
from langadapt.data.cleaning.profile import SampleRow, learn_profile
from langadapt.data.cleaning.rules import CODES, DROPPING, CleaningRules
from langadapt.progress import Progress


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
