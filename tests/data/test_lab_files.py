"""Real captions and sentences: every line of every file must become one row."""

import gzip
import os
from pathlib import Path

import pytest

from langadapt.data.readers import column_names, read_table

pytestmark = pytest.mark.lab


def test_no_line_is_lost_or_joined() -> None:
    lab = Path(os.environ["LANGADAPT_LAB"])
    paths = sorted([*lab.glob("captions/*.tsv"), *lab.glob("parallel/*.tsv*")])
    assert paths
    quotes = 0
    for path in paths:
        raw = path.read_bytes()
        raw = gzip.decompress(raw) if path.suffix == ".gz" else raw
        lines = raw.split(b"\n")
        assert lines.pop() == b""
        names = column_names(path)
        rows = [row.values for row in read_table(path, names)]
        assert len(rows) == len(lines) - 1, path
        assert ["\t".join(row).encode() for row in rows] == lines[1:], path
        # An odd quote is what a reader with quoting joins lines at.
        quotes += sum(line.count(b'"') % 2 for line in lines)
    assert quotes > 100
