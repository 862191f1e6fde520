"""Test captions in training text, on either side, against a slow search through all captions."""

import random
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from test_build import plan, silent
from test_duplicates import distance
from toy_corpus import corpus

from langadapt.cleaning.build import build_parallel
from langadapt.cleaning.chunks import Source
from langadapt.cleaning.contamination import Captions, captions_of, index_captions, nearest_caption
from langadapt.cleaning.words import token_rows
from langadapt.data.rows import contamination_metadata
from langadapt.errors import DataError
from langadapt.recipes import RetrievalRecipe, data_recipe


def test_nearest_caption_is_the_one_that_a_slow_search_finds() -> None:
    rng = random.Random(7)
    words = [f"w{i}" for i in range(40)]
    captions = [[rng.choice(words) for _ in range(rng.randrange(3, 14))] for _ in range(40)]
    texts = [[rng.choice(words) for _ in range(rng.randrange(3, 14))] for _ in range(30)]
    for _ in range(150):
        text = [*rng.choice(captions)]
        for place in rng.sample(range(len(text)), min(2, len(text))):
            text[place : place + rng.randrange(2)] = [rng.choice(words)] * rng.randrange(2)
        texts.append(text)
    index = index_captions([Captions(set_name="x", english=True, texts=[" ".join(row) for row in captions])])
    found = nearest_caption(index[0], token_rows(texts), 0.2)
    right = 0
    for text, share in zip(texts, found.tolist(), strict=True):
        slow = min(distance(text, caption) / max(len(text), len(caption)) for caption in captions)
        longer = max(len(text), *(len(caption) for caption in captions))
        if slow <= 0.2 and int(0.2 * longer) > 0 and slow > 0:
            right += abs(share - slow) < 1e-6
            assert share >= slow - 1e-6
        elif slow > 0.2:
            assert share == np.inf
    near = sum(0 < share <= 0.2 for share in found.tolist())
    assert right > 60
    assert right >= 0.98 * near


def test_a_wrongly_decoded_caption_is_found_in_mended_data(
    source: Callable[..., Source], tmp_path: Path
) -> None:
    rows = corpus(60, seed=3)
    rows[7] = ("A café &amp; a bar", rows[7][1])
    tests = (Captions(set_name="one", english=True, texts=("a cafÃ© & A BAR!",)),)
    report = build_parallel(plan(source("toy", rows), tests=tests), tmp_path / "out", silent)
    assert report.dropped["contaminated"] == 1
    assert report.normalised["html_entities"] == 1


@pytest.mark.parametrize("layout", ["English set", "English file", "English column"])
def test_english_sides_that_equal_a_caption_up_to_letters(
    source: Callable[..., Source], tmp_path: Path, layout: str
) -> None:
    """As in a set of captions of the test photos, which the training file spells in its own way."""
    rows = corpus(200, seed=31)
    captions = [english for english, _ in corpus(20, seed=32)]
    spelt = [
        lambda t: t.upper(),
        lambda t: t.rstrip(".") + " .",
        lambda t: t.replace(" ", " , ", 1),
        lambda t: f"“{t.capitalize()}”!",
        lambda t: t.replace(" ", "-", 1) + "\u00a0",
    ]
    leaks = [(spelt[i % len(spelt)](text), f"{rows[i][1]} {i}") for i, text in enumerate(captions)]
    image = "image\tcaption\tenglish\n"
    (tmp_path / "en.tsv").write_text(image + "".join(f"{i}.jpg\t{t}\t{t}\n" for i, t in enumerate(captions)))
    (tmp_path / "xx.tsv").write_text(
        image + "".join(f"{i}.jpg\tzzz {i} qqq www\t{t}\n" for i, t in enumerate(captions))
    )
    keys = {
        "English set": "language: en\ncaptions: [en.tsv]\n",
        "English file": "language: xx\ncaptions: [xx.tsv]\nenglish: [en.tsv]\nimages: .\n",
        "English column": "language: xx\ncaptions: [xx.tsv]\ncolumns: {english: english}\n",
    }[layout]
    (tmp_path / "val.yaml").write_text(f"name: val\ntitle: Val\nlicence: unknown\nformat: table\n{keys}")
    tests = tuple(captions_of(data_recipe(RetrievalRecipe, str(tmp_path / "val.yaml"))))
    report = build_parallel(plan(source("toy", [*rows, *leaks]), tests=tests), tmp_path / "out", silent)
    assert report.dropped["contaminated"] == len(leaks)
    assert report.contamination is not None
    assert report.contamination.found >= len(leaks)


@dataclass(frozen=True)
class Leaked:
    """A corpus whose rows 201 to 206 hold something of test captions, and these captions."""

    corpus: Source
    tests: tuple[Captions, ...]


@pytest.fixture
def leaked(source: Callable[..., Source]) -> Leaked:
    (english, target), (longer, long_target), *_ = [
        row for row in corpus(80, seed=21) if len(row[0].split()) > 12
    ]
    other = corpus(6, seed=22)
    cut = " ".join(longer.split()[:4] + longer.split()[5:])
    rows = [
        (english.upper(), other[0][1]),
        (other[1][0], target.replace(" ", " - ")),
        (cut, other[2][1]),
        (other[3][0], " ".join(long_target.split()[1:])),
        ("Dogs run.", other[4][1]),
        (" ".join(longer.split()[:6]), other[5][1]),
    ]
    return Leaked(
        source("toy", [*corpus(200, seed=23), *rows]),
        (
            Captions(set_name="one", english=True, texts=(english, longer, "dogs run")),
            Captions(set_name="two", english=False, texts=(target, long_target)),
        ),
    )


def test_either_side_is_enough_and_short_captions_are_no_leak(leaked: Leaked, tmp_path: Path) -> None:
    # Sides that belong to nothing have lengths of their own, and so few rows teach no language.
    made = plan(leaked.corpus, tests=leaked.tests, off=("length_ratio", "language"))
    report = build_parallel(made, tmp_path / "out", silent)
    assert (report.dropped["contaminated"], report.dropped["contaminated_near"]) == (2, 2)
    # A rule that dropped something never says that it was off.
    assert not set(report.dropped) & set(report.off)
    rows = set(pq.read_table(tmp_path / "out" / "pairs.parquet").column("source_row").to_pylist())
    assert rows & set(range(201, 207)) == {205, 206}
    assert contamination_metadata(tmp_path / "out" / "pairs.parquet") == {
        "sets": {"one": 3, "two": 2}, "found": 4, "kept": 0,
    }  # fmt: skip
    unchecked = build_parallel(plan(leaked.corpus, tests=None), tmp_path / "unchecked", silent)
    assert unchecked.contamination is None
    assert contamination_metadata(tmp_path / "unchecked" / "pairs.parquet") is None
    assert "unchecked" in (tmp_path / "unchecked" / "report.md").read_text(encoding="utf-8")


def test_a_damaged_record_is_no_record_of_cleanness(tmp_path: Path) -> None:
    table = pa.table({"english": ["a"], "target": ["b"]})
    for said in (b"{", b"{}", b'{"sets": {}, "found": "x", "kept": 0}'):
        pq.write_table(
            table.replace_schema_metadata({"langadapt.contamination": said}), tmp_path / "a.parquet"
        )
        with pytest.raises(DataError, match=r"a\.parquet: its record of the check"):
            contamination_metadata(tmp_path / "a.parquet")
