"""Makes recipes of rows and builds them."""

from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from langadapt.cleaning.chunks import Source
from langadapt.recipes import ParallelRecipe, data_recipe

Pairs = Sequence[tuple[str | None, str | None]]


@pytest.fixture
def source(tmp_path: Path) -> Callable[..., Source]:
    """`source("news", rows, weight=0.5)`: a TSV with a recipe beside it."""

    def make(name: str, rows: Pairs, *, weight: float = 1.0, language: str = "xx") -> Source:
        lines = "".join(f"{a}\t{b}\n" for a, b in rows)
        (tmp_path / f"{name}.tsv").write_text("english\ttarget\n" + lines, encoding="utf-8")
        (tmp_path / f"{name}.yaml").write_text(
            f"name: {name}\ntitle: Test\nlicence: CC-{name}\nlanguage: {language}\n"
            f"source: {{kind: files, paths: [{name}.tsv]}}\n",
            encoding="utf-8",
        )
        return Source(found=data_recipe(ParallelRecipe, str(tmp_path / f"{name}.yaml")), weight=weight)

    return make
