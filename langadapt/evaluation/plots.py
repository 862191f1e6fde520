"""Plots as SVG, without a plotting library; text takes the colour of the surrounding page."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any
from unicodedata import east_asian_width

from langadapt.errors import DataError
from langadapt.files.atomic import write_text
from langadapt.files.json import read_json
from langadapt.files.templates import templates
from langadapt.models.artifact import FACTS
from langadapt.training.log import read_log

_BOX = {"width": 420, "height": 270, "left": 58, "right": 20, "top": 36, "bottom": 44}
"""Size of a panel and its margins, in pixels."""

CURVE = "curve.svg"
_MOST_POINTS = 400
_LOSS_COLOUR, _RECALL_COLOUR = "#3b82d6", "#d9772b"
QUARTER_NAMES = ("easiest", "easy", "hard", "hardest")
_QUARTER_COLOURS = ("#9db7d5", "#5f93c9", "#d9a15b", "#c4542d")
_MOST_DOTS = 60
_CONFUSION_SIDE, _LARGEST_CELL, _SMALLEST_CELL = 750, 64, 15
_CONFUSION_TOP, _MOST_NAMES, _LONGEST_NAME = 50, 100, 14


@dataclass(frozen=True, kw_only=True)
class CurvePoint:
    """One logged step; `recall` in percent where held-out data was scored."""

    step: int
    loss: float
    recall: float | None = None
    kept: bool = False
    """Whether the run's weights are those of this step."""

    def __post_init__(self) -> None:
        if not math.isfinite(self.loss) or not math.isfinite(self.recall or 0.0):
            raise DataError(f"training curve: step {self.step} is not finite")


def training_curve(run: Path) -> list[CurvePoint]:
    """Read loss by step, held-out recall where it was measured, and what was kept; empty without a log."""
    if not (run / "log.jsonl").is_file():
        return []
    steps, recalls = read_log(run)
    try:
        best = read_json(run / FACTS)["training"].get("best_step") if (run / FACTS).is_file() else None
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise DataError(f"{run}: damaged artifact: {str(error).splitlines()[0]}") from error
    return [
        CurvePoint(step=log.step, loss=log.loss, recall=recalls.get(log.step), kept=log.step == best)
        for log in steps
    ]


def curve_panels(points: Sequence[CurvePoint]) -> list[str]:
    """Draw the loss and, where measured, the held-out recall, each as `<svg>`, against the same steps."""
    if not points:
        raise DataError("training curve: there is no step to draw")
    losses = _thin([(float(point.step), point.loss) for point in points])
    recalls = [(float(point.step), point.recall) for point in points if point.recall is not None]
    kept = next((float(point.step) for point in points if point.kept), None)
    steps: dict[str, Any] = {"x_range": (points[0].step, points[-1].step), "kept": kept}
    panels = [_curve("Training loss", losses, _LOSS_COLOUR, len(losses) - 1, **steps)]
    return [*panels, _recall_curve(recalls, **steps)] if recalls else panels


def save_curve(run: Path) -> None:
    """Write the panels of a run's training curve side by side into its `curve.svg`."""
    panels = curve_panels(training_curve(run))
    width = _BOX["width"] * len(panels)
    write_text(run / CURVE, _svg("curves.svg", "Training curve", alone=True, width=width, panels=panels))


def save_learning_curve(path: Path, points: Sequence[tuple[float, float]], *, start: float) -> None:
    """Write held-out recall in percent against the number of training captions; `start` is at none."""
    if not points or not all(math.isfinite(number) for point in points for number in point):
        raise DataError("learning curve: there is no point to draw, or one is not finite")
    write_text(path, _recall_curve([(0.0, start), *points], across="captions", alone=True))


def draws_panel(sampling: Sequence[Mapping[str, Any]]) -> str:
    """Draw `drawn` of each epoch, the shares of the quarters of difficulty, as `<svg>` with bars."""
    return _svg(
        "draws.svg",
        "Draws by quarter of difficulty (%)",
        sampling=sampling,
        quarters=tuple(zip(QUARTER_NAMES, _QUARTER_COLOURS, strict=True)),
        below=_BOX["height"] - _BOX["bottom"],
        high=_BOX["height"] - _BOX["bottom"] - 60,
        bar=(_BOX["width"] - _BOX["left"] - _BOX["right"]) / len(sampling),
    )


def confusion_svg(confusion: Sequence[Sequence[int]], names: Sequence[str], *, alone: bool = False) -> str:
    """Draw C rows of C counts, own class by chosen class, as one `<svg>`; rows are shares of their sums.

    Up to 100 classes, rows have a number and a name, columns the number, and cells their count; beyond that
    only the cells' tooltips say it. `alone`: a file of its own, with colours that follow the reader's light
    or dark setting.
    """
    shown = [
        name if len(name) <= _LONGEST_NAME else name[: _LONGEST_NAME - 1] + "…"
        for name in (names if len(names) <= _MOST_NAMES else ())
    ]
    cell = min(_CONFUSION_SIDE / len(names), _LARGEST_CELL)
    if shown:
        cell = max(round(cell), _SMALLEST_CELL)
    left = max([104, *(46 + _width(name) for name in shown)])
    side = cell * len(names)
    return _svg(
        "confusion.svg",
        "Confusion: own class by row, chosen class by column",
        alone=alone,
        width=left + max(side, 210) + 8,
        height=_CONFUSION_TOP + side + 58,
        left=left,
        top=_CONFUSION_TOP,
        side=side,
        cell=cell,
        cells=[
            (own, chosen, images, sum(row))
            for own, row in enumerate(confusion)
            for chosen, images in enumerate(row)
            if images
        ],
        names=names,
        shown=shown,
        hue=lambda own, chosen: "#2f7d4f" if own == chosen else "#c2452d",
    )


def _width(text: str) -> int:
    """Estimate the width of a text in pixels, at a size of 13; ideographs are as wide as they are high."""
    return sum(13 if east_asian_width(letter) in "WF" else 8 for letter in text)


def _svg(template: str, title: str, **values: Any) -> str:
    content = {**_BOX, "title": title, "alone": False, "across": "step", **values}
    return templates("langadapt.evaluation", escape_html=True).get_template(template).render(content)


def _recall_curve(line: list[tuple[float, float]], **drawn: Any) -> str:
    def rank(index: int) -> tuple[bool, float]:
        return line[index][0] == drawn.get("kept"), line[index][1]

    best = max(range(len(line)), key=rank)
    return _curve("Held-out recall (%)", line, _RECALL_COLOUR, best, **drawn)


def _curve(
    title: str,
    line: list[tuple[float, float]],
    colour: str,
    marked: int,
    *,
    x_range: tuple[float, float] | None = None,
    **drawn: Any,
) -> str:
    """Draw axes, grid, the line with its points, a larger dot with its value at point `marked`.

    `x_range` is that of the axis, else that of the line; at `kept`, where given, stands a vertical line.
    """
    steps, values = zip(*line, strict=True)
    x_ticks, y_ticks = _ticks(*(x_range or (min(steps), max(steps)))), _ticks(min(values), max(values))
    x_of = _Scale(ticks=x_ticks, start=_BOX["left"], end=_BOX["width"] - _BOX["right"])
    y_of = _Scale(ticks=y_ticks, start=_BOX["height"] - _BOX["bottom"], end=_BOX["top"])
    points = [(x_of(x), y_of(y)) for x, y in line]
    ticks = {"x_ticks": x_of.labels(), "y_ticks": y_of.labels()}
    dots = {"dots": points if len(points) <= _MOST_DOTS else (), "dot": points[marked]}
    kept = None if drawn.get("kept") is None else x_of(drawn["kept"])
    more = {"value": line[marked][1], **ticks, **dots, **drawn, "kept": kept}
    return _svg("curve.svg", title, line=points, colour=colour, **more)


@dataclass(frozen=True, kw_only=True)
class _Scale:
    """From values to pixels."""

    ticks: list[float]
    start: float
    end: float

    def __call__(self, value: float) -> float:
        share = (value - self.ticks[0]) / (self.ticks[-1] - self.ticks[0])
        return round(self.start + share * (self.end - self.start), 1)

    def labels(self) -> list[tuple[float, str]]:
        """Position and text of each tick."""
        decimals = max(0, -math.floor(math.log10(self.ticks[1] - self.ticks[0]) + 1e-9))
        form = f",.{decimals}f" if decimals <= 5 else ".1e"
        return [(self(tick), format(tick, form)) for tick in self.ticks]


def _ticks(low: float, high: float) -> list[float]:
    """Return about five round numbers around [low, high], at least two."""
    if low == high:
        low, high = low - max(abs(low) * 0.1, 1e-6), high + max(abs(high) * 0.1, 1e-6)
    rough = (high - low) / 5
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(power * factor for factor in (1.0, 2.0, 5.0, 10.0) if power * factor >= rough * 0.999)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [step * count for count in range(first, last + 1)]


def _thin(line: list[tuple[float, float]]) -> list[tuple[float, float]]:
    """Average neighbours, so that a long run is a line and not a smear."""
    groups = min(len(line), _MOST_POINTS)
    edges = [len(line) * group // groups for group in range(groups + 1)]
    parts = [line[start:end] for start, end in pairwise(edges)]
    return [(sum(x for x, _ in part) / len(part), sum(y for _, y in part) / len(part)) for part in parts]
