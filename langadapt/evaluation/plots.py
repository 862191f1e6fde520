"""Plots as SVG, without a plotting library; text takes the colour of the surrounding page."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

from langadapt.errors import DataError
from langadapt.files.atomic import write_text
from langadapt.files.templates import templates
from langadapt.training.loop import read_log

_BOX = {"width": 480, "height": 280, "left": 58, "right": 20, "top": 36, "bottom": 44}
"""Size of a panel and its margins, in pixels."""

CURVE = "curve.svg"
_MOST_POINTS = 400
_LOSS_COLOUR, _RECALL_COLOUR = "#3b82d6", "#d9772b"
QUARTER_NAMES = ("easiest", "easy", "hard", "hardest")
_QUARTER_COLOURS = ("#9db7d5", "#5f93c9", "#d9a15b", "#c4542d")
_CONFUSION_SIDE, _MOST_NAMES, _LONGEST_NAME = 480, 40, 14


@dataclass(frozen=True, kw_only=True)
class CurvePoint:
    """One logged step; `recall` in percent where held-out data was scored."""

    step: int
    loss: float
    recall: float | None = None

    def __post_init__(self) -> None:
        if not math.isfinite(self.loss) or not math.isfinite(self.recall or 0.0):
            raise DataError(f"training curve: step {self.step} is not finite")


def training_curve(run: Path) -> list[CurvePoint]:
    """Read loss by step, and held-out recall where it was measured; empty without a log."""
    if not (run / "log.jsonl").is_file():
        return []
    steps, recalls = read_log(run)
    return [CurvePoint(step=log.step, loss=log.loss, recall=recalls.get(log.step)) for log in steps]


def curve_panels(points: Sequence[CurvePoint]) -> list[str]:
    """Draw the loss and, where measured, the held-out recall against the step, each as `<svg>`."""
    if not points:
        raise DataError("training curve: there is no step to draw")
    losses = _thin([(float(point.step), point.loss) for point in points])
    recalls = [(float(point.step), point.recall) for point in points if point.recall is not None]
    panels = [_curve("Training loss", losses, _LOSS_COLOUR, len(losses) - 1)]
    return [*panels, _recall_curve(recalls)] if recalls else panels


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

    Names are drawn up to 40 classes, and always in the cells' tooltips. `alone`: a file of its own, with
    colours that follow the reader's light or dark setting.
    """
    shown = [
        name if len(name) <= _LONGEST_NAME else name[: _LONGEST_NAME - 1] + "…"
        for name in (names if len(names) <= _MOST_NAMES else ())
    ]
    margin = 18 + 7 * max(map(len, shown), default=0)
    return _svg(
        "confusion.svg",
        "Confusion: own class by row, chosen class by column",
        alone=alone,
        width=margin + _CONFUSION_SIDE + 8,
        height=margin + _CONFUSION_SIDE + 8,
        margin=margin,
        side=_CONFUSION_SIDE,
        cell=_CONFUSION_SIDE / len(names),
        cells=[
            (own, chosen, images, sum(row))
            for own, row in enumerate(confusion)
            for chosen, images in enumerate(row)
            if images
        ],
        names=names,
        shown=shown,
    )


def _svg(template: str, title: str, **values: Any) -> str:
    content = {**_BOX, "title": title, "alone": False, "across": "step", **values}
    return templates("langadapt.evaluation", escape_html=True).get_template(template).render(content)


def _recall_curve(line: list[tuple[float, float]], **drawn: Any) -> str:
    best = max(range(len(line)), key=lambda index: line[index][1])
    return _curve("Held-out recall (%)", line, _RECALL_COLOUR, best, **drawn)


def _curve(title: str, line: list[tuple[float, float]], colour: str, marked: int, **drawn: Any) -> str:
    """Draw axes, grid, the line, and a dot with its value at point `marked`."""
    x_ticks, y_ticks = (_ticks(min(values), max(values)) for values in zip(*line, strict=True))
    x_of = _Scale(ticks=x_ticks, start=_BOX["left"], end=_BOX["width"] - _BOX["right"])
    y_of = _Scale(ticks=y_ticks, start=_BOX["height"] - _BOX["bottom"], end=_BOX["top"])
    points = [(x_of(x), y_of(y)) for x, y in line]
    ticks = {"x_ticks": x_of.labels(), "y_ticks": y_of.labels()}
    dot = {"dot": points[marked], "value": line[marked][1]}
    return _svg("curve.svg", title, line=points, colour=colour, **ticks, **dot, **drawn)


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
