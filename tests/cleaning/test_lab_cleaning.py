"""Real captions, everyday sentences and news: planted faults, false alarms, counts against a plain script."""

import gzip
import json
import os
import unicodedata
from collections import Counter
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from planting import Pair, Planted, plant, units

from langadapt.cleaning.build import BuildPlan, build_parallel
from langadapt.cleaning.chunks import Source
from langadapt.cleaning.contamination import Captions
from langadapt.errors import Progress
from langadapt.recipes import ParallelRecipe, data_recipe

pytestmark = pytest.mark.lab

EXACT = [
    "duplicate",
    "duplicate_case",
    "duplicate_punctuation",
    "copy",
    "leak",
    "leak_case",
    "leak_punctuation",
]
NEAR = ["near_one_word", "near_two_words", "swapped", "wrong_language", "misaligned"]
CASES = {
    "captions.en-zh.train.tsv.gz": ("zh", ("Hans", "Hant"), "captions.en-de.train.tsv.gz", "val.zh-mt.tsv"),
    "captions.en-de.train.tsv.gz": ("de", ("Latn",), "captions.en-fr.train.tsv.gz", "val.de.tsv"),
    "captions.en-fr.train.tsv.gz": ("fr", ("Latn",), "captions.en-de.train.tsv.gz", "val.fr.tsv"),
    "tatoeba.en-zh.tsv.gz": ("zh", ("Hans", "Hant"), "captions.en-de.train.tsv.gz", "val.zh-mt.tsv"),
    "lafand.en-swa.train.tsv.gz": ("sw", ("Latn",), "captions.en-fr.train.tsv.gz", "val.de.tsv"),
    "lafand.en-yor.train.tsv.gz": ("yo", ("Latn",), "captions.en-fr.train.tsv.gz", "val.de.tsv"),
}


def read(name: str, *columns: str) -> list[tuple[str, ...]]:
    path = Path(os.environ["LANGADAPT_LAB"]) / name
    raw = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    lines = [line.split("\t") for line in raw.decode("utf-8").split("\n")[:-1]]
    places = [lines[0].index(column) for column in columns]
    return [tuple(line[place] for place in places) for line in lines[1:]]


def plain(text: str) -> str:
    """Letters, marks and digits without case: another way to the same comparison."""
    folded = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", text.casefold())).casefold()
    return "".join(c for c in folded if unicodedata.category(c)[0] in "LMN")


def build(
    rows: list[Pair], folder: Path, name: str, leaks: list[Pair]
) -> tuple[dict[int, tuple[str, str]], dict[str, object]]:
    """Rows that are kept, by their number, and the report."""
    code, scripts, _, _ = CASES[name]
    folder.mkdir(parents=True)
    (folder / "rows.tsv").write_text(
        "english\ttarget\n" + "".join(f"{a}\t{b}\n" for a, b in rows), encoding="utf-8"
    )
    (folder / "lab.yaml").write_text(
        f"name: lab\ntitle: Lab\nlicence: unknown\nlanguage: {code}\n"
        "source: {kind: files, paths: [rows.tsv]}\n"
    )
    plan = BuildPlan(
        sources=[Source(found=data_recipe(ParallelRecipe, str(folder / "lab.yaml")))],
        language=code,
        codes=(code,),
        scripts=scripts,
        tests=[
            Captions(set_name="val", english=True, texts=[a for a, _ in leaks]),
            Captions(set_name="val", english=False, texts=[b for _, b in leaks]),
        ],
    )
    build_parallel(plan, folder / "out", silent)
    kept = {
        row["source_row"]: (row["english"], row["target"])
        for row in pq.read_table(folder / "out" / "pairs.parquet").to_pylist()
    }
    return kept, json.loads((folder / "out" / "report.json").read_text(encoding="utf-8"))


def silent(progress: Progress) -> None:
    pass


@pytest.mark.parametrize("name", CASES)
def test_planted_faults_in_real_corpora(name: str, tmp_path: Path) -> None:
    pytest.importorskip("pycld2")
    _, _, other, tests = CASES[name]
    clean = [(a, b) for a, b in read(f"parallel/{name}", "english", "target")]
    leaks = [(a, b) for a, b in read(f"captions/{tests}", "english", "caption")]
    before, _ = build(clean, tmp_path / "before", name, leaks)
    # Faults go among rows that are kept as they are: what else the corpus holds is no clean row.
    good = [clean[number - 1] for number in sorted(before)]
    each = len(good) // 150
    planted = plant(
        good,
        other=[b for _, b in read(f"parallel/{other}", "english", "target")],
        leaks=[pair for pair in leaks if min(len(units(side)) for side in pair) >= 4],
        each=each,
        block=20,
        seed=1,
        # In shorter sentences two other words make another sentence.
        long_enough=lambda pair: min(len(units(side)) for side in pair) >= 8,
    )
    kept, report = build([row.pair for row in planted], tmp_path / "after", name, leaks)
    caught, total = Counter[str](), Counter[str]()
    false_alarms = 0
    for number, row in enumerate(planted, start=1):
        if not row.fault:
            false_alarms += number not in kept
            continue
        total[row.fault] += 1
        turned = number in kept and row.fault == "swapped" and mended(row, kept[number])
        caught[row.fault] += number not in kept or turned
    shares = {fault: caught[fault] / total[fault] for fault in total}
    assert {fault: share for fault, share in shares.items() if fault in EXACT and share < 0.99} == {}
    assert {fault: share for fault, share in shares.items() if fault in NEAR and share < 0.95} == {}
    assert set(shares) == {*EXACT, *NEAR}
    assert false_alarms < 0.005 * len(good)
    assert report["rows"] == len(planted)


def mended(row: Planted, pair: tuple[str, str]) -> bool:
    return pair == (row.pair[1], row.pair[0])


@pytest.mark.parametrize("name", CASES)
def test_counts_are_those_of_a_plain_script(name: str, tmp_path: Path) -> None:
    _, _, _, tests = CASES[name]
    rows = [(a, b) for a, b in read(f"parallel/{name}", "english", "target")]
    leaks = [(a, b) for a, b in read(f"captions/{tests}", "english", "caption")]
    kept, report = build(rows, tmp_path / "lab", name, leaks)
    dropped = report["dropped"]
    assert isinstance(dropped, dict)
    keys = [(plain(a), plain(b)) for a, b in rows]
    empty = sum(not a or not b for a, b in keys)
    assert dropped.get("empty", 0) == empty
    assert len(kept) == report["kept"] == len(rows) - sum(dropped.values())
    seen: dict[tuple[str, str], int] = {}
    for number, key in enumerate(keys, start=1):
        if number in kept:
            assert key not in seen, f"row {number} repeats row {seen[key]}"
            assert key[0] != key[1]
            seen[key] = number
    sides = [{plain(side) for side in column if len(plain(side)) > 20} for column in zip(*leaks, strict=True)]
    assert not any(
        plain(side) in known for pair in kept.values() for side, known in zip(pair, sides, strict=True)
    )
    copies = sum(number not in kept and key in seen for number, key in enumerate(keys, start=1))
    assert abs(dropped.get("duplicate", 0) - copies) <= 0.001 * len(rows), (
        "but for rows that another rule met first"
    )
