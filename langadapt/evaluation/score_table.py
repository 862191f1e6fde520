"""A score card as a section of a page: bars of mR6, then every number."""

from html import escape

from langadapt.evaluation.cards import ScoreCard
from langadapt.evaluation.report import interval_text, pool_line, translation_line
from langadapt.metrics.retrieval import RetrievalScores

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
    bars = "".join(_bar(name, scores) for name, scores in rows)
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


def _bar(name: str, scores: RetrievalScores) -> str:
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
