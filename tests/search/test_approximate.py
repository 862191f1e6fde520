"""The FAISS index says of itself what exact search confirms, and is never used when it is stale."""

from pathlib import Path

import numpy as np
import pytest
import torch
from colour_tower import paint, update
from PIL import Image

from langadapt.errors import DataError
from langadapt.search import nearest
from langadapt.search.index import ImageIndex, open_index
from langadapt.search.update import ImageTower

pytest.importorskip("faiss", reason="the extra langadapt[faiss] is not installed")


class Clusters:
    """An image tower of 16 dimensions: 400 pictures in eight heaps."""

    def __init__(self) -> None:
        self.tower = ImageTower(fingerprint="clusters", label="clusters@1", dim=16, encode=self._encode)

    def _encode(self, images: list[Image.Image]) -> torch.Tensor:
        rows = []
        for image in images:
            number = image.getpixel((0, 0))[0] + 256 * image.getpixel((0, 0))[1]  # type: ignore[index]
            draws = torch.Generator().manual_seed(number)
            centre = torch.zeros(16)
            centre[number % 8] = 3
            rows.append(centre + torch.randn(16, generator=draws))
        return torch.nn.functional.normalize(torch.stack(rows), dim=1)


@pytest.fixture(scope="module")
def index_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("heaps")
    for number in range(400):
        paint(folder / "photos" / f"{number:03}.bmp", (number % 256, number // 256, 0))
    update(folder / "photos", folder / "index", Clusters())  # type: ignore[arg-type]
    return folder / "index"


def recall(index: ImageIndex, queries: list[int]) -> float:
    found = []
    for number in queries:
        pair = [index.search(index.row(number), count=11, approximate=way)[0] for way in (True, False)]
        fast, exact = ({hit.number for hit in hits} - {number} for hits in pair)
        found.append(len(fast & exact) / len(exact))
    return float(np.mean(found))


def test_recall_is_measured_and_reached(index_path: Path) -> None:
    facts = open_index(index_path, None).build_approximate(np.eye(16, dtype=np.float32)[:5])
    index = open_index(index_path, None)
    assert index.approximate is not None
    assert index.approximate.facts == facts
    assert facts.queries == {"images": 200, "texts": 5}
    assert min(facts.recall.values()) >= 0.95
    assert recall(index, list(range(400))) == pytest.approx(facts.recall["images"], abs=0.03)
    scores = [hit.score for hit in index.search(index.row(7), count=20)[0]]
    exact = index.search(index.row(7), count=20, approximate=False)[0]
    assert scores[0] == exact[0].score, "scores are exact ones"


def test_a_target_that_few_lists_miss_takes_more_of_them(
    index_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    nothing = np.zeros((0, 16), np.float32)
    monkeypatch.setattr(nearest, "TARGET_RECALL", 0.1)
    low = open_index(index_path, None).build_approximate(nothing)
    monkeypatch.setattr(nearest, "TARGET_RECALL", 0.999)
    high = open_index(index_path, None).build_approximate(nothing)
    assert low.probes == 1
    assert low.probes < high.probes <= high.lists
    assert low.recall["images"] < high.recall["images"]
    index = open_index(index_path, None)
    assert recall(index, list(range(400))) > low.recall["images"]


def test_after_a_change_search_is_exact_again(index_path: Path) -> None:
    open_index(index_path, None).build_approximate(np.zeros((0, 16), np.float32))
    assert open_index(index_path, None).approximate is not None
    photos = index_path.parent / "photos"
    update(photos, index_path, Clusters())  # type: ignore[arg-type]
    assert open_index(index_path, None).approximate is not None, "nothing changed"
    paint(photos / "new.bmp", (9, 9, 9))
    update(photos, index_path, Clusters())  # type: ignore[arg-type]
    index = open_index(index_path, None)
    assert index.approximate is None
    assert index.has_stale_approximate
    assert len(index.search(index.row(400), count=2)[0]) == 2


def test_a_damaged_file_is_said(index_path: Path) -> None:
    open_index(index_path, None).build_approximate(np.zeros((0, 16), np.float32))
    (index_path / "approximate.faiss").write_bytes(b"nonsense")
    with pytest.raises(DataError, match=r"approximate\.faiss.*--rebuild"):
        open_index(index_path, None)
