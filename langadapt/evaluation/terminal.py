"""Score cards for the terminal and as JSON."""

import json
from collections.abc import Sequence

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from langadapt.evaluation.cards import ScoreCard, card_warnings
from langadapt.metrics.intervals import Interval
from langadapt.metrics.retrieval import Recalls, RetrievalScores
from langadapt.metrics.translation import TranslationScores

_HEADERS = ("mR3_t2i", "mR3_i2t", "mR6", "95 %", "retention")


def score_report(cards: Sequence[ScoreCard]) -> Group:
    """Tables, signatures and warnings; print it with a rich console. 100 columns are enough.

    Example:
        `Console().print(score_report(cards))`
    """
    parts: list[RenderableType] = []
    for card in cards:
        parts += [_heading(card), _table(card)]
        for name, scores in card.rows():
            parts.append(Text(f"{name}:\n{scores.signature}", "dim", overflow="fold"))
        if card.translation is not None:
            parts.append(Text(translation_line(card.translation)))
        parts.append(Text())
    parts += [Text(f"warning: {line}", "yellow") for line in card_warnings(cards)]
    return Group(*parts)


def score_json(cards: Sequence[ScoreCard]) -> str:
    """The same as one JSON object: `cards`, each as `ScoreCard.to_dict`, and `warnings`."""
    content = {"cards": [card.to_dict() for card in cards], "warnings": card_warnings(cards)}
    return json.dumps(content, ensure_ascii=False, allow_nan=False, indent=2)


def pool_line(card: ScoreCard) -> str:
    """What was searched, in words."""
    if card.image_free:
        return f"{card.captions:,} captions against their {card.images:,} English sides, no images"
    return f"{card.captions:,} captions, {card.images:,} images"


def translation_line(scores: TranslationScores) -> str:
    """How near the translated captions are to the English ones."""
    return (
        f"translated captions against the English ones: chrF++ {scores.chrf:.1f}, BLEU {scores.bleu:.1f} "
        f"({scores.rows:,} rows)\n{scores.chrf_signature}\n{scores.bleu_signature}"
    )


def interval_text(interval: Interval) -> str:
    """Bounds with one decimal, 100 without."""
    return "–".join(f"{bound:.1f}".replace("100.0", "100") for bound in (interval.low, interval.high))


def _heading(card: ScoreCard) -> Text:
    return Text.assemble((card.label, "bold"), f"  {pool_line(card)}")


def _table(card: ScoreCard) -> Table:
    table = Table(box=None, padding=(0, 1, 0, 0), pad_edge=False, header_style="")
    table.add_column("", no_wrap=True, min_width=21)
    for direction in ("t2i", "i2t"):
        for cutoff in ("R@1", "R@5", "R@10"):
            table.add_column(f"{direction}\n{cutoff}", justify="right", no_wrap=True, min_width=5)
    for header in _HEADERS:
        table.add_column(f"\n{header}", justify="right", no_wrap=True)
    for name, scores in card.rows():
        share = card.retention if scores is card.student else None
        table.add_row(name, *_cells(scores), f"{share:.1%}" if share is not None else "")
    return table


def _cells(scores: RetrievalScores) -> list[RenderableType]:
    means = (scores.mr3_t2i, scores.mr3_i2t)
    return [
        *_recalls(scores.t2i),
        *_recalls(scores.i2t),
        *(f"{mean:.1f}" for mean in means),
        Text(f"{scores.mr6:.1f}", "bold"),
        interval_text(scores.interval),
    ]


def _recalls(recalls: Recalls) -> list[str]:
    return [f"{value:.1f}" for value in (recalls.r1, recalls.r5, recalls.r10)]
