"""What `langadapt domain` tells: recall before and after, and a page with the hardest pairs."""

import json
from pathlib import Path
from typing import Any

import torch
from rich.table import Table

from langadapt.data.pairs import load_pairs
from langadapt.data.retrieval import RetrievalSet
from langadapt.errors import Progress, Report
from langadapt.evaluation.page import Page, write_page
from langadapt.evaluation.plots import training_curve
from langadapt.evaluation.retrieval import evaluate_retrieval
from langadapt.evaluation.sections import BeforeAfter, DomainReport, HardPair
from langadapt.evaluation.summary import run_facts
from langadapt.metrics.retrieval import RetrievalScores
from langadapt.models import Artifact, load
from langadapt.training.hard_sampling import HARD_PAIRS, read_sampling

SHOWN_PAIRS = 24


def scored(
    run: Path, sets: list[tuple[str, RetrievalSet]], device: torch.device, report: Report
) -> list[RetrievalScores]:
    """The student of a run on each set."""
    if not sets:
        return []
    model, found = load(run, device=device), []
    for _, retrieval in sets:

        def images_done(done: int, total: int) -> None:
            report(Progress(stage=f"{run.name}: images of {retrieval.name}", done=done, total=total))  # noqa: B023

        card = evaluate_retrieval(retrieval, model, progress=images_done).card
        assert card.student is not None
        found.append(card.student)
    return found


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
    hardest = [HardPair(**{**pair, "image": known[pair["image"]]}) for pair in map(json.loads, lines)]
    report = DomainReport(scores=rows, facts=facts, sampling=list(read_sampling(place)), hardest=hardest)
    page = Page(
        title=f"{artifact.recipe.name}, adapted to a domain",
        summary=f"{artifact.training['rows']:,} training captions of {artifact.training['images']:,} images.",
        domain=report,
        curve=training_curve(place),
        facts=run_facts(artifact, place),
    )
    write_page(place / "report.html", page)


def score_table(rows: list[BeforeAfter]) -> Table:
    """Before, after and change, for the terminal."""
    table = Table(box=None, padding=(0, 1, 0, 0), pad_edge=False, header_style="")
    table.add_column("mR6")
    for header in ("before", "after", "change"):
        table.add_column(header, justify="right", no_wrap=True)
    for row in rows:
        name = f"{row.kind}: {row.name}"
        table.add_row(name, f"{row.before:.1f}", f"{row.after:.1f}", f"{row.after - row.before:+.1f}")
    return table
