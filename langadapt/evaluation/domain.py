"""Report of a domain stage: recall before and after, difficulty of the pairs, and the hardest ones."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from langadapt.data.pairs import load_pairs
from langadapt.data.retrieval import RetrievalSet
from langadapt.errors import DataError, Report
from langadapt.evaluation.page import (
    DomainReport,
    Page,
    Thumbnail,
    page_title,
    run_facts,
    trained_on,
    write_page,
)
from langadapt.evaluation.plots import QUARTER_NAMES, training_curve
from langadapt.evaluation.retrieval import evaluate_retrieval
from langadapt.evaluation.tables import Column, Row, ScoreTable
from langadapt.files.atomic import write_text
from langadapt.files.json import parse_json, read_json
from langadapt.metrics.retrieval import RetrievalScores
from langadapt.models import Artifact, load
from langadapt.models.artifact import FACTS
from langadapt.recipes import DomainStage
from langadapt.training import RunOptions, tune
from langadapt.training.hard_sampling import HARD_PAIRS
from langadapt.training.log import log_entries

SHOWN_PAIRS = 24
_NO_BETTER = (
    "No step was better on the held-out pairs than the start: the result is the student that it started from."
)


@dataclass(frozen=True)
class BeforeAfter:
    """mR6 in percent of one test set before and after the stage, and the signatures of both scores."""

    name: str
    kind: str
    before: float
    after: float
    signatures: tuple[str, str] | None = None
    """None for the held-out pairs, which are no benchmark."""


def adapt_to_domain(
    start: Path,
    out: Path,
    *,
    stage: DomainStage,
    tests: Sequence[tuple[str, RetrievalSet]],
    report: Report,
    options: RunOptions,
) -> tuple[list[BeforeAfter], dict[str, Any]]:
    """Run a domain stage, score `tests` before and after it, write `domain.json` and the report page.

    A finished run without its report page is scored again, not trained again. Each test has a kind, `domain`
    or `general`. Returns a row for the held-out pairs and for each test, and what `domain.json` holds.
    """
    unreported = not ((out / "report.html").is_file() or options.overwrite)
    options = replace(options, reuse_finished=unreported)
    if (out / FACTS).is_file() and not (unreported or options.overwrite):
        raise DataError(f"{out} holds a finished run; choose another --out, or --overwrite")
    sets = [item for _, item in tests]
    # First what may be refused at once: scoring takes minutes.
    artifact = tune(start, out, stage=stage, report=report, options=options)
    before, after = (_scores(run, sets, options.device, report) for run in (start, out))
    facts = artifact.training
    recalls = facts["start_recall"], facts["held_out_recall"]
    rows = [BeforeAfter(f"{facts['held_out_rows']:,} held-out pairs", "domain", *recalls)]
    for (kind, item), one, other in zip(tests, before, after, strict=True):
        signatures = (one.signature, other.signature)
        rows.append(BeforeAfter(item.name, kind, one.mr6, other.mr6, signatures))
    record = {"scores": [asdict(row) for row in rows], **facts["domain"], "fell_back": facts["fell_back"]}
    write_text(out / "domain.json", json.dumps(record, indent=2, ensure_ascii=False) + "\n")
    _write_page(out, artifact, rows, options.images)
    return rows, record


def _scores(run: Path, sets: Sequence[RetrievalSet], device: Any, report: Report) -> list[RetrievalScores]:
    if not sets:
        return []
    model = load(run, device=device)
    cards = [evaluate_retrieval(item, model, report=report).card for item in sets]
    return [card.student for card in cards if card.student is not None]


def _write_page(out: Path, artifact: Artifact, rows: list[BeforeAfter], images: Path | None) -> None:
    stage, facts = artifact.recipe.domain, artifact.training["domain"]
    assert stage is not None
    known = {str(image): image for name in stage.pairs for image in load_pairs(name, images=images).images}
    lines = (out / HARD_PAIRS).read_text(encoding="utf-8").splitlines()[:SHOWN_PAIRS]
    hardest = [
        Thumbnail(
            path=known[pair["image"]],
            label=pair["caption"],
            note=f"difficulty {pair['start']:.2f} → {pair['end']:.2f}, drawn {pair['draws']:,} times",
        )
        for pair in map(parse_json, lines)
    ]
    report = DomainReport(
        tables=(before_after(rows), _quarters(facts["quarters"]), _moved(facts["held_out"])),
        sampling=list(log_entries(out, "sampling")),
        hardest=hardest,
        warning=_NO_BETTER if artifact.training["fell_back"] else "",
    )
    page = Page(
        title=page_title(artifact, trained_on(artifact)),
        summary=f"Adapted to a domain on {artifact.training['rows']:,} captions of "
        f"{artifact.training['images']:,} images; about {facts['wrong_captions']:.0%} of all captions seem "
        "to be of other images.",
        domain=report,
        curve=training_curve(out),
        facts=run_facts(artifact, out),
    )
    write_page(out / "report.html", page)


def read_domain_report(run: Path) -> DomainReport:
    """Read the scores before and after a finished domain stage, without draws and pairs."""
    record = read_json(run / "domain.json")
    tables = (before_after([BeforeAfter(**row) for row in record["scores"]]),)
    return DomainReport(tables=tables, sampling=(), warning=_NO_BETTER if record["fell_back"] else "")


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
    forms = ("{pairs:,}", "{start:.3f}", "{end:.3f}", "{draws:.1f}")
    return ScoreTable(
        title="Easy and hard pairs",
        pool="Training pairs in quarters by their difficulty before the stage: "
        "0 is found first, 1 is not found.",
        unit="quarter",
        columns=tuple(Column(name=name) for name in names),
        rows=tuple(
            Row(name=name, cells=tuple(form.format(**own) for form in forms))
            for name, own in zip(QUARTER_NAMES, quarters, strict=True)
        ),
    )


def _moved(held_out: Mapping[str, Any]) -> ScoreTable:
    first, last = held_out["bands"]
    names = ("rank 1" if first == 1 else f"ranks 1–{first}", f"ranks {first + 1}–{last}", "later")
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
