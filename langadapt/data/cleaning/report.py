"""What a build did, rule by rule, as plain values and as a page in Markdown."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from langadapt.data.cleaning.rules import DROPPING, MEANING, MENDING

EXAMPLES = 3
"""Examples for each rule: the first ones."""


@dataclass(frozen=True, kw_only=True)
class Example:
    """A row as it was read, and for a duplicate the row that it repeats."""

    source: str
    row: int
    english: str
    target: str
    repeats: str = ""


@dataclass(frozen=True, kw_only=True)
class SourceCount:
    """One source: rows read and kept, and what it brings along."""

    name: str
    licence: str
    weight: float
    rows: int
    kept: int


@dataclass(frozen=True, kw_only=True)
class ContaminationCheck:
    """What training text was compared with: captions of each test set, rows found, and how many of them
    stayed in."""

    sets: Mapping[str, int]
    found: int
    kept: int
    missing: Sequence[str] = ()
    """Test sets of the language that could not be read, with the reason."""


@dataclass(frozen=True, kw_only=True)
class BuildReport:
    """Counts of one build."""

    rows: int
    kept: int
    written: int
    """Rows in the output: a source of weight 2 stands in it twice."""
    mended: Mapping[str, int]
    dropped: Mapping[str, int]
    examples: Mapping[str, Sequence[Example]]
    off: Mapping[str, str]
    """Rules that did not run, with the reason."""
    notes: Sequence[str]
    """Rules that ran in part, and how well they could."""
    sources: Sequence[SourceCount]
    contamination: ContaminationCheck | None

    def to_dict(self) -> dict[str, Any]:
        """Plain values under stable keys."""
        return asdict(self)

    def lines(self) -> list[tuple[str, str, str, str]]:
        """Rule, rows, percent of all rows and meaning, for tables."""
        found = []
        for counts, names in ((self.mended, MENDING), (self.dropped, DROPPING)):
            for name in names:
                if name in self.off:
                    found.append((name, "off", "", self.off[name]))
                else:
                    count = counts.get(name, 0)
                    found.append(
                        (name, f"{count:,}", f"{100 * count / max(self.rows, 1):.2f}", MEANING[name])
                    )
        return found


def markdown(report: BuildReport, title: str) -> str:
    """The report as a page."""
    lines = [
        f"# {title}",
        "",
        f"{report.rows:,} rows read, {report.kept:,} kept ({100 * report.kept / max(report.rows, 1):.1f} %), "
        f"{report.written:,} written.",
        "",
        "| rule | rows | % | |",
        "|---|---:|---:|---|",
        *(
            f"| {name} | {count} | {percent} | {_cell(text)} |"
            for name, count, percent, text in report.lines()
        ),
        "",
        "| source | licence | weight | rows | kept |",
        "|---|---|---:|---:|---:|",
        *(
            f"| {s.name} | {_cell(s.licence)} | {s.weight:g} | {s.rows:,} | {s.kept:,} |"
            for s in report.sources
        ),
        "",
        *contamination_lines(report.contamination),
        *report.notes,
    ]
    for name, examples in report.examples.items():
        lines += ["", f"## {name}", ""]
        for item in examples:
            repeats = f" (repeats {item.repeats})" if item.repeats else ""
            lines.append(
                f"- {item.source}, row {item.row}{repeats}: {_cell(item.english)} | {_cell(item.target)}"
            )
    return "\n".join(lines) + "\n"


def contamination_lines(check: ContaminationCheck | None) -> list[str]:
    """What is known about test captions in the training text."""
    if check is None:
        return ["Contamination: unchecked."]
    sets = ", ".join(f"{name} ({count:,} captions)" for name, count in check.sets.items())
    what = (
        f"{check.kept:,} of them are in the data, and every later score says so"
        if check.kept
        else "none was kept"
    )
    lines = [f"Contamination: {check.found:,} rows hold test captions, {what}; checked against {sets}."]
    return lines + [f"Not checked against {line}" for line in check.missing]


def _cell(text: str) -> str:
    return text.replace("\\", "\\\\").replace("|", "\\|").replace("\n", " ")[:300]
