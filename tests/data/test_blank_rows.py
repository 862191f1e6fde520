"""A corpus of others may hold blank rows: they stop the run, or are left out and counted."""

from pathlib import Path

import pytest

from langadapt.data.parallel import load_parallel
from langadapt.errors import DataError
from langadapt.recipes import ParallelRecipe, data_recipe

ROWS = """{"english": "one", "target": "uno"}
{"english": "two", "target": null}
{"english": " ", "target": "x"}
"""


def load(folder: Path, *, rows: str, policy: str):
    (folder / "rows.jsonl").write_text(rows)
    (folder / "own.yaml").write_text(
        "name: own\ntitle: Own\nlicence: CC0-1.0\nlanguage: es\nexpected_rows: 3\n"
        f"source: {{kind: files, paths: [rows.jsonl]}}\nblank_rows: {policy}\n"
    )
    return load_parallel(data_recipe(ParallelRecipe, "./own", folder=folder))


def test_blank_rows(tmp_path: Path) -> None:
    kept = load(tmp_path, rows=ROWS, policy="skip")
    assert (list(kept.english), list(kept.target), kept.blank_rows) == (["one"], ["uno"], 2)
    with pytest.raises(DataError, match="line 2"):
        load(tmp_path, rows=ROWS, policy="error")
    with pytest.raises(DataError, match=r"line 2.*int"):
        load(tmp_path, rows=ROWS.replace("null", "7"), policy="skip")
    with pytest.raises(DataError, match="all 3 rows are blank"):
        load(tmp_path, rows='{"english": "", "target": "x"}\n' * 3, policy="skip")
