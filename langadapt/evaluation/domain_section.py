"""What domain adaptation did, as a section of a page: forgetting, easy and hard pairs, draws, pictures."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from typing import Any

from langadapt.data.images import ImageFile
from langadapt.evaluation.thumbnails import data_uri

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
