"""Each reason moves the verdict, and nothing else does."""

from dataclasses import replace
from typing import Any

import pytest

from langadapt.doctor.verdict import Candidate, Coverage, Estimate, Findings, Licences, Pairs, verdict

GOOD = Coverage(
    sentences=100,
    tokens_per_word=1.5,
    tokens_per_character=0.3,
    english_tokens_per_word=1.2,
    english_tokens_per_character=0.25,
    times_english=1.2,
    unknown_percent=0.0,
    letters_percent=100.0,
    unknown_letters="",
)
BAD = replace(GOOD, unknown_percent=60.0, letters_percent=5.0, unknown_letters="აბ")
OWN = Candidate(repo="a/own", revision=None, own=True, licence="MIT", coverage=GOOD, missing=None)
OTHER = replace(OWN, repo="a/other", own=False)
WELL = Findings(
    code="sw",
    name="Swahili",
    recipe="--lang sw",
    sample="100 clean pairs of the recipe",
    candidates=(OWN, replace(OTHER, coverage=None, missing="not available here")),
    extended=0,
    pairs=Pairs(rows=10_000, kept=9_900, contaminated=0, dropped={"duplicate": 100}),
    missing_data=(),
    test_captions=1_000,
    missing_tests=(),
    licences=Licences(
        stated={"news": "MIT"},
        together="apache-2.0",
        commercial=True,
        unknown=(),
        noncommercial=(),
        objections=(),
    ),
    estimate=Estimate(
        device="cpu",
        sample=100,
        trained_parameters=1,
        teacher_seconds=1.0,
        states_seconds=1.0,
        train_seconds=1.0,
        steps=1,
        store_bytes=10**9,
        artifact_bytes=10**6,
        free_bytes=10**10,
    ),
    no_models=None,
)


def changed(**parts: Any) -> Findings:
    return replace(WELL, **parts)


def test_ready() -> None:
    found = verdict(WELL)
    assert (found.tier, found.notes) == ("ready", ())
    assert found.next == "langadapt distill --lang sw"


@pytest.mark.parametrize(
    ("coverage", "poor"),
    [
        (BAD, True),
        (replace(GOOD, unknown_percent=1.5), True),
        (replace(GOOD, letters_percent=90.0), True),
        (replace(GOOD, times_english=3.0), True),
        (replace(GOOD, unknown_percent=0.9, letters_percent=96.0, times_english=2.4), False),
        (replace(GOOD, times_english=None), False),
    ],
)
def test_poor_coverage_proposes_the_extension(coverage: Coverage, poor: bool) -> None:
    found = verdict(changed(candidates=(replace(OWN, coverage=coverage),)))
    assert found.tier == ("trainable with changes" if poor else "ready")
    proposal = ' --set "text_model.extend_vocabulary={pieces: 500}"'
    assert found.next == f"langadapt distill --lang sw{proposal if poor else ''}"
    assert ("extend its vocabulary" in found.reasons[0]) == poor


def test_a_recipe_that_extends_already_is_not_told_to() -> None:
    found = verdict(changed(candidates=(replace(OWN, coverage=BAD),), extended=600))
    assert found.next == "langadapt distill --lang sw"
    assert "600 new pieces" in found.reasons[0]


def test_a_better_text_model_is_named_only_where_it_was_measured() -> None:
    own = replace(OWN, coverage=BAD)
    assert "a/other" in " ".join(verdict(changed(candidates=(own, OTHER))).reasons)
    absent = replace(OTHER, coverage=None, missing="not available here")
    assert "a/other" not in " ".join(verdict(changed(candidates=(own, absent))).reasons)


@pytest.mark.parametrize(
    ("parts", "tier", "word", "next_word"),
    [
        ({"pairs": None, "missing_data": ("news.tsv is not here",)}, "not yet", "news.tsv", "doctor"),
        ({"pairs": Pairs(rows=999, kept=999, contaminated=0, dropped={})}, "not yet", "too few", "doctor"),
        (
            {"candidates": (replace(OWN, coverage=None, missing="gated"),)},
            "not yet",
            "text model: gated",
            "doctor",
        ),
        ({"no_models": "teacher: no weights", "estimate": None}, "not yet", "no weights", "doctor"),
        (
            {"pairs": Pairs(rows=4_999, kept=4_999, contaminated=0, dropped={})},
            "trainable with changes",
            "are few",
            "distill",
        ),
        (
            {"pairs": Pairs(rows=10_000, kept=9_999, contaminated=1, dropped={"contaminated": 1})},
            "trainable with changes",
            "1 rows hold test captions",
            "data build --lang sw",
        ),
        (
            {"pairs": Pairs(rows=10_000, kept=8_999, contaminated=0, dropped={"script": 1001})},
            "trainable with changes",
            "drops 10 %",
            "data build --lang sw",
        ),
        (
            {"estimate": replace(WELL.estimate, free_bytes=10**9)},  # type: ignore[type-var]
            "trainable with changes",
            "LANGADAPT_CACHE",
            "distill",
        ),
        (
            {"licences": replace(WELL.licences, objections=("the licence forbids it",))},
            "trainable with changes",
            "do not publish",
            "distill",
        ),
    ],
)
def test_reasons(parts: dict[str, Any], tier: str, word: str, next_word: str) -> None:
    found = verdict(changed(**parts))
    assert found.tier == tier
    assert word in " ".join(found.reasons)
    assert next_word in found.next


@pytest.mark.parametrize(("pairs", "expected"), [(1_000, 0.85), (5_477, 0.905), (10**6, 0.95)])
def test_an_aligned_text_model_says_what_to_expect(pairs: int, expected: float) -> None:
    found = changed(pairs=Pairs(rows=pairs, kept=pairs, contaminated=0, dropped={}), alignment=84.0)
    assert found.expected == pytest.approx(expected, abs=0.001)
    assert replace(found, alignment=49.9).expected is None


def test_few_pairs_are_no_obstacle_for_an_aligned_text_model() -> None:
    few = changed(pairs=Pairs(rows=300, kept=300, contaminated=0, dropped={}))
    assert verdict(few).tier == "not yet"
    found = verdict(replace(few, alignment=84.0))
    assert found.tier == "trainable with changes"
    assert "300 pairs are few" in found.reasons[0]


def test_notes_do_not_move_the_tier() -> None:
    licences = replace(WELL.licences, commercial=False, noncommercial=("news",), unknown=("a/own",))
    found = verdict(changed(licences=licences, missing_tests=("xtd10-sw: get it",), test_captions=0))
    assert found.tier == "ready"
    said = " ".join(found.notes)
    assert "non-commercial: news" in said
    assert "nobody stated the licence of: a/own" in said
    assert "contamination not checked against: xtd10-sw" in said
    assert "names no test set" in " ".join(verdict(changed(test_captions=0)).notes)
