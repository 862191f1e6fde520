"""Runs side by side: scores, paired differences from the first run, and what each cost."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from langadapt.errors import DataError
from langadapt.evaluation.retrieval import ScoreCard, read_score_cards
from langadapt.evaluation.tables import Column, Row, ScoreTable
from langadapt.files.paths import real_path
from langadapt.metrics.intervals import Interval, interval_of
from langadapt.metrics.signature import comparable
from langadapt.models.artifact import SCORES, read_artifact

_COLUMNS = (
    Column(name="mR6", strong=True),
    *(Column(name=name) for name in ("95 %", "kept", "gain", "95 % of it", "trained", "minutes")),
)


@dataclass(frozen=True, kw_only=True)
class Compared:
    """One run's scores on one benchmark, beside the first run's."""

    run: str
    card: ScoreCard
    training: Mapping[str, Any]
    gain: float | None
    """mR6 above the first run's; None for the first run itself."""
    gain_interval: Interval | None
    """Bootstrap over the images, the same for both; None without their hits or in other conditions."""
    differs: tuple[str, ...]
    """Conditions in which its signature differs from the first run's, other than the text model."""


def compare_runs(runs: Sequence[Path]) -> dict[str, list[Compared]]:
    """Compare scored runs on every benchmark that at least two of them were scored on.

    A DataError says which run was not scored, or that they share no benchmark.
    """
    scored = []
    for run, path in {real_path(path): path for path in runs}.items():
        if not (run / SCORES).is_file():
            raise DataError(f"{path}: was not scored; run `langadapt eval {path}` first")
        scored.append((run, read_score_cards(run / SCORES), read_artifact(run).training))
    names = [run.name for run, _, _ in scored]
    found: dict[str, list[Compared]] = {}
    for run, cards, training in scored:
        name = str(run) if names.count(run.name) > 1 else run.name  # two folders of one name
        for card in cards:
            if card.student is not None:
                rows = found.setdefault(card.label, [])
                rows.append(_compared(name, card, training, rows[0].card if rows else None))
    shared = {label: rows for label, rows in found.items() if len(rows) > 1}
    if not shared:
        raise DataError("no two of these runs have scores on one benchmark; see `langadapt eval RUN --on`")
    return shared


def _compared(name: str, card: ScoreCard, training: Mapping[str, Any], first: ScoreCard | None) -> Compared:
    gain, bounds = None, None
    differs: tuple[str, ...] = ()
    if first is not None and first.student is not None and card.student is not None:
        gain = card.student.mr6 - first.student.mr6
        differs = tuple(comparable(first.student.signature, card.student.signature))
        one, other = first.student.hits, card.student.hits
        if one and other and one.captions == other.captions:
            bounds = interval_of(other.resampled() - one.resampled())
    return Compared(run=name, card=card, training=training, gain=gain, gain_interval=bounds, differs=differs)


def comparison_tables(compared: Mapping[str, Sequence[Compared]]) -> Iterator[ScoreTable]:
    """Make one table per benchmark, the first run on top."""
    for label, rows in compared.items():
        unlike = [
            f"not comparable: {row.run} differs in {', '.join(row.differs)}" for row in rows if row.differs
        ]
        yield ScoreTable(
            unit="run",
            columns=_COLUMNS,
            rows=tuple(map(_row, rows)),
            title=label,
            pool=f"{rows[0].card.images:,} images; gain over {rows[0].run}",
            warnings=tuple(unlike),
            signatures=tuple((row.run, str(row.card.signature)) for row in rows),
        )


def _row(row: Compared) -> Row:
    scores, kept = row.card.student, row.card.retention
    assert scores is not None
    bounds = row.gain_interval
    trained = row.training.get("trained_parameters")
    return Row(
        name=row.run,
        cells=(
            f"{scores.mr6:.1f}",
            str(scores.interval),
            "" if kept is None else f"{kept:.0%}",
            "" if row.gain is None else f"{row.gain:+.1f}",
            "" if bounds is None else f"{bounds.low:+.1f} to {bounds.high:+.1f}",
            "" if trained is None else f"{trained / 1e6:.2f} M",
            f"{row.training.get('seconds', 0) / 60:.1f}",
        ),
        percent=scores.mr6,
        interval=scores.interval,
    )


def comparison_facts(compared: Mapping[str, Sequence[Compared]]) -> dict[str, list[dict[str, Any]]]:
    """Return plain values under stable keys, by benchmark."""
    return {
        label: [
            {
                "run": row.run,
                "mr6": row.card.student.mr6 if row.card.student else None,
                "retention": row.card.retention,
                "gain": row.gain,
                "gain_interval": row.gain_interval and [row.gain_interval.low, row.gain_interval.high],
                "differs": list(row.differs),
                "trained_parameters": row.training.get("trained_parameters"),
                "seconds": row.training.get("seconds"),
            }
            for row in rows
        ]
        for label, rows in compared.items()
    }
