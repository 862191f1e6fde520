"""Score tables: rows and columns described once, written for a terminal, as HTML and as Markdown."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import groupby

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from langadapt.files.templates import templates
from langadapt.metrics.intervals import Interval

_FEW = 100


@dataclass(frozen=True, kw_only=True)
class Column:
    """One column behind the rows' names."""

    name: str
    group: str = ""
    """Heading that neighbouring columns share, such as `t2i`."""
    strong: bool = False
    """Holds the number that sums up the row."""
    words: bool = False
    """Holds words: aligned to the left."""
    page_only: bool = False
    """Stands on pages and cards, but not in a terminal of 80 columns."""


@dataclass(frozen=True, kw_only=True)
class Row:
    """One row; `cells` are formatted, one per column."""

    name: str
    cells: tuple[str, ...]
    student: bool = False
    """What the table is about: stands out from the rows that it is compared with."""
    percent: float | None = None
    """Length of the row's bar, where rows are drawn as bars."""
    interval: Interval | None = None


@dataclass(frozen=True, kw_only=True)
class ScoreTable:
    """Rows, columns and what must be known beside them."""

    unit: str
    """Heading of the column of names."""
    columns: tuple[Column, ...]
    rows: tuple[Row, ...]
    title: str = ""
    pool: str = ""
    """What was searched or classified, in words."""
    retention: tuple[float, str] | None = None
    """Fraction that the student keeps, and of what."""
    remarks: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    signatures: tuple[tuple[str, str], ...] = ()
    """Name of the score, and its signature."""

    @property
    def grouped(self) -> bool:
        """Whether columns share headings."""
        return any(column.group for column in self.columns)

    @property
    def groups(self) -> list[tuple[str, int]]:
        """Shared headings, each with the number of columns below it."""
        found = groupby(self.columns, key=lambda column: column.group)
        return [(group, len(list(columns))) for group, columns in found]


def few_images(count: int, what: str = "images") -> tuple[str, ...]:
    """Return a warning where a set is too small for its interval to say much."""
    if count >= _FEW:
        return ()
    return (f"only {count} {what}: below {_FEW} a score and its interval say little about others",)


def to_terminal(
    tables: Iterable[ScoreTable], warnings: Sequence[str] = (), *, signatures: bool = False
) -> Group:
    """Tables, where asked with their signatures, then the warnings; print it with at least 80 columns."""
    parts: list[RenderableType] = []
    for table in tables:
        if table.title:
            parts.append(Text.assemble((table.title, "bold"), f"  {table.pool}"))
        parts.append(_rich_table(table))
        if signatures:
            parts += [Text(f"{name}:\n{line}", "dim", overflow="fold") for name, line in table.signatures]
        parts += [*map(Text, table.remarks), *map(_warning, table.warnings), Text()]
    return Group(*parts, *map(_warning, warnings))


def to_markdown(table: ScoreTable) -> str:
    """A Markdown section: heading, pool, table, remarks, and the signatures folded away."""
    return (
        templates("langadapt.evaluation", escape_html=False)
        .get_template("table.md")
        .render(table=table)
        .strip()
    )


def duration(seconds: float) -> str:
    """Seconds in the unit that is shortest to read."""
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"


def _warning(line: str) -> Text:
    return Text(f"warning: {line}", "yellow")


def _rich_table(table: ScoreTable) -> Table:
    drawn = Table(box=None, padding=(0, 1, 0, 0), pad_edge=False, header_style="")
    grouped = table.grouped
    drawn.add_column(f"\n{table.unit}" if grouped else table.unit, no_wrap=grouped)
    shown = [number for number, column in enumerate(table.columns) if not column.page_only]
    for column in (table.columns[number] for number in shown):
        drawn.add_column(
            f"{column.group}\n{column.name}" if grouped else column.name,
            justify="left" if column.words else "right",
            no_wrap=not column.words,
            style="bold" if column.strong else "",
        )
    for row in table.rows:
        drawn.add_row(Text(row.name), *(Text(row.cells[number]) for number in shown))
    return drawn
