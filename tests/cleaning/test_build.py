"""A whole build: planted faults, counts, the same bytes whoever works and however often it is stopped."""

import json
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from filelock import FileLock
from planting import Planted, plant
from toy_corpus import corpus, third_language

from langadapt.cleaning.build import BuildPlan, build_parallel
from langadapt.cleaning.chunks import Source
from langadapt.cleaning.contamination import Captions
from langadapt.cleaning.rules import BuildReport, CleaningRules
from langadapt.data.parallel import load_parallel
from langadapt.errors import DataError, LangadaptError, Progress
from langadapt.recipes import ParallelRecipe, data_recipe

CLEAN = corpus(4000, seed=1)
LEAKS = corpus(200, seed=2)
TESTS = (
    Captions(set_name="toy-test", english=True, texts=[a for a, _ in LEAKS]),
    Captions(set_name="toy-test", english=False, texts=[b for _, b in LEAKS]),
)
EACH = 40


def silent(progress: Progress) -> None:
    pass


def plan(
    *sources: Source, tests: tuple[Captions, ...] | None = TESTS, workers: int = 1, **rules: object
) -> BuildPlan:
    return BuildPlan(
        sources=sources,
        language="xx",
        codes=("xx",),
        scripts=("Latn",),
        rules=CleaningRules(**rules),  # type: ignore[arg-type]
        tests=tests,
        workers=workers,
    )


@pytest.fixture(scope="module")
def planted() -> list[Planted]:
    return plant(
        CLEAN,
        other=third_language(200, seed=3),
        leaks=LEAKS,
        each=EACH,
        block=20,
        seed=4,
        long_enough=lambda pair: True,
    )


def kept_rows(out: Path) -> list[dict[str, object]]:
    rows: list[dict[str, object]] = pq.read_table(out / "pairs.parquet").to_pylist()
    return rows


def test_planted_faults_are_caught_and_clean_rows_stay(
    planted: list[Planted], source: Callable[..., Source], tmp_path: Path
) -> None:
    report = build_parallel(plan(source("toy", [row.pair for row in planted])), tmp_path / "out", silent)
    rows = kept_rows(tmp_path / "out")
    kept = {int(str(row["source_row"])) for row in rows}
    lost: Counter[str] = Counter()
    total: Counter[str] = Counter()
    for number, row in enumerate(planted, start=1):
        total[row.fault] += 1
        lost[row.fault] += number not in kept
    # The invented third language is in no list of languages: nothing may be promised for it.
    exact = [
        "duplicate",
        "duplicate_case",
        "duplicate_punctuation",
        "copy",
        "leak",
        "leak_case",
        "leak_punctuation",
    ]
    assert {fault: lost[fault] / total[fault] for fault in exact if lost[fault] < 0.99 * total[fault]} == {}
    near = ["near_one_word", "near_two_words", "misaligned"]
    assert {fault: lost[fault] / total[fault] for fault in near if lost[fault] < 0.95 * total[fault]} == {}
    assert lost[""] < 0.005 * total[""]
    by_row = {int(str(row["source_row"])): row for row in rows}
    turned = [number for number, row in enumerate(planted, start=1) if row.fault == "swapped"]
    righted = [n for n in turned if n in by_row and by_row[n]["english"] == planted[n - 1].pair[1]]
    assert len(righted) >= 0.99 * len(turned)
    assert report.normalised["swapped_exchanged"] == len(righted)

    check_report(planted, report, tmp_path / "out")


def check_report(planted: list[Planted], report: BuildReport, out: Path) -> None:
    """The report's counts are those of the rows."""
    rows = kept_rows(out)
    assert report.rows == len(planted)
    assert report.kept == report.written == len(rows)
    assert report.rows == report.kept + sum(report.dropped.values())
    assert not set(report.dropped) & set(report.off)
    assert report.dropped["copy"] == sum(row.pair[0] == row.pair[1] for row in planted) == EACH
    assert report.contamination is not None
    assert report.contamination.sets == {"toy-test": 400}
    assert report.contamination.kept == 0
    said = json.loads((out / "report.json").read_text(encoding="utf-8"))
    assert BuildReport(**said).dropped == report.dropped
    page = (out / "report.md").read_text(encoding="utf-8")
    for rule, count in report.dropped.items():
        assert f"| {rule} | {count:,} |" in page
        assert 1 <= len(report.examples[rule]) <= 3
    assert rows[0] == {
        "english": CLEAN[0][0], "target": CLEAN[0][1], "source": "toy", "licence": "CC-toy",
        "source_row": 1, "weight": 1.0,
    }  # fmt: skip


def test_each_small_fault_has_its_rule(source: Callable[..., Source], tmp_path: Path) -> None:
    faults = {
        "empty": ("", "neno moja"),
        "copy": ("Same words here", "same words, here!"),
        "script": ("a cat sits", "кошка сидит"),
        "length": ("word " * 300, "neno " * 300),
        "length_ratio": ("berfin colder " * 10, "ka"),
    }
    clean = CLEAN[:1200]
    report = build_parallel(plan(source("toy", [*clean, *faults.values()])), tmp_path / "out", silent)
    assert {rule: report.dropped.get(rule) for rule in faults} == dict.fromkeys(faults, 1)
    for rule, pair in faults.items():
        assert [(item.row, item.english) for item in report.examples[rule]] == [
            (1201 + list(faults).index(rule), pair[0][:1000])
        ]
    off = build_parallel(
        plan(source("toy", [*clean, *faults.values()]), off=("copy",)), tmp_path / "off", silent
    )
    assert "copy" not in off.dropped
    assert off.off["copy"] == "turned off"


def files(out: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(out.iterdir())}


@pytest.mark.slow
def test_processes_and_interruptions_change_no_byte(
    planted: list[Planted], source: Callable[..., Source], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("langadapt.cleaning.chunks._ROWS_PER_CHUNK", 500)
    sources = (
        source("one", [row.pair for row in planted[:900]]),
        source("two", [row.pair for row in planted[900:1400]]),
    )
    whole = tmp_path / "whole" / "xx"
    build_parallel(plan(*sources), whole, silent)
    assert sorted(files(whole)) == ["pairs.parquet", "report.json", "report.md", "xx.yaml"]
    several = tmp_path / "several" / "xx"
    build_parallel(plan(*sources, workers=2), several, silent)
    assert files(several) == files(whole)

    class Stopped(Exception):
        pass

    for stage, done in (("rules", 500), ("near duplicates", 10)):
        stopped = tmp_path / stage / "xx"

        def stop(progress: Progress) -> None:
            if (progress.stage, progress.done) == (stage, done):  # noqa: B023 - used at once
                raise Stopped

        with pytest.raises(Stopped):
            build_parallel(plan(*sources), stopped, stop)
        assert not (stopped / "pairs.parquet").exists()
        assert list(stopped.rglob("chunk-*.arrow")), "what is finished stays"
        build_parallel(plan(*sources), stopped, silent)
        assert files(stopped) == files(whole)


def test_two_builds_and_one_that_was_killed_while_it_tidied_up(
    source: Callable[..., Source], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sources = source("one", CLEAN[:300])
    with (
        FileLock(tmp_path / "out" / ".lock"),
        pytest.raises(LangadaptError, match=r"out: another process builds in it; wait for it"),
    ):
        build_parallel(plan(sources), tmp_path / "out", silent)
    build_parallel(plan(sources), tmp_path / "whole", silent)

    def killed(folder: Path) -> None:
        for path in sorted(folder.rglob("*.*"))[::2]:
            path.unlink()
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("langadapt.cleaning.build.shutil.rmtree", killed)
        with pytest.raises(KeyboardInterrupt):
            build_parallel(plan(sources), tmp_path / "out", silent)
    (tmp_path / "out" / ".pairs.parquet.x.tmp").write_bytes(b"half")
    build_parallel(plan(sources), tmp_path / "out", silent)
    whole, again = files(tmp_path / "whole"), files(tmp_path / "out")
    assert set(again) == {name.replace("whole", "out") for name in whole}
    assert again["pairs.parquet"] == whole["pairs.parquet"]


def test_finished_chunks_are_not_judged_again(
    planted: list[Planted], source: Callable[..., Source], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("langadapt.cleaning.chunks._ROWS_PER_CHUNK", 300)
    made = source("toy", [row.pair for row in planted[:1500]])
    judged: list[int] = []
    import langadapt.cleaning.chunks as workers

    write = workers.write_chunk

    def counting(folder: Path, task: object, result: object) -> None:
        judged.append(task.number)  # type: ignore[attr-defined]
        if len(judged) == 3:
            raise KeyboardInterrupt
        write(folder, task, result)  # type: ignore[arg-type]

    monkeypatch.setattr(workers, "write_chunk", counting)
    with pytest.raises(KeyboardInterrupt):
        build_parallel(plan(made), tmp_path / "out", silent)
    build_parallel(plan(made), tmp_path / "out", silent)
    assert judged[:3] == [0, 1, 2]
    assert judged[3:] == list(range(2, 2 + len(judged) - 3))
    # Other rules are another build: nothing of the first is taken over.
    before = len(judged)
    build_parallel(plan(made, near_share=0.0), tmp_path / "out", silent)
    assert judged[before:][0] == 0


def test_weights_thin_out_and_repeat(source: Callable[..., Source], tmp_path: Path) -> None:
    half, twice = corpus(2000, seed=8), corpus(500, seed=9)
    sources = (source("half", half, weight=0.5), source("twice", twice, weight=2))
    report = build_parallel(plan(*sources, tests=None), tmp_path / "out", silent)
    counts = Counter(row["source"] for row in kept_rows(tmp_path / "out"))
    by_name = {item.name: item for item in report.sources}
    assert counts["twice"] == 2 * by_name["twice"].kept
    assert counts["half"] == by_name["half"].kept
    assert report.dropped["weight"] + counts["half"] > 1950
    assert 900 < counts["half"] < 1100
    assert report.written == counts["half"] + counts["twice"]


def test_the_result_is_a_corpus_to_train_on(source: Callable[..., Source], tmp_path: Path) -> None:
    report = build_parallel(plan(source("toy", CLEAN[:1200])), tmp_path / "toy-clean", silent)
    loaded = load_parallel(data_recipe(ParallelRecipe, str(tmp_path / "toy-clean" / "toy-clean.yaml")))
    assert len(loaded.english) == report.kept
    assert (loaded.english[0], loaded.target[0]) == CLEAN[0]
    assert loaded.contamination == "dropped"


def test_agreement_is_asked_once_for_each_living_row(source: Callable[..., Source], tmp_path: Path) -> None:
    import numpy as np

    asked: list[str] = []

    def agree(english: list[str], target: list[str]) -> object:
        asked.extend(english)
        return np.array([0.1 if text.startswith("An") else 0.9 for text in english], np.float32)

    made = BuildPlan(
        sources=[source("toy", CLEAN[:1500])], language="xx", codes=("xx",), scripts=("Latn",),
        agreement=agree, agreement_name="test",
    )  # fmt: skip
    report = build_parallel(made, tmp_path / "out", silent)
    assert report.dropped["disagreement"] == sum(text.startswith("An") for text in asked) > 0
    assert len(asked) == report.kept + report.dropped["disagreement"]


@pytest.mark.parametrize(
    ("out", "rows", "rules", "expected"),
    [
        ("Bad Name", CLEAN[:50], {}, "the folder's name becomes the recipe's"),
        ("out", [("", "")] * 5, {}, r"no row is left of 5 \(dropped: empty 5\)"),
        ("out", CLEAN[:50], {"off": ("nonsense",)}, "no cleaning rule 'nonsense'"),
        ("out", CLEAN[:50], {"near_share": 2.0}, "near_share must lie between 0 and 1"),
    ],
)
def test_faults_of_users(
    out: str, rows: list[tuple[str, str]], rules: dict[str, object], expected: str,
    source: Callable[..., Source], tmp_path: Path,
) -> None:  # fmt: skip
    with pytest.raises(DataError, match=expected):
        build_parallel(plan(source("toy", rows), **rules), tmp_path / out, silent)
    assert not (tmp_path / out / "pairs.parquet").exists()
