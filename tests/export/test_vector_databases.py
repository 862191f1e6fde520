"""The code of docs/vector-databases.md runs, and each database finds the images that langadapt finds."""

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import langadapt
from langadapt.export.sentence_transformers import default_probes, export_sentence_transformers
from langadapt.quickstart.world import write_world
from langadapt.search.index import export_index, open_session

pytestmark = pytest.mark.databases
ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "vector-databases.md").read_text(encoding="utf-8")
SECTIONS = {part.partition("\n")[0]: part for part in PAGE.split("\n## ")}
QUERY = "mbwa anakimbia ufukweni"


def code(section: str) -> str:
    (block,) = re.findall(r"```python\n(.*?)```", SECTIONS[section], re.DOTALL)
    return str(block)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[str]]:
    """A folder with what the page's commands leave, and what langadapt finds in it."""
    place = tmp_path_factory.mktemp("databases")
    world = write_world(place / "world", parallel=300, tests=60)
    few = {"distill.epochs": 1, "distill.min_steps": 1, "distill.held_out_sentences": 50}
    model = langadapt.distill(str(world / "sw"), place / "run", settings=few)
    export_sentence_transformers(model, place / "sw-st", probes=default_probes(model))
    session = open_session(world / "photos", model, report=lambda progress: None, index=place / "index")
    export_index(session.index, place / "embeddings.parquet")
    (hits,) = session.by_text([QUERY], count=6)
    scores = np.array([hit.score for hit in hits])
    assert np.diff(scores).max() < -1e-5, "a tie: take another query"
    return place, [hit.name for hit in hits[:5]]


@pytest.mark.parametrize(
    ("section", "module"),
    [
        ("faiss", "faiss"),
        ("LanceDB", "lancedb"),
        ("Qdrant", "qdrant_client"),
        ("LangChain", "langchain_huggingface"),
    ],
)
def test_it_finds_the_same_images(
    place: tuple[Path, list[str]], monkeypatch: pytest.MonkeyPatch, section: str, module: str
) -> None:
    pytest.importorskip(module)
    folder, expected = place
    monkeypatch.chdir(folder)
    assert SECTIONS[section]
    names: dict[str, Any] = {}
    exec(code("# Fill a vector database") + code(section), names)  # noqa: S102 - the page's own code
    assert names["found"] == expected
