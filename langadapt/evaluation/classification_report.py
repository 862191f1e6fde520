"""Classification cards for the terminal, as JSON, and as a section of a page."""

import json
from collections.abc import Sequence
from html import escape

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from langadapt.evaluation.classification import ClassificationCard
from langadapt.evaluation.confusion import confusion_svg
from langadapt.evaluation.report import interval_text
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
    bars = "".join(_bar(place, name, scores) for place, (name, scores) in enumerate(card.rows))
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


def _bar(place: int, name: str, scores: ClassificationScores) -> str:
    low, high = scores.interval.low, scores.interval.high
    return (
        f'<div{_mark(place)}><span class="name">{escape(name)}</span><span class="track">'
        f'<span class="fill" style="width:{scores.top1:.2f}%"></span>'
        f'<span class="whisker" style="left:{low:.2f}%;width:{high - low:.2f}%"></span></span>'
        f'<span class="value">{scores.top1:.1f}</span></div>'
    )
