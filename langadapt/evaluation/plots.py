"""The training curve as SVG: no plotting library, no colour that is wrong in the dark."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from itertools import pairwise
from pathlib import Path

from langadapt.errors import DataError
from langadapt.files.atomic import write_text

_WIDTH, _HEIGHT = 480, 280

_LEFT, _RIGHT, _TOP, _BOTTOM = 58, 20, 36, 44

_MOST_POINTS = 400

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


def curve_panels(points: Sequence[CurvePoint]) -> list[str]:
    """Loss and, where it was measured, held-out recall against the step.

    Args:
        points: in the order of training, at least one.

    Returns:
        One or two `<svg>` elements whose text has the colour of the surrounding text.

    Raises:
        DataError: there are no points.
    """
    if not points:
        raise DataError("training curve: there is no step to draw")
    losses = _thin([(float(point.step), point.loss) for point in points])
    recalls = [(float(point.step), point.recall) for point in points if point.recall is not None]
    panels = [_panel(title="Training loss", line=losses, colour="#3b82d6", marked=len(losses) - 1)]
    if recalls:
        best = max(range(len(recalls)), key=lambda place: recalls[place][1])
        panels.append(_panel(title="Held-out recall (%)", line=recalls, colour="#d9772b", marked=best))
    return panels


def save_svg(path: Path, points: Sequence[CurvePoint]) -> None:
    """Write both panels into one SVG file that follows the reader's light or dark setting.

    Raises:
        DataError: there are no points.
    """
    panels = curve_panels(points)
    width = _WIDTH * len(panels)
    shifted = "".join(
        f'<g transform="translate({_WIDTH * place},0)">{panel}</g>' for place, panel in enumerate(panels)
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
    line = [(0.0, start), *points]
    best = max(range(len(line)), key=lambda place: line[place][1])
    panel = _panel(
        title="Held-out recall (%)", line=line, colour="#d9772b", marked=best, across_name="captions"
    )
    head = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {_HEIGHT}"'
    write_text(path, f'{head} width="{_WIDTH}" height="{_HEIGHT}">{_ALONE}{panel}</svg>\n')


def _panel(
    *, title: str, line: list[tuple[float, float]], colour: str, marked: int, across_name: str = "step"
) -> str:
    """Axes, grid, the line and a dot with its value at place `marked`."""
    across = _ticks(min(x for x, _ in line), max(x for x, _ in line), 5)
    up = _ticks(min(y for _, y in line), max(y for _, y in line), 5)
    x_of = _Scale(low=across[0], high=across[-1], start=_LEFT, end=_WIDTH - _RIGHT)
    y_of = _Scale(low=up[0], high=up[-1], start=_HEIGHT - _BOTTOM, end=_TOP)
    grid = "".join(
        f'<line x1="{_LEFT}" x2="{_WIDTH - _RIGHT}" y1="{y_of(y):.1f}" y2="{y_of(y):.1f}" opacity=".15"/>'
        for y in up
    )
    below = _HEIGHT - _BOTTOM + 18
    numbers = "".join(
        f'<text x="{_LEFT - 8}" y="{y_of(y) + 4:.1f}" text-anchor="end">{_number(y, up)}</text>' for y in up
    ) + "".join(
        f'<text x="{x_of(x):.1f}" y="{below}" text-anchor="middle">{_number(x, across)}</text>'
        for x in across
    )
    path = " ".join(f"{x_of(x):.1f},{y_of(y):.1f}" for x, y in line)
    x, y = line[marked]
    side = "end" if x_of(x) > _WIDTH / 2 else "start"
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {_HEIGHT}" width="{_WIDTH}" '
        f'height="{_HEIGHT}" role="img" aria-label="{escape(title)}" fill="currentColor" '
        f'font-family="system-ui,sans-serif" font-size="13">'
        f'<text x="{_LEFT}" y="20" font-size="15" font-weight="600">{escape(title)}</text>'
        f'<g stroke="currentColor">{grid}</g><g opacity=".75">{numbers}'
        f'<text x="{_WIDTH - _RIGHT}" y="{_HEIGHT - 8}" text-anchor="end">{across_name}</text></g>'
        f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="2" stroke-linejoin="round"/>'
        f'<circle cx="{x_of(x):.1f}" cy="{y_of(y):.1f}" r="4" fill="{colour}"/>'
        f'<text x="{x_of(x):.1f}" y="{y_of(y) - 9:.1f}" text-anchor="{side}" font-weight="600">'
        f"{y:.4g}</text></svg>"
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


_SIDE = 480

_MOST_NAMES = 40

_LONGEST_NAME = 14

_RIGHT_COLOUR, _WRONG_COLOUR = "#2f7d4f", "#c2452d"

_CONFUSION_STYLE = (
    "<style>svg{color:#1d2329;background:#fff}"
    "@media(prefers-color-scheme:dark){svg{color:#e4e7ea;background:#14181c}}</style>"
)


def confusion_svg(confusion: Sequence[Sequence[int]], names: Sequence[str]) -> str:
    """The picture as one `<svg>` element whose text has the colour of the surrounding text.

    Args:
        confusion: C rows of C counts, own class by chosen class. A row is drawn as shares of its sum.
        names: of the C classes; drawn up to 40 classes, always in the cells' tooltips.
    """
    count = len(names)
    named = count <= _MOST_NAMES
    margin = 8 + (7 * min(_LONGEST_NAME, max(map(len, names))) + 10 if named else 10)
    cell = _SIDE / count
    cells = []
    for own, row in enumerate(confusion):
        total = sum(row)
        for chosen, images in enumerate(row):
            if images:
                x, y = margin + chosen * cell, margin + own * cell
                title = f"{names[own]} → {names[chosen]}: {images} of {total}"
                colour = _RIGHT_COLOUR if own == chosen else _WRONG_COLOUR
                cells.append(
                    f'<rect x="{x:.1f}" y="{y:.1f}" width="{cell:.1f}" height="{cell:.1f}" fill="{colour}" '
                    f'fill-opacity="{0.1 + 0.9 * images / total:.3f}"><title>{escape(title)}</title></rect>'
                )
    texts = []
    for place, name in enumerate(names if named else ()):
        middle, shown = margin + (place + 0.5) * cell, escape(_short(name))
        texts.append(f'<text x="{margin - 6}" y="{middle + 4:.1f}" text-anchor="end">{shown}</text>')
        texts.append(f'<text transform="translate({middle + 4:.1f},{margin - 6}) rotate(-90)">{shown}</text>')
    size = margin + _SIDE + 8
    frame = (
        f'<rect x="{margin}" y="{margin}" width="{_SIDE}" height="{_SIDE}" fill="none" '
        'stroke="currentColor" opacity=".3"/>'
    )
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {size} {size}" width="{size}" height="{size}" '
        'role="img" aria-label="Confusion: own class by row, chosen class by column" fill="currentColor" '
        f'font-family="system-ui,sans-serif" font-size="12">{frame}{"".join(cells)}{"".join(texts)}</svg>'
    )


def save_confusion(path: Path, confusion: Sequence[Sequence[int]], names: Sequence[str]) -> None:
    """Write the picture as a file that follows the reader's light or dark setting."""
    svg = confusion_svg(confusion, names)
    head, rest = svg.split(">", 1)
    write_text(path, f"{head}>{_CONFUSION_STYLE}{rest}\n")


def _short(name: str) -> str:
    return name if len(name) <= _LONGEST_NAME else name[: _LONGEST_NAME - 1] + "…"


def training_curve(run: Path) -> "list[CurvePoint]":
    """Loss by step, and held-out recall where it was measured; empty without a log."""
    from langadapt.training.run import read_log

    if not (run / "log.jsonl").is_file():
        return []
    steps, recalls = read_log(run)
    return [CurvePoint(step=log.step, loss=log.loss, recall=recalls.get(log.step)) for log in steps]
