"""What other programs read: columns, types, order and numbers."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from colour_tower import Colour, update

from langadapt.search import index
from langadapt.search.index import export_index, export_texts, open_index

ROWS = [[0, 0, 1], [1, 0, 0], [0, 1, 0]]
PATHS = ["blue.png", "red.png", "sub/green.png"]


@pytest.mark.parametrize("batch", [2, 100])
def test_an_index_as_parquet(
    photos: Path, tmp_path: Path, batch: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(index, "_BATCH", batch)
    update(photos, tmp_path / "index", Colour())
    export_index(open_index(tmp_path / "index", None), tmp_path / "out" / "rows.parquet")
    table = pq.read_table(tmp_path / "out" / "rows.parquet")
    assert table.schema.field("id").type == pa.int64()
    assert table.schema.field("path").type == pa.string()
    assert table.schema.field("embedding").type == pa.list_(pa.float32(), 3)
    assert table.to_pydict() == {"id": [0, 1, 2], "path": PATHS, "embedding": ROWS}
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["rows.parquet"]


def test_an_index_as_npy(photos: Path, tmp_path: Path) -> None:
    update(photos, tmp_path / "index", Colour())
    export_index(open_index(tmp_path / "index", None), tmp_path / "rows.npy")
    rows = np.load(tmp_path / "rows.npy", allow_pickle=False)
    assert rows.dtype == np.float32
    assert rows.tolist() == ROWS
    assert (tmp_path / "rows.npy.paths.json").read_text() == '["blue.png", "red.png", "sub/green.png"]\n'


def test_texts_as_parquet(tmp_path: Path) -> None:
    export_texts(["猫", 'a, "b"\n'], np.eye(2, dtype=np.float32), tmp_path / "texts.parquet")
    table = pq.read_table(tmp_path / "texts.parquet")
    assert table.to_pydict() == {"id": [0, 1], "text": ["猫", 'a, "b"\n'], "embedding": [[1, 0], [0, 1]]}
