"""One table, three writers: the same cells everywhere, and no text becomes markup."""

import dataclasses
import io
import re

import pytest
from rich.console import Console

from langadapt.evaluation.domain import BeforeAfter, before_after
from langadapt.evaluation.tables import Column, Row, ScoreTable, to_markdown, to_terminal
from langadapt.files.templates import templates

TABLE = ScoreTable(
    unit="percent",
    columns=(
        Column(name="R@1", group="t2i"),
        Column(name="R@5", group="t2i"),
        Column(name="mR6", strong=True),
        Column(name="mistaken", words=True),
    ),
    rows=(
        Row(name="student", cells=("1.0", "2.5", "3.0", "dog"), student=True, percent=3.0),
        Row(name="teacher", cells=("4.0", "5.5", "6.0", ""), percent=6.0),
    ),
    title="set (zh)",
    pool="3 images",
    retention=(0.5, "of the teacher's mR6"),
    remarks=("a remark",),
    warnings=("a warning",),
    signatures=(("student", "benchmark:set|k:1"),),
)


def terminal(table: ScoreTable, *warnings: str) -> str:
    console = Console(width=80, file=io.StringIO(), color_system=None)
    console.print(to_terminal([table], warnings, signatures=True))
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def html(table: ScoreTable) -> str:
    environment = templates("langadapt.evaluation", escape_html=True)
    return environment.from_string('{% from "table.html" import card %}{{ card(table) }}').render(table=table)


def test_three_writers_show_the_same_cells() -> None:
    expected = [["student", "1.0", "2.5", "3.0", "dog"], ["teacher", "4.0", "5.5", "6.0", ""]]
    lines = [line for line in to_markdown(TABLE).splitlines() if line.startswith("|")]
    assert [[cell.strip(" *") for cell in line.strip("|").split("|")] for line in lines[2:]] == expected
    assert lines[0] == "| percent | t2i R@1 | t2i R@5 | mR6 | mistaken |"
    body = html(TABLE).split("<tbody>")[1].split("</tbody>")[0]
    rows = [
        re.findall(r"<t[hd][^>]*>(?:<strong>)?(.*?)(?:</strong>)?</t[hd]>", row)
        for row in body.split("</tr>")
    ]
    assert rows[:2] == expected
    printed = terminal(TABLE).splitlines()
    assert [line.split() for line in printed[3:5]] == [row if row[-1] else row[:-1] for row in expected]
    for text in (to_markdown(TABLE), html(TABLE), "\n".join(printed)):
        for words in ("set (zh)", "3 images", "a remark", "a warning", "benchmark:set|k:1"):
            assert words in text
    assert "50.0%" in to_markdown(TABLE)
    assert "50.0%" in html(TABLE)


def test_groups_span_their_columns() -> None:
    assert TABLE.groups == [("t2i", 2), ("", 2)]
    assert '<th colspan="2" scope="colgroup">text → image</th>' in html(TABLE)
    bare = dataclasses.replace(TABLE, columns=(Column(name="recall"),), rows=(Row(name="cat", cells=("9",)),))
    assert "colspan" not in html(bare)
    assert 'class="bars"' not in html(bare)


@pytest.mark.parametrize("text", ["<b>|[red]x[/]", "a\nb"])
def test_no_text_is_markup(text: str) -> None:
    odd = dataclasses.replace(TABLE, rows=(Row(name=text, cells=(text, "1", "2", "3")),))
    assert "<b>" not in html(odd)
    row = next(line for line in to_markdown(odd).splitlines() if line.endswith("| 1 | 2 | 3 |"))
    assert len(re.findall(r"(?<!\\)\|", row)) == 6
    assert text.splitlines()[0] in terminal(odd)


def test_forgetting_that_was_not_measured_is_a_warning() -> None:
    row = BeforeAfter(name="held-out", kind="domain", before=30.0, after=41.25, signatures=None)
    general = BeforeAfter(name="val", kind="general", before=50.0, after=49.0, signatures=("a:1", "a:2"))
    assert "--general FILE" in before_after([row]).warnings[0]
    table = before_after([row, general])
    assert table.warnings == ()
    assert [item.cells for item in table.rows] == [("30.0", "41.2", "+11.2"), ("50.0", "49.0", "-1.0")]
    assert table.signatures == (("val, before", "a:1"), ("val, after", "a:2"))
