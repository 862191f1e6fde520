"""A folder of flat pictures."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from colour_tower import paint


@pytest.fixture
def photos(tmp_path: Path) -> Iterator[Path]:
    """red.png, sub/green.png, blue.png; afterwards nothing else may lie there."""
    folder = tmp_path / "photos"
    paint(folder / "red.png", (250, 0, 0))
    paint(folder / "sub" / "green.png", (0, 250, 0))
    paint(folder / "blue.png", (0, 0, 250))
    yield folder
    left = {path.name for path in folder.rglob("*")}
    assert not {name for name in left if name.startswith((".", "index", "rows", "lock"))}
