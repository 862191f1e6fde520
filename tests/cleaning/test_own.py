"""The test set that is held out of a user's own sentences."""

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from langadapt.cleaning.own import _hold_out
from langadapt.cleaning.words import main_script
from langadapt.errors import DataError
from langadapt.recipes.data import ParallelRecipe, TableFiles
from langadapt.recipes.find import data_recipe
from langadapt.recipes.yaml import dump_recipe


def built(folder: Path, rows: list[tuple[str, str]]) -> Path:
    folder.mkdir()
    table = pa.table({"english": [one for one, _ in rows], "target": [two for _, two in rows]})
    pq.write_table(
        table.replace_schema_metadata({"langadapt.contamination": "kept"}), folder / "pairs.parquet"
    )
    source = TableFiles(kind="files", paths=("pairs.parquet",))
    facts = {"name": folder.name, "title": "t", "licence": "unknown", "language": "sw"}
    recipe = ParallelRecipe(**facts, source=source, expected_rows=len(rows))
    (folder / f"{folder.name}.yaml").write_text(dump_recipe(recipe), encoding="utf-8")
    return folder


def test_no_side_of_a_test_row_is_in_training(tmp_path: Path) -> None:
    """Each English sentence stands twice, written in two ways; each translation belongs to two sentences."""
    rows = [(f"{word} {n // 2}", f"tafsiri {n % 100}") for n in range(200) for word in ("The", "the ")]
    folder = built(tmp_path / "own", rows)
    count = _hold_out(folder)
    assert count == 20  # a fifth of 100 sentences: less than the least
    test, train = (pq.read_table(folder / name).to_pylist() for name in ("test.parquet", "pairs.parquet"))
    assert len(test) == count
    for side in ("english", "target"):
        held_out = {" ".join(row[side].casefold().split()) for row in test}
        assert not held_out & {" ".join(row[side].casefold().split()) for row in train}
    assert len(train) > 200
    assert data_recipe(ParallelRecipe, str(folder / "own.yaml")).recipe.expected_rows == len(train)
    assert b"langadapt.contamination" in pq.read_schema(folder / "pairs.parquet").metadata


@pytest.mark.parametrize(("rows", "tests"), [(60, 12), (900, 100), (3_000, 300), (12_000, 1_000)])
def test_sizes(tmp_path: Path, rows: int, tests: int) -> None:
    assert _hold_out(built(tmp_path / "own", [(f"a {n}", f"b {n}") for n in range(rows)])) == tests


def test_too_few(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="40 are the least"):
        _hold_out(built(tmp_path / "own", [(f"a {n}", f"b {n}") for n in range(39)]))


def test_the_script_of_most_letters() -> None:
    assert main_script(["Tom 123 игра", "слово"]) == "Cyrl"
    assert main_script(["123"]) == "Latn"
    assert main_script(["ⵜⴰⵎⴰⵣⵉⵖⵜ"]) == "Tfng"
