"""The card's scores: every number with its signature and interval."""

from collections.abc import Sequence

from langadapt.evaluation.cards import ScoreCard
from langadapt.evaluation.report import interval_text, pool_line
from langadapt.metrics.retrieval import RetrievalScores

_HEAD = """| | t2i R@1 | R@5 | R@10 | i2t R@1 | R@5 | R@10 | mR6 | 95 % |
|---|---|---|---|---|---|---|---|---|"""


def section(scores: Sequence[ScoreCard], asked: Sequence[str]) -> str:
    """Markdown of all score cards; of the recipe's test sets also those that were not scored."""
    parts = [
        "## Scores\n\nRecalls in percent; t2i: texts search images, i2t: images search texts. mR6 is the "
        "mean of the "
        "six. Ties count against the model, and the interval is a bootstrap over images. *Ceiling*: the "
        "frozen "
        "model on the English captions of the same images. *Floor*: the frozen model on the same captions as "
        "the "
        "student. *Retention*: student / ceiling."
    ]
    parts += [_card(card) for card in scores]
    missing = sorted(set(asked) - {card.name for card in scores})
    if missing:
        parts.append(f"Not scored, though the recipe names them: {', '.join(missing)}.")
    return "\n\n".join(parts)


def _card(card: ScoreCard) -> str:
    names = {"student": "**student**", "teacher, English": "ceiling", "teacher, raw captions": "floor"}
    rows = "\n".join(_row(names[name], scores) for name, scores in card.rows())
    kept = f"Retention: {card.retention:.1%}." if card.retention is not None else "Retention: not known."
    absent = [name for name, scores in (("ceiling", card.ceiling), ("floor", card.floor)) if scores is None]
    not_known = f" Not measured: {' and '.join(absent)}." if absent else ""
    signatures = "\n".join(f"{name}: {scores.signature}" for name, scores in card.rows())
    return (
        f"### {card.label}\n\n{pool_line(card)}. {kept}{not_known}\n\n{_HEAD}\n{rows}\n\n"
        f"<details><summary>Signatures</summary>\n\n```\n{signatures}\n```\n\n</details>"
    )


def _row(name: str, scores: RetrievalScores) -> str:
    recalls = (*_three(scores, "t2i"), *_three(scores, "i2t"))
    cells = " | ".join(f"{value:.1f}" for value in recalls)
    return f"| {name} | {cells} | {scores.mr6:.1f} | {interval_text(scores.interval)} |"


def _three(scores: RetrievalScores, direction: str) -> tuple[float, ...]:
    recalls = scores.t2i if direction == "t2i" else scores.i2t
    return recalls.r1, recalls.r5, recalls.r10
