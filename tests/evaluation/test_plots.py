"""The training curve is well-formed, inside its box and honest about its numbers."""

import json
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import pytest

from langadapt.errors import DataError
from langadapt.evaluation.plots import CurvePoint, curve_panels, save_curve

SVG = "{http://www.w3.org/2000/svg}"


def line(panel: str) -> list[tuple[float, float]]:
    points = ElementTree.fromstring(panel).find(f"{SVG}polyline").attrib["points"]  # type: ignore[union-attr]
    return [(float(x), float(y)) for x, y in (pair.split(",") for pair in points.split())]


def words(panel: str) -> list[str]:
    return [element.text or "" for element in ElementTree.fromstring(panel).iter(f"{SVG}text")]


def test_loss_falls_and_recall_rises() -> None:
    points = [CurvePoint(step=s, loss=1.0 / (s + 1), recall=float(s) if s % 2 else None) for s in range(10)]
    loss, recall = curve_panels(points)
    assert words(loss)[0] == "Training loss"
    assert words(recall)[0] == "Held-out recall (%)"
    assert "step" in words(loss)
    assert words(loss)[-1] == "0.1"
    assert words(recall)[-1] == "9"
    assert len(line(loss)) == 10
    assert len(line(recall)) == 5
    heights = [y for _, y in line(loss)]
    assert heights == sorted(heights)  # y grows downwards
    assert [y for _, y in line(recall)] == sorted((y for _, y in line(recall)), reverse=True)


def test_the_best_recall_is_marked_and_not_the_last() -> None:
    points = [CurvePoint(step=s, loss=1.0, recall=r) for s, r in enumerate([10.0, 42.5, 30.0])]
    assert words(curve_panels(points)[1])[-1] == "42.5"


def test_ticks_are_round_and_enclose_the_line() -> None:
    points = [CurvePoint(step=7 + 500 * n, loss=0.13 + 0.07 * n) for n in range(7)]
    (panel,) = curve_panels(points)
    assert [word for word in words(panel) if "," in word] == ["1,000", "2,000", "3,000", "4,000"]
    assert {"0.1", "0.2", "0.3", "0.4", "0.5", "0.6"} <= set(words(panel))


@pytest.mark.parametrize(
    "losses", [[0.5], [0.0], [3e-9, 2e-9], [1.0, 1.0], [-3.0, 1e6], [float(n) for n in range(5000)]]
)
def test_every_point_lies_inside(losses: list[float]) -> None:
    (panel,) = curve_panels([CurvePoint(step=n, loss=loss) for n, loss in enumerate(losses)])
    assert len(line(panel)) == min(len(losses), 400)
    assert all(58 <= x <= 400 and 36 <= y <= 226 for x, y in line(panel))


@pytest.mark.parametrize("values", [{"loss": float("nan")}, {"loss": 1.0, "recall": float("inf")}])
def test_a_point_that_is_not_finite_is_an_error(values: dict[str, float]) -> None:
    with pytest.raises(DataError, match="step 3 is not finite"):
        CurvePoint(step=3, **values)


def test_no_points_are_an_error() -> None:
    with pytest.raises(DataError, match="no step to draw"):
        curve_panels([])


def test_file_is_one_svg_with_both_panels(tmp_path: Path) -> None:
    step = {"epoch": 0, "learning_rate": 0.1, "examples_per_second": 1.0}
    lines = [{"kind": "step", "step": s, "loss": 1.0 / (s + 1), **step} for s in range(3)]
    lines += [{"kind": "held_out", "step": s, "recall": float(s)} for s in range(3)]
    (tmp_path / "log.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    save_curve(tmp_path)
    root = ElementTree.parse(tmp_path / "curve.svg").getroot()
    assert root.tag == f"{SVG}svg"
    assert root.attrib["viewBox"] == "0 0 840 270"
    assert len(list(root.iter(f"{SVG}polyline"))) == 2
    assert {item.name for item in tmp_path.iterdir()} == {"curve.svg", "log.jsonl"}
