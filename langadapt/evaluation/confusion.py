"""A confusion matrix as SVG: own classes down, chosen classes across, darker is more."""

from collections.abc import Sequence
from html import escape
from pathlib import Path

from langadapt.data.write_text import write_text

_SIDE = 480
_MOST_NAMES = 40
_LONGEST_NAME = 14
_RIGHT, _WRONG = "#2f7d4f", "#c2452d"
_ALONE = (
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
                colour = _RIGHT if own == chosen else _WRONG
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
    write_text(path, f"{head}>{_ALONE}{rest}\n")


def _short(name: str) -> str:
    return name if len(name) <= _LONGEST_NAME else name[: _LONGEST_NAME - 1] + "…"
