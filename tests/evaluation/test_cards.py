"""Cards, the terminal report and its JSON."""

import dataclasses
import io
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from pydantic import TypeAdapter
from rich.console import Console

from langadapt.data.retrieval import RetrievalSet
from langadapt.evaluation.retrieval import (
    Evaluation,
    ScoreCard,
    card_warnings,
    first_found,
    score_json,
    score_report,
)
from langadapt.metrics.intervals import Hits, Interval
from langadapt.metrics.retrieval import Recalls, RetrievalScores

LINE = "benchmark:{}|images:20|captions:40|which:all|language:{}|text:{}|image:{}|version:1"


def scores(
    mr6: float,
    *,
    language: str = "zh",
    text: str = "e5@1",
    benchmark: str = "val",
    image: str = "clip@3d74acf",
) -> RetrievalScores:
    recalls = Recalls(r1=mr6 - 1.5, r5=mr6, r10=mr6 + 1.5)
    return RetrievalScores(
        t2i=recalls,
        i2t=recalls,
        interval=Interval(low=mr6 - 2.0, high=mr6 + 2.0, level=0.95),
        signature=LINE.format(benchmark, language, text, image),
    )


ZERO = Recalls(r1=0.0, r5=0.0, r10=0.0)
CARD = ScoreCard(
    name="val",
    language="zh",
    student=scores(60.0),
    ceiling=scores(80.0, language="en", text="clip@3d74acf"),
    floor=scores(4.0, text="clip@3d74acf"),
    images=20,
    captions=40,
)


def printed(cards: list[ScoreCard]) -> str:
    console = Console(width=80, file=io.StringIO(), color_system=None)
    console.print(score_report(cards))
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def test_retention_is_a_fraction_of_the_ceiling() -> None:
    assert CARD.retention == pytest.approx(0.75)
    assert dataclasses.replace(CARD, ceiling=None).retention is None
    assert dataclasses.replace(CARD, student=None).retention is None
    assert (
        dataclasses.replace(CARD, ceiling=dataclasses.replace(scores(1.5), t2i=ZERO, i2t=ZERO)).retention
        is None
    )


def test_the_table_shows_all_four_scores() -> None:
    uneven = dataclasses.replace(scores(60.0), i2t=Recalls(r1=10.0, r5=20.0, r10=30.0))
    table = dataclasses.replace(CARD, student=uneven, translated=scores(30.0)).table()
    names = ["student", "teacher, English", "teacher, translated", "teacher, raw captions"]
    assert [row.name for row in table.rows] == [name for name, _ in table.signatures] == names
    assert [row.percent for row in table.rows] == pytest.approx([40.0, 80.0, 30.0, 4.0])
    assert [row.cells[8] for row in table.rows] == ["40.0", "80.0", "30.0", "4.0"]
    assert [row.cells[-1] for row in table.rows] == ["50.0%", "", "", ""]
    assert [row.student for row in table.rows] == [True, False, False, False]


def test_keys_are_stable_and_come_back() -> None:
    plain = CARD.to_dict()
    scored = {"student", "ceiling", "floor", "retention", "signature"}
    assert set(plain) == {"name", "title", "language", "images", "captions", "image_free", *scored}
    assert plain["signature"] == LINE.format("val", "zh", "e5@1", "clip@3d74acf")
    assert TypeAdapter(ScoreCard).validate_json(json.dumps(plain)) == CARD
    bare = dataclasses.replace(CARD, student=None, floor=None, image_free=True)
    assert TypeAdapter(ScoreCard).validate_json(json.dumps(bare.to_dict())) == bare


def test_json_holds_cards_and_warnings() -> None:
    content = json.loads(score_json([CARD]))
    assert list(content) == ["cards", "warnings", "seal"]
    assert content == {"cards": [CARD.to_dict()], "warnings": [], "seal": content["seal"]}
    assert "中文" in score_json([dataclasses.replace(CARD, name="中文")])


def test_report_fits_80_columns_and_ends_with_a_sentence() -> None:
    lines = printed([CARD]).splitlines()
    assert max(map(len, lines)) <= 80
    assert lines[0] == "val (zh)  40 captions, 20 images"
    assert lines[2].split() == ["percent"] + ["R@1", "R@5", "R@10"] * 2 + ["mR6", "95", "%"]
    recalls = ["58.5", "60.0", "61.5"]
    assert lines[3].split() == ["student", *recalls, *recalls, "60.0", "58.0–62.0"]
    assert lines[4].startswith("teacher, English ")
    assert lines[5].startswith("teacher, raw captions ")
    assert lines[-1] == "val (zh): keeps 75 % of the English score"
    assert "benchmark:" not in "".join(lines)
    console = Console(width=80, file=io.StringIO(), color_system=None)
    console.print(score_report([CARD], signatures=True))
    shown = "".join(console.file.getvalue().splitlines())
    assert LINE.format("val", "en", "clip@3d74acf", "clip@3d74acf") in shown


def test_sentences_and_small_sets() -> None:
    assert "warning: only 20 images" in printed([CARD])
    assert "warning" not in printed([dataclasses.replace(CARD, images=100)])
    hits = Hits(captions=(1, 1, 2), t2i=(3, 2, 4), i2t=(3, 1, 2), cutoffs=3)
    sides = {"student": CARD.student, "ceiling": CARD.ceiling}
    paired = {name: dataclasses.replace(side, hits=hits) for name, side in sides.items() if side}
    card = dataclasses.replace(CARD, **paired)
    bounds = card.retention_interval
    assert bounds is not None
    assert (bounds.low, bounds.high) == pytest.approx((100.0, 100.0))
    assert card.sentence == "val (zh): keeps 75 % of the English score (100–100 %)"
    free = dataclasses.replace(CARD, ceiling=None, image_free=True)
    assert "English side with mR6 60.0 of 100 (58.0–62.0)" in free.sentence
    assert free.sentence.endswith("the teacher without the adapter 4.0, guessing 26.7")


def test_widest_numbers_still_fit() -> None:
    all_right = Recalls(r1=100.0, r5=100.0, r10=100.0)
    full = Interval(low=100.0, high=100.0, level=0.95)
    best = RetrievalScores(
        t2i=all_right, i2t=all_right, interval=full, signature=LINE.format("v", "zh", "e", "i")
    )
    wide = dataclasses.replace(best, interval=Interval(low=99.4, high=100.0, level=0.95))
    text = printed([dataclasses.replace(CARD, student=best, ceiling=wide, floor=best)])
    assert max(map(len, text.splitlines())) <= 80
    assert text.split().count("100.0") == 3 * 7
    assert "100–100" in text
    assert "99.4–100" in text
    assert "…" not in text


def test_names_are_not_markup() -> None:
    assert "[red]x[/] (zh)" in printed([dataclasses.replace(CARD, name="[red]x[/]")])


def test_an_image_free_set_says_so() -> None:
    text = printed([dataclasses.replace(CARD, image_free=True)])
    assert "40 captions against their 20 English sides, no images" in text


def test_scores_of_other_conditions_are_warned_about() -> None:
    other = dataclasses.replace(CARD, student=scores(50.0, image="clip@other"), ceiling=None, floor=None)
    elsewhere = dataclasses.replace(other, name="test", student=scores(50.0, benchmark="test"))
    same = dataclasses.replace(CARD, student=scores(50.0, text="another@2"))
    assert card_warnings([]) == card_warnings([CARD]) == card_warnings([CARD, same]) == []
    assert card_warnings([CARD, elsewhere]) == []
    line = "not comparable: val (zh) and val (zh) differ in image"
    assert card_warnings([CARD, other]) == [line]
    assert f"warning: {line}" in printed([CARD, other])
    inside = dataclasses.replace(CARD, floor=scores(4.0, benchmark="test"))
    assert card_warnings([inside]) == [
        "not comparable: val (zh), student and teacher, raw captions differ in benchmark"
    ]


def test_the_suggested_query_finds_its_image_first() -> None:
    own = RetrievalSet(
        name="t",
        language="es",
        images=(Path("a"), Path("b")),
        texts=("uno", "dos", "tres"),
        image_of_text=np.array([0, 1, 1]),
        english=None,
        ceiling_texts=None,
        ceiling_image_of_text=None,
        which_captions="all",
    )
    gallery = torch.eye(2)
    wrong_right = torch.tensor([[0.0, 1.0], [1.0, 0.0], [0.0, 1.0]])
    assert first_found(Evaluation(card=CARD, text=wrong_right, gallery=gallery), own) == "tres"
    assert first_found(Evaluation(card=CARD, text=1 - wrong_right, gallery=gallery), own) == "uno"
    never = torch.tensor([[0.0, 1.0], [1.0, 0.0], [1.0, 0.0]])
    assert first_found(Evaluation(card=CARD, text=never, gallery=gallery), own) == "uno"
