"""`compare`: gains over the first run, on the same images."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from langadapt.evaluation.retrieval import read_score_cards, score_json
from langadapt.metrics.intervals import Hits
from langadapt.metrics.retrieval import Recalls

ALL = Recalls(r1=100.0, r5=100.0, r10=100.0)


def unscored(run: Path, copy: Path) -> Path:
    """Copy a run that another test may have scored."""
    return Path(shutil.copytree(run, copy, ignore=shutil.ignore_patterns("scores.json")))


@pytest.fixture
def runs(langadapt, run_folder: Path, tmp_path: Path) -> list[Path]:
    """A scored run, and a copy that finds everything."""
    one, other = (unscored(run_folder, tmp_path / name) for name in ("one", "other"))
    assert langadapt("eval", one).code == 0
    (card,) = read_score_cards(one / "scores.json")
    right = Hits(captions=card.student.hits.captions, t2i=(3,) * 12, i2t=(3,) * 12, cutoffs=3)
    perfect = replace(card.student, t2i=ALL, i2t=ALL, hits=right)
    (other / "scores.json").write_text(score_json([replace(card, student=perfect)]), encoding="utf-8")
    return [one, other]


def test_gains_have_an_interval_over_the_same_images(langadapt, runs: list[Path], tmp_path: Path) -> None:
    page = tmp_path / "page.html"
    ((_, (first, second)),) = json.loads(langadapt("compare", *runs, "--json", "--html", page).out).items()
    assert (first["run"], first["gain"], first["gain_interval"]) == ("one", None, None)
    assert second["gain"] == pytest.approx(100 - first["mr6"])
    low, high = second["gain_interval"]
    assert 0 < low <= second["gain"] <= high
    shown = langadapt("compare", *runs)
    assert max(map(len, shown.out.splitlines())) <= 80
    assert f"{second['gain']:+.1f}" in shown.out
    assert "Gain: mR6 above the first run" in " ".join(page.read_text(encoding="utf-8").split())


def test_what_cannot_be_compared(langadapt, runs: list[Path], run_folder: Path, tmp_path: Path) -> None:
    for arguments, words in (
        ([runs[0]], "two runs or more"),
        ([runs[0], runs[0]], "two runs or more"),
        ([runs[0], unscored(run_folder, tmp_path / "third")], "was not scored"),
        ([runs[0], tmp_path / "nowhere"], "no such artifact folder"),
    ):
        refused = langadapt("compare", *arguments)
        assert (refused.code, words in refused.err) == (2, True), refused.err
