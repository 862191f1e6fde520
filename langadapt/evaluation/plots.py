"""Plots as SVG text, without a plotting library; text takes the colour of the surrounding page."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from itertools import pairwise
from pathlib import Path
from typing import Any

from langadapt.errors import DataError
from langadapt.files.atomic import write_text
from langadapt.training.run import read_log

_WIDTH, _HEIGHT = 480, 280

_LEFT, _RIGHT, _TOP, _BOTTOM = 58, 20, 36, 44

_MOST_POINTS = 400

_LOSS_COLOUR, _RECALL_COLOUR = "#3b82d6", "#d9772b"

# A file of its own follows the reader's light or dark setting.
_ALONE = (
    "<style>svg{color:#1d2329;background:#fff}"
    "@media(prefers-color-scheme:dark){svg{color:#e4e7ea;background:#14181c}}</style>"
)


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
    """Draw the loss and, where it was measured, the held-out recall against the step.

    Args:
        points: in the order of training, at least one.

    Returns:
        One or two `<svg>` elements.

    Raises:
        DataError: there are no points.
    """
    if not points:
        raise DataError("training curve: there is no step to draw")
    losses = _thin([(float(point.step), point.loss) for point in points])
    recalls = [(float(point.step), point.recall) for point in points if point.recall is not None]
    panels = [_panel(title="Training loss", line=losses, colour=_LOSS_COLOUR, marked=len(losses) - 1)]
    if recalls:
        panels.append(_recall_panel(recalls, across="step"))
    return panels


def save_svg(path: Path, points: Sequence[CurvePoint]) -> None:
    """Write both panels of `curve_panels` into one SVG file.

    Raises:
        DataError: there are no points.
    """
    panels = curve_panels(points)
    width = _WIDTH * len(panels)
    shifted = "".join(
        f'<g transform="translate({_WIDTH * number},0)">{panel}</g>' for number, panel in enumerate(panels)
    )
    head = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {_HEIGHT}"'
    write_text(path, f'{head} width="{width}" height="{_HEIGHT}">{_ALONE}{shifted}</svg>\n')


def save_learning_curve(path: Path, points: Sequence[tuple[float, float]], *, start: float) -> None:
    """Write held-out recall against the number of training captions; the first point is no training at all.

    Args:
        path: SVG file.
        points: captions and recall in percent, in the order of captions.
        start: recall in percent before training.

    Raises:
        DataError: there are no points, or one is not finite.
    """
    if not points or not all(math.isfinite(number) for point in points for number in point):
        raise DataError("learning curve: there is no point to draw, or one is not finite")
    _save_alone(path, _recall_panel([(0.0, start), *points], across="captions"))


def _save_alone(path: Path, svg: str) -> None:
    head, rest = svg.split(">", 1)
    write_text(path, f"{head}>{_ALONE}{rest}\n")


def _recall_panel(line: list[tuple[float, float]], *, across: str) -> str:
    best = max(range(len(line)), key=lambda index: line[index][1])
    return _panel(title="Held-out recall (%)", line=line, colour=_RECALL_COLOUR, marked=best, across=across)


def _panel(
    *, title: str, line: list[tuple[float, float]], colour: str, marked: int, across: str = "step"
) -> str:
    """Draw axes, grid, the line, and a dot with its value at point `marked`."""
    x_ticks = _ticks(min(x for x, _ in line), max(x for x, _ in line), 5)
    y_ticks = _ticks(min(y for _, y in line), max(y for _, y in line), 5)
    x_of = _Scale(low=x_ticks[0], high=x_ticks[-1], start=_LEFT, end=_WIDTH - _RIGHT)
    y_of = _Scale(low=y_ticks[0], high=y_ticks[-1], start=_HEIGHT - _BOTTOM, end=_TOP)
    grid = "".join(
        f'<line x1="{_LEFT}" x2="{_WIDTH - _RIGHT}" y1="{y_of(y):.1f}" y2="{y_of(y):.1f}" opacity=".15"/>'
        for y in y_ticks
    )
    below = _HEIGHT - _BOTTOM + 18
    numbers = "".join(
        f'<text x="{_LEFT - 8}" y="{y_of(y) + 4:.1f}" text-anchor="end">{_number(y, y_ticks)}</text>'
        for y in y_ticks
    ) + "".join(
        f'<text x="{x_of(x):.1f}" y="{below}" text-anchor="middle">{_number(x, x_ticks)}</text>'
        for x in x_ticks
    )
    path = " ".join(f"{x_of(x):.1f},{y_of(y):.1f}" for x, y in line)
    x, y = line[marked]
    side = "end" if x_of(x) > _WIDTH / 2 else "start"
    return _svg(
        _WIDTH,
        _HEIGHT,
        title,
        f'<text x="{_LEFT}" y="20" font-size="15" font-weight="600">{escape(title)}</text>'
        f'<g stroke="currentColor">{grid}</g><g opacity=".75">{numbers}'
        f'<text x="{_WIDTH - _RIGHT}" y="{_HEIGHT - 8}" text-anchor="end">{across}</text></g>'
        f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="2" stroke-linejoin="round"/>'
        f'<circle cx="{x_of(x):.1f}" cy="{y_of(y):.1f}" r="4" fill="{colour}"/>'
        f'<text x="{x_of(x):.1f}" y="{y_of(y) - 9:.1f}" text-anchor="{side}" font-weight="600">'
        f"{y:.4g}</text>",
    )


def _svg(width: int, height: int, label: str, content: str) -> str:
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" '
        f'height="{height}" role="img" aria-label="{escape(label)}" fill="currentColor" '
        f'font-family="system-ui,sans-serif" font-size="13">{content}</svg>'
    )


@dataclass(frozen=True, kw_only=True)
class _Scale:
    low: float
    high: float
    start: float
    end: float

    def __call__(self, value: float) -> float:
        return self.start + (value - self.low) / (self.high - self.low) * (self.end - self.start)


def _ticks(low: float, high: float, about: int) -> list[float]:
    """Round numbers around [low, high], at least two."""
    if low == high:
        low, high = low - max(abs(low) * 0.1, 1e-6), high + max(abs(high) * 0.1, 1e-6)
    rough = (high - low) / about
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(power * factor for factor in (1.0, 2.0, 5.0, 10.0) if power * factor >= rough * 0.999)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [step * count for count in range(first, last + 1)]


def _number(value: float, ticks: list[float]) -> str:
    step = ticks[1] - ticks[0]
    decimals = max(0, -math.floor(math.log10(step) + 1e-9))
    return f"{value:,.{decimals}f}" if decimals <= 5 else f"{value:.1e}"


def _thin(line: list[tuple[float, float]]) -> list[tuple[float, float]]:
    """Means of neighbours, so that a long run is a line and not a smear."""
    groups = min(len(line), _MOST_POINTS)
    edges = [len(line) * group // groups for group in range(groups + 1)]
    parts = [line[start:end] for start, end in pairwise(edges)]
    return [(sum(x for x, _ in part) / len(part), sum(y for _, y in part) / len(part)) for part in parts]


QUARTER_NAMES = ("easiest", "easy", "hard", "hardest")

_QUARTER_COLOURS = ("#9db7d5", "#5f93c9", "#d9a15b", "#c4542d")


def draws_panel(sampling: Sequence[Mapping[str, Any]]) -> str:
    """Draw the share of the draws by quarter of difficulty, one bar per epoch, as an `<svg>` element.

    Args:
        sampling: of each epoch, `drawn` with four fractions, the easiest quarter first.
    """
    top = 60
    high = _HEIGHT - top - _BOTTOM
    width = (_WIDTH - _LEFT - _RIGHT) / len(sampling)
    quarters = tuple(zip(QUARTER_NAMES, _QUARTER_COLOURS, strict=True))
    bars = []
    for number, epoch in enumerate(sampling):
        left, below = _LEFT + number * width, float(_HEIGHT - _BOTTOM)
        for share, (name, colour) in zip(epoch["drawn"], quarters, strict=True):
            below -= share * high
            bars.append(
                f'<rect x="{left + 0.08 * width:.1f}" y="{below:.1f}" width="{0.84 * width:.1f}" '
                f'height="{share * high:.1f}" fill="{colour}"><title>epoch {number + 1}, {name} quarter: '
                f"{100 * share:.1f} %</title></rect>"
            )
    legend = "".join(
        f'<rect x="{_LEFT + 96 * index}" y="32" width="11" height="11" fill="{colour}"/>'
        f'<text x="{_LEFT + 16 + 96 * index}" y="42">{name}</text>'
        for index, (name, colour) in enumerate(quarters)
    )
    numbers = "".join(
        f'<text x="{_LEFT - 8}" y="{_HEIGHT - _BOTTOM - share * high / 100 + 4:.1f}" text-anchor="end" '
        f'opacity=".75">{share}</text>'
        for share in (0, 25, 50, 75, 100)
    )
    title = "Draws by quarter of difficulty (%)"
    return _svg(
        _WIDTH,
        _HEIGHT,
        title,
        f'<text x="{_LEFT}" y="20" font-size="15" font-weight="600">{title}</text>{legend}{numbers}'
        f'{"".join(bars)}<text x="{_WIDTH - _RIGHT}" y="{_HEIGHT - 8}" text-anchor="end" opacity=".75">'
        f"epochs 1 to {len(sampling)}</text>",
    )


_SIDE = 480

_MOST_NAMES = 40

_LONGEST_NAME = 14

_RIGHT_COLOUR, _WRONG_COLOUR = "#2f7d4f", "#c2452d"


def confusion_svg(confusion: Sequence[Sequence[int]], names: Sequence[str]) -> str:
    """Draw a confusion matrix as one `<svg>` element.

    Args:
        confusion: C rows of C counts, own class by chosen class. A row is drawn as shares of its sum.
        names: of the C classes; drawn up to 40 classes, always in the cells' tooltips.
    """
    count = len(names)
    named = count <= _MOST_NAMES
    margin = 18 + (7 * min(_LONGEST_NAME, max(map(len, names))) if named else 0)
    cell = _SIDE / count
    parts = [
        f'<rect x="{margin}" y="{margin}" width="{_SIDE}" height="{_SIDE}" fill="none" '
        'stroke="currentColor" opacity=".3"/>'
    ]
    for own, row in enumerate(confusion):
        for chosen, images in enumerate(row):
            if images:
                x, y, share = margin + chosen * cell, margin + own * cell, images / sum(row)
                title = f"{names[own]} → {names[chosen]}: {images} of {sum(row)}"
                colour = _RIGHT_COLOUR if own == chosen else _WRONG_COLOUR
                parts.append(
                    f'<rect x="{x:.1f}" y="{y:.1f}" width="{cell:.1f}" height="{cell:.1f}" fill="{colour}" '
                    f'fill-opacity="{0.1 + 0.9 * share:.3f}"><title>{escape(title)}</title></rect>'
                )
    for index, name in enumerate(names if named else ()):
        middle = margin + (index + 0.5) * cell
        shown = escape(name if len(name) <= _LONGEST_NAME else name[: _LONGEST_NAME - 1] + "…")
        parts.append(f'<text x="{margin - 6}" y="{middle + 4:.1f}" text-anchor="end">{shown}</text>')
        parts.append(f'<text transform="translate({middle + 4:.1f},{margin - 6}) rotate(-90)">{shown}</text>')
    size = margin + _SIDE + 8
    return _svg(size, size, "Confusion: own class by row, chosen class by column", "".join(parts))


def save_confusion(path: Path, confusion: Sequence[Sequence[int]], names: Sequence[str]) -> None:
    """Write the picture of `confusion_svg` as a file."""
    _save_alone(path, confusion_svg(confusion, names))
