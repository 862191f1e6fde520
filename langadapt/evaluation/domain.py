"""Report of a domain stage: recall before and after, difficulty of the pairs, and the hardest ones."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from langadapt.data.pairs import load_pairs
from langadapt.data.retrieval import RetrievalSet
from langadapt.errors import Report
from langadapt.evaluation.page import DomainReport, Page, Thumbnail, run_facts, write_page
from langadapt.evaluation.plots import QUARTER_NAMES, training_curve
from langadapt.evaluation.retrieval import evaluate_sets
from langadapt.evaluation.tables import Column, Row, ScoreTable
from langadapt.metrics.retrieval import RetrievalScores
from langadapt.models import Artifact, load
from langadapt.training.hard_sampling import HARD_PAIRS
from langadapt.training.run import log_entries

SHOWN_PAIRS = 24


@dataclass(frozen=True, kw_only=True)
class BeforeAfter:
    """mR6 in percent of one test set before and after the stage, and the signatures of both scores."""

    name: str
    kind: str
    """`domain` or `general`."""
    before: float
    after: float
    signatures: tuple[str, str] | None
    """None for the held-out pairs, which are no benchmark."""


def scored(
    run: Path, sets: list[tuple[str, RetrievalSet]], device: torch.device, report: Report
) -> list[RetrievalScores]:
    """The student of a run on each set."""
    if not sets:
        return []
    evaluations = evaluate_sets([item for _, item in sets], load(run, device=device), report=report)
    return [evaluation.card.student for evaluation in evaluations if evaluation.card.student is not None]


def compared(
    sets: list[tuple[str, RetrievalSet]], before: list[RetrievalScores], after: list[RetrievalScores]
) -> list[BeforeAfter]:
    """One row for each set, of the domain or general."""
    return [
        BeforeAfter(
            name=retrieval.name,
            kind=kind,
            before=one.mr6,
            after=other.mr6,
            signatures=(one.signature, other.signature),
        )
        for (kind, retrieval), one, other in zip(sets, before, after, strict=True)
    ]


def held_out_row(facts: dict[str, Any]) -> BeforeAfter:
    """What chose the checkpoint."""
    return BeforeAfter(
        name=f"{facts['held_out_rows']:,} held-out pairs",
        kind="domain",
        before=facts["start_recall"],
        after=facts["held_out_recall"],
        signatures=None,
    )


def write_report(
    place: Path, artifact: Artifact, rows: list[BeforeAfter], facts: dict[str, Any], images: Path | None
) -> None:
    """Writes the page; the hardest pairs stand in it as pictures."""
    stage = artifact.recipe.domain
    assert stage is not None
    known = {str(image): image for name in stage.pairs for image in load_pairs(name, images=images).images}
    lines = (place / HARD_PAIRS).read_text(encoding="utf-8").splitlines()[:SHOWN_PAIRS]
    hardest = [
        Thumbnail(
            path=known[pair["image"]],
            label=pair["caption"],
            note=f"difficulty {pair['start']:.2f} → {pair['end']:.2f}, drawn {pair['draws']:,} times",
        )
        for pair in map(json.loads, lines)
    ]
    report = DomainReport(
        tables=(before_after(rows), _quarters(facts["quarters"]), _moved(facts["held_out"])),
        sampling=list(log_entries(place, "sampling")),
        hardest=hardest,
    )
    page = Page(
        title=f"{artifact.recipe.name}, adapted to a domain",
        summary=f"{artifact.training['rows']:,} training captions of {artifact.training['images']:,} images.",
        domain=report,
        curve=training_curve(place),
        facts=run_facts(artifact, place),
    )
    write_page(place / "report.html", page)


def before_after(rows: Sequence[BeforeAfter]) -> ScoreTable:
    """mR6 of each set before and after the stage, and the change."""
    signatures = {
        f"{row.name}, {when}": line
        for row in rows
        if row.signatures
        for when, line in zip(("before", "after"), row.signatures, strict=True)
    }
    unknown = "forgetting was not measured: score captions outside the domain, --general FILE"
    return ScoreTable(
        title="Before and after",
        unit="mR6 in percent",
        columns=(Column(name="before"), Column(name="after", strong=True), Column(name="change")),
        rows=tuple(
            Row(
                name=f"{row.kind}: {row.name}",
                cells=(f"{row.before:.1f}", f"{row.after:.1f}", f"{row.after - row.before:+.1f}"),
            )
            for row in rows
        ),
        remarks=("Held-out pairs choose the checkpoint, so their gain is a little too good.",),
        warnings=() if any(row.kind == "general" for row in rows) else (unknown,),
        signatures=tuple(signatures.items()),
    )


def _quarters(quarters: Sequence[Mapping[str, Any]]) -> ScoreTable:
    names = ("pairs", "difficulty before", "after", "draws per pair")
    return ScoreTable(
        title="Easy and hard pairs",
        pool="Training pairs in quarters by their difficulty before the stage: "
        "0 is found first, 1 is not found.",
        unit="quarter",
        columns=tuple(Column(name=name) for name in names),
        rows=tuple(
            Row(
                name=name,
                cells=(
                    f"{own['pairs']:,}",
                    f"{own['start']:.3f}",
                    f"{own['end']:.3f}",
                    f"{own['draws']:.1f}",
                ),
            )
            for name, own in zip(QUARTER_NAMES, quarters, strict=True)
        ),
    )


def _moved(held_out: Mapping[str, Any]) -> ScoreTable:
    first, last = held_out["bands"]
    names = (
        "rank 1" if first == 1 else f"ranks 1–{first}",
        f"ranks {first + 1}–{last}",
        "later",
    )
    return ScoreTable(
        title="Ranks of held-out captions",
        pool="Held-out captions by the rank of their image before the stage (rows) and after it (columns).",
        unit="before",
        columns=tuple(Column(name=name) for name in names),
        rows=tuple(
            Row(name=name, cells=tuple(f"{count:,}" for count in counts))
            for name, counts in zip(names, held_out["captions"], strict=True)
        ),
    )
