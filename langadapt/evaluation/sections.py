"""Classification cards for the terminal, as JSON, and as a section of a page."""

import base64
import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from langadapt.data.images import ImageFile, open_image
from langadapt.evaluation.classification import ClassificationCard
from langadapt.evaluation.plots import confusion_svg
from langadapt.evaluation.terminal import interval_text
from langadapt.metrics.classification import ClassificationScores

_MOST_CLASSES = 30

HOW_TO_READ_CLASSES = (
    '<p class="note">top-1, top-5: share of images, in percent, whose own class scores best or among the '
    "best five; ties count against the model. Per class: mean of the classes' recalls. The bar is top-1 with "
    "its bootstrap 95 % interval over images.</p>"
)


def classification_report(cards: Sequence[ClassificationCard]) -> Group:
    """Tables and signatures; of each card's first row also the recall of each class, worst first."""
    parts: list[RenderableType] = []
    for card in cards:
        parts += [Text.assemble((f"{card.name} ({card.language})", "bold"), f"  {_pool(card)}"), _table(card)]
        parts += [_class_table(card)]
        for name, scores in card.rows:
            parts.append(Text(f"{name}:\n{scores.signature}", "dim", overflow="fold"))
        parts.append(Text())
    return Group(*parts)


def classification_json(cards: Sequence[ClassificationCard]) -> str:
    """One JSON object: `classifications`, each as `ClassificationCard.to_dict`."""
    content = {"classifications": [card.to_dict() for card in cards]}
    return json.dumps(content, ensure_ascii=False, allow_nan=False, indent=2)


def worst_classes(card: ClassificationCard) -> list[tuple[str, float, int, str]]:
    """Name, recall in percent, images and most frequent wrong choice of each class, worst first.

    Of the first row; classes without images are left out.
    """
    scores = card.rows[0][1]
    found = []
    for place, recall in enumerate(scores.per_class):
        if recall is None:
            continue
        row = list(scores.confusion[place])
        total, row[place] = sum(row), 0
        mistaken = card.classes[row.index(max(row))] if max(row) else ""
        found.append((card.classes[place], recall, total, mistaken))
    return sorted(found, key=lambda item: item[1])


def classification_section(card: ClassificationCard) -> str:
    """HTML of one card: bars, numbers, classes, confusion picture; every text in it is escaped."""
    kept = card.retention
    share = "of the teacher's top-1 with English names is kept."
    retention = f'<p class="retention"><strong>{kept:.1%}</strong> {share}</p>' if kept is not None else ""
    bars = "".join(_accuracy_bar(place, name, scores) for place, (name, scores) in enumerate(card.rows))
    numbers = "".join(
        f'<tr{_mark(place)}><th scope="row">{escape(name)}</th>'
        + "".join(f"<td>{value}</td>" for value in _cells(scores))
        + "</tr>"
        for place, (name, scores) in enumerate(card.rows)
    )
    classes = "".join(
        f'<tr><th scope="row" dir="auto">{escape(name)}</th><td>{recall:.1f}</td><td>{images}</td>'
        f'<td dir="auto">{escape(mistaken)}</td></tr>'
        for name, recall, images, mistaken in worst_classes(card)
    )
    lines = "".join(
        f"<div><dt>{escape(name)}</dt><dd>{escape(scores.signature)}</dd></div>" for name, scores in card.rows
    )
    first, scores = card.rows[0]
    picture = confusion_svg(scores.confusion, card.classes)
    return (
        f'<article class="card"><h3 dir="auto">{escape(f"{card.name} ({card.language})")}</h3>'
        f'<p class="note">{escape(_pool(card))}</p>{retention}<div class="bars">{bars}</div>'
        '<div class="scroll" tabindex="0"><table><thead><tr><th scope="col">percent</th><th>top-1</th>'
        f"<th>top-5</th><th>per class</th><th>95 %</th></tr></thead><tbody>{numbers}</tbody></table></div>"
        f"<details><summary>Each class ({escape(first)}), worst first</summary>"
        '<div class="scroll" tabindex="0"><table><thead><tr><th scope="col">class</th><th>recall</th>'
        f"<th>images</th><th>mostly taken for</th></tr></thead>"
        f"<tbody>{classes}</tbody></table></div></details>"
        f"<details open><summary>Confusion ({escape(first)})</summary>"
        f'<div class="curves"><figure>{picture}</figure></div></details>'
        f'<details><summary>Signatures</summary><dl class="signatures">{lines}</dl></details></article>\n'
    )


def _pool(card: ClassificationCard) -> str:
    return f"{card.images:,} images, {len(card.classes):,} classes"


def _cells(scores: ClassificationScores) -> list[str]:
    means = (scores.top1, scores.top5, scores.mean_per_class)
    return [*(f"{value:.1f}" for value in means), interval_text(scores.interval)]


def _table(card: ClassificationCard) -> Table:
    table = Table(box=None, padding=(0, 1, 0, 0), pad_edge=False, header_style="")
    table.add_column("", no_wrap=True, min_width=24)
    for header in ("top-1", "top-5", "per class", "95 %", "retention"):
        table.add_column(header, justify="right", no_wrap=True)
    for name, scores in card.rows:
        kept = f"{card.retention:.1%}" if card.retention and name == "student, all templates" else ""
        table.add_row(Text(name), *_cells(scores), kept)
    return table


def _class_table(card: ClassificationCard) -> Table:
    worst = worst_classes(card)
    table = Table(box=None, padding=(0, 1, 0, 0), pad_edge=False, header_style="")
    more = f" (the worst {_MOST_CLASSES} of {len(worst)})" if len(worst) > _MOST_CLASSES else ""
    table.add_column(f"class{more}")
    for header in ("recall", "images"):
        table.add_column(header, justify="right")
    table.add_column("mostly taken for")
    for name, recall, images, mistaken in worst[:_MOST_CLASSES]:
        table.add_row(Text(name), f"{recall:.1f}", str(images), Text(mistaken))
    return table


def _mark(place: int) -> str:
    return ' class="student"' if place == 0 else ""


def _accuracy_bar(place: int, name: str, scores: ClassificationScores) -> str:
    low, high = scores.interval.low, scores.interval.high
    return (
        f'<div{_mark(place)}><span class="name">{escape(name)}</span><span class="track">'
        f'<span class="fill" style="width:{scores.top1:.2f}%"></span>'
        f'<span class="whisker" style="left:{low:.2f}%;width:{high - low:.2f}%"></span></span>'
        f'<span class="value">{scores.top1:.1f}</span></div>'
    )


QUARTER_NAMES = ("easiest", "easy", "hard", "hardest")

_COLOURS = ("#9db7d5", "#5f93c9", "#d9a15b", "#c4542d")

_WIDTH, _HEIGHT, _LEFT, _TOP, _BOTTOM = 480, 260, 44, 52, 34


@dataclass(frozen=True, kw_only=True)
class BeforeAfter:
    """mR6 in percent of one test set, and the signatures of both scores."""

    name: str
    kind: str
    """`domain` or `general`."""
    before: float
    after: float
    signatures: tuple[str, str] | None
    """None for the held-out pairs, which are no benchmark."""


@dataclass(frozen=True, kw_only=True)
class HardPair:
    """A training pair that is still hard at the end."""

    image: ImageFile
    caption: str
    start: float
    end: float
    draws: int


@dataclass(frozen=True, kw_only=True)
class DomainReport:
    """Everything that the section shows; `facts` is `training.domain` of the artifact."""

    scores: Sequence[BeforeAfter]
    facts: Mapping[str, Any]
    sampling: Sequence[Mapping[str, Any]]
    """Of each epoch `step`, and `drawn`, the share of the draws by quarter."""
    hardest: Sequence[HardPair] = ()


def domain_section(report: DomainReport) -> str:
    """HTML of the section; every text in it is escaped.

    Raises:
        DataError: a picture cannot be read.
    """
    figure = f'<div class="curves"><figure>{draws_panel(report.sampling)}</figure></div>'
    return (
        f'<article class="card"><h3>Before and after</h3>{_scores(report.scores)}</article>\n'
        f'<article class="card"><h3>Easy and hard pairs</h3>{_quarters(report.facts["quarters"])}'
        f"{_moved(report.facts['held_out'])}</article>\n"
        f"{figure if report.sampling else ''}{_pictures(report.hardest)}"
    )


def band_names(bands: Sequence[int]) -> list[str]:
    """Places at which a caption finds its image, in words."""
    first, last = bands
    return [
        f"place {first}" if first == 1 else f"places 1–{first}",
        f"places {first + 1}–{last}",
        "later",
    ]


def draws_panel(sampling: Sequence[Mapping[str, Any]]) -> str:
    """Share of the draws by quarter, one bar per epoch, as an `<svg>` element in the surrounding colours."""
    if not sampling:
        return ""
    width = (_WIDTH - _LEFT - 10) / len(sampling)
    high = _HEIGHT - _TOP - _BOTTOM
    bars = []
    for number, epoch in enumerate(sampling):
        left, below = _LEFT + number * width, float(_HEIGHT - _BOTTOM)
        for share, colour, name in zip(epoch["drawn"], _COLOURS, QUARTER_NAMES, strict=True):
            below -= share * high
            bars.append(
                f'<rect x="{left + 0.08 * width:.1f}" y="{below:.1f}" width="{0.84 * width:.1f}" '
                f'height="{share * high:.1f}" fill="{colour}"><title>epoch {number + 1}, {name} quarter: '
                f"{100 * share:.1f} %</title></rect>"
            )
    legend = "".join(
        f'<rect x="{_LEFT + 104 * place}" y="32" width="11" height="11" fill="{colour}"/>'
        f'<text x="{_LEFT + 16 + 104 * place}" y="42">{name}</text>'
        for place, (colour, name) in enumerate(zip(_COLOURS, QUARTER_NAMES, strict=True))
    )
    lines = "".join(
        f'<text x="{_LEFT - 8}" y="{_HEIGHT - _BOTTOM - share * high / 100 + 4:.1f}" text-anchor="end" '
        f'opacity=".75">{share}</text>'
        for share in (0, 25, 50, 75, 100)
    )
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {_HEIGHT}" width="{_WIDTH}" '
        f'height="{_HEIGHT}" role="img" aria-label="Draws by quarter" fill="currentColor" '
        f'font-family="system-ui,sans-serif" font-size="13"><text x="{_LEFT}" y="20" font-size="15" '
        f'font-weight="600">Draws by quarter of difficulty (%)</text>{legend}{lines}{"".join(bars)}'
        f'<text x="{_WIDTH - 10}" y="{_HEIGHT - 8}" text-anchor="end" opacity=".75">epochs 1 to '
        f"{len(sampling)}</text></svg>"
    )


def _scores(rows: Sequence[BeforeAfter]) -> str:
    cells = "".join(
        f'<tr><th scope="row" dir="auto">{escape(row.name)}</th><td>{escape(row.kind)}</td>'
        f"<td>{row.before:.1f}</td><td><strong>{row.after:.1f}</strong></td>"
        f"<td>{row.after - row.before:+.1f}</td></tr>"
        for row in rows
    )
    signatures = "".join(
        f"<div><dt>{escape(row.name)}</dt><dd>before: {escape(row.signatures[0])}</dd>"
        f"<dd>after: {escape(row.signatures[1])}</dd></div>"
        for row in rows
        if row.signatures
    )
    told = (
        f'<details><summary>Signatures</summary><dl class="signatures">{signatures}</dl></details>'
        if signatures
        else ""
    )
    general = (
        ""
        if any(row.kind == "general" for row in rows)
        else '<p class="warning">No general test set was scored: forgetting is not known.</p>'
    )
    return (
        '<div class="scroll" tabindex="0"><table><thead><tr><th>mR6 in percent</th><th></th><th>before</th>'
        f"<th>after</th><th>change</th></tr></thead><tbody>{cells}</tbody></table></div>{general}"
        '<p class="note">Held-out pairs choose the checkpoint, so their gain is a little too good.</p>'
        f"{told}"
    )


def _quarters(quarters: Sequence[Mapping[str, Any]]) -> str:
    rows = "".join(
        f'<tr><th scope="row">{name}</th><td>{own["pairs"]:,}</td><td>{own["start"]:.3f}</td>'
        f"<td>{own['end']:.3f}</td><td>{own['draws']:.1f}</td></tr>"
        for name, own in zip(QUARTER_NAMES, quarters, strict=True)
    )
    return (
        '<p class="note">Training pairs in quarters by their difficulty before the stage: 0 is found first, '
        "1 is not found.</p>"
        '<div class="scroll" tabindex="0"><table><thead><tr><th>quarter</th><th>pairs</th>'
        "<th>difficulty before</th><th>after</th><th>draws per pair</th></tr></thead>"
        f"<tbody>{rows}</tbody></table></div>"
    )


def _moved(held_out: Mapping[str, Any]) -> str:
    names = band_names(held_out["bands"])
    head = "".join(f"<th>{escape(name)}</th>" for name in names)
    rows = "".join(
        f'<tr><th scope="row">{escape(name)}</th>{"".join(f"<td>{count:,}</td>" for count in counts)}</tr>'
        for name, counts in zip(names, held_out["captions"], strict=True)
    )
    return (
        '<p class="note">Held-out captions by the place at which they found their image before (rows) and '
        "find it now (columns).</p>"
        f'<div class="scroll" tabindex="0"><table><thead><tr><th>before</th>{head}</tr></thead>'
        f"<tbody>{rows}</tbody></table></div>"
    )


def _pictures(hardest: Sequence[HardPair]) -> str:
    if not hardest:
        return ""
    items = "".join(
        f'<li><img src="{data_uri(pair.image)}" alt="" loading="lazy">'
        f'<span class="label" dir="auto">{escape(pair.caption)}</span>'
        f'<span class="label">difficulty {pair.start:.2f} → {pair.end:.2f}, drawn {pair.draws:,} times</span>'
        "</li>"
        for pair in hardest
    )
    return (
        '<article class="search"><h3>Hardest pairs at the end</h3><p class="note">Wrong captions are often '
        "among them: look before you train again.</p>"
        f'<ol class="images" style="--columns:4">{items}</ol></article>\n'
    )


_LONG_SIDE_PIXELS = 320

_QUALITY = 82


@dataclass(frozen=True, kw_only=True)
class Thumbnail:
    """An image that a search found."""

    path: Path
    label: str
    """Shown below it and read aloud instead of it."""
    correct: bool | None
    """Whether it is a right one; None where nobody knows."""


def data_uri(path: ImageFile) -> str:
    """The image, at most 320 pixels wide and high, as a JPEG data URI.

    Raises:
        DataError: the file is missing or is no image.
    """
    raw = small_jpeg(path, long_side_pixels=_LONG_SIDE_PIXELS)
    return f"data:image/jpeg;base64,{base64.b64encode(raw).decode()}"


def small_jpeg(path: ImageFile, *, long_side_pixels: int) -> bytes:
    """The image as a JPEG file of at most that size, without whatever else its file holds.

    Raises:
        DataError: the file is missing or is no image.
    """
    image = open_image(path)
    image.thumbnail((long_side_pixels, long_side_pixels))
    raw = io.BytesIO()
    image.save(raw, "JPEG", quality=_QUALITY, optimize=True)
    return raw.getvalue()
