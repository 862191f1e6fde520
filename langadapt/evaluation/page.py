"""One HTML file that shows a run: scores, curve, searches, settings. It loads nothing."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from html import escape
from importlib.resources import files
from pathlib import Path
from typing import Literal

from langadapt.evaluation.cards import ScoreCard, card_warnings
from langadapt.evaluation.classification import ClassificationCard
from langadapt.evaluation.plots import CurvePoint, curve_panels
from langadapt.evaluation.sections import (
    HOW_TO_READ_CLASSES,
    DomainReport,
    Thumbnail,
    classification_section,
    data_uri,
    domain_section,
)
from langadapt.evaluation.terminal import interval_text, pool_line, translation_line
from langadapt.files.atomic import write_text
from langadapt.metrics.retrieval import RetrievalScores


@dataclass(frozen=True, kw_only=True)
class Search:
    """A query and the images that were found for it, best first."""

    query: str
    english: str | None
    images: Sequence[Thumbnail]
    language: str | None = None
    """Code of the query's language, so that a browser picks its fonts."""
    direction: Literal["ltr", "rtl", "auto"] = "auto"
    """Of the query and of the row of images; auto asks the query's first letters."""
    picture: Path | None = None
    """Stands beside the query where the query is a picture."""


@dataclass(frozen=True, kw_only=True)
class Page:
    """What the page shows; parts that are empty are left out."""

    title: str
    summary: str = ""
    """What was run, in a sentence or two."""
    cards: Sequence[ScoreCard] = ()
    classifications: Sequence[ClassificationCard] = ()
    domain: DomainReport | None = None
    curve: Sequence[CurvePoint] = ()
    searches: Sequence[Search] = ()
    facts: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    """Heading (settings, environment) to name to value."""


def write_page(path: Path, page: Page) -> None:
    """Write the page atomically.

    Raises:
        DataError: an image of a search cannot be read.
    """
    write_text(path, page_html(page))


def page_html(page: Page) -> str:
    """The whole document; every text in it is escaped.

    Raises:
        DataError: an image of a search cannot be read.
    """
    style = files("langadapt.evaluation").joinpath("page.css").read_text(encoding="utf-8")
    summary = f'<p class="summary" dir="auto">{escape(page.summary)}</p>' if page.summary else ""
    warnings = "".join(f'<p class="warning">{escape(line)}</p>' for line in card_warnings(page.cards))
    body = [
        f'<header><p class="brand">langadapt</p><h1 dir="auto">{escape(page.title)}</h1>{summary}</header>',
        _section(
            "Scores", warnings + "".join(map(score_section, page.cards)) + HOW_TO_READ if page.cards else ""
        ),
        _section(
            "Classification",
            "".join(map(classification_section, page.classifications)) + HOW_TO_READ_CLASSES
            if page.classifications
            else "",
        ),
        _section("Domain adaptation", domain_section(page.domain) if page.domain else ""),
        _section("Training", _figures(curve_panels(page.curve)) if page.curve else ""),
        _section("Searches", _searches(page.searches)),
        *(_section(heading, _facts(facts)) for heading, facts in page.facts.items()),
    ]
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        '<meta name="color-scheme" content="light dark">\n'
        f"<title>{escape(page.title)}</title>\n<style>\n{style}</style>\n</head>\n<body>\n<main>\n"
        + "\n".join(part for part in body if part)
        + "\n</main>\n</body>\n</html>\n"
    )


def _section(heading: str, content: str) -> str:
    return f"<section>\n<h2>{escape(heading)}</h2>\n{content}\n</section>" if content else ""


def _figures(panels: Iterable[str]) -> str:
    return '<div class="curves">' + "".join(f"<figure>{panel}</figure>" for panel in panels) + "</div>"


def _searches(searches: Sequence[Search]) -> str:
    known = any(image.correct for search in searches for image in search.images)
    legend = '<p class="note">A green frame marks the image for which the caption was written.</p>'
    return (legend if known else "") + "".join(map(_search, searches))


def _search(search: Search) -> str:
    language = f' lang="{escape(search.language)}"' if search.language else ""
    english = f'<p class="english" lang="en">{escape(search.english)}</p>' if search.english else ""
    images = "".join(map(_image, search.images))
    columns = min(max(len(search.images), 4), 6)
    picture = f'<img class="asked" src="{data_uri(search.picture)}" alt="">' if search.picture else ""
    across = "" if search.direction == "auto" else f' dir="{search.direction}"'
    return (
        f'<article class="search"{across}>{picture}'
        f'<p class="query" dir="{search.direction}"{language}>{escape(search.query)}</p>{english}'
        f'<ol class="images" style="--columns:{columns}">{images}</ol></article>\n'
    )


def _image(image: Thumbnail) -> str:
    label = escape(image.label)
    right = ' class="right"' if image.correct else ""
    mark = '<span class="mark">✓ right image</span>' if image.correct else ""
    return (
        f'<li{right}><img src="{data_uri(image.path)}" alt="{label}" loading="lazy">'
        f'{mark}<span class="label" dir="auto">{label}</span></li>'
    )


def _facts(facts: Mapping[str, str]) -> str:
    rows = "".join(
        f'<div><dt>{escape(name)}</dt><dd dir="auto">{escape(value)}</dd></div>'
        for name, value in facts.items()
    )
    return f'<dl class="facts">{rows}</dl>' if rows else ""


_HEAD = (
    '<thead><tr><th rowspan="2" scope="col">scores in percent</th>'
    '<th colspan="3" scope="colgroup">text → image</th><th colspan="3" scope="colgroup">image → text</th>'
    '<th colspan="4" scope="colgroup">means</th></tr>'
    "<tr><th>R@1</th><th>R@5</th><th>R@10</th><th>R@1</th><th>R@5</th><th>R@10</th>"
    "<th>mR3_t2i</th><th>mR3_i2t</th><th>mR6</th><th>95 %</th></tr></thead>"
)

HOW_TO_READ = (
    '<p class="note">R@k: share of queries, in percent, with a right answer among the best k; ties count '
    "against the model. mR3: mean over k of one direction. mR6: mean of all six, drawn as a bar with its "
    "bootstrap 95 % interval over images.</p>"
)


def score_section(card: ScoreCard) -> str:
    """HTML of one card; every text in it is escaped."""
    rows = card.rows()
    kept = card.retention
    share = "of the teacher's mR6 on English captions is kept."
    retention = f'<p class="retention"><strong>{kept:.1%}</strong> {share}</p>' if kept is not None else ""
    bars = "".join(_recall_bar(name, scores) for name, scores in rows)
    table = "".join(_row(name, scores) for name, scores in rows)
    lines = "".join(
        f"<div><dt>{escape(name)}</dt><dd>{escape(scores.signature)}</dd></div>" for name, scores in rows
    )
    near = card.translation
    translation = f'<p class="note">{escape(translation_line(near))}</p>' if near is not None else ""
    return (
        f'<article class="card"><h3 dir="auto">{escape(card.label)}</h3>'
        f'<p class="note">{escape(pool_line(card))}</p>{retention}'
        f'<div class="bars">{bars}</div>'
        f'<div class="scroll" tabindex="0"><table>{_HEAD}<tbody>{table}</tbody></table></div>'
        f'{translation}<details><summary>Signatures</summary><dl class="signatures">{lines}</dl></details>'
        "</article>\n"
    )


def _recall_bar(name: str, scores: RetrievalScores) -> str:
    low, high = scores.interval.low, scores.interval.high
    kind = ' class="student"' if name == "student" else ""
    return (
        f'<div{kind}><span class="name">{escape(name)}</span><span class="track">'
        f'<span class="fill" style="width:{scores.mr6:.2f}%"></span>'
        f'<span class="whisker" style="left:{low:.2f}%;width:{high - low:.2f}%"></span></span>'
        f'<span class="value">{scores.mr6:.1f}</span></div>'
    )


def _row(name: str, scores: RetrievalScores) -> str:
    t2i, i2t = scores.t2i, scores.i2t
    values = (t2i.r1, t2i.r5, t2i.r10, i2t.r1, i2t.r5, i2t.r10, scores.mr3_t2i, scores.mr3_i2t)
    cells = "".join(f"<td>{value:.1f}</td>" for value in values)
    kind = ' class="student"' if name == "student" else ""
    return (
        f'<tr{kind}><th scope="row">{escape(name)}</th>{cells}'
        f"<td><strong>{scores.mr6:.1f}</strong></td><td>{interval_text(scores.interval)}</td></tr>"
    )
