"""The examples run, top to bottom."""

import importlib.util
import shutil
from pathlib import Path
from types import ModuleType

import pytest

EXAMPLES = Path(__file__).parents[2] / "examples"


def example(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, EXAMPLES / f"{name}.py")
    assert spec is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_scripts(
    language_folder: Path, run_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    own = Path(shutil.copytree(language_folder, tmp_path / "own"))
    example("train_on_csv").main(str(own / "es"), str(own / "parallel.tsv"), str(tmp_path / "run"))
    assert "mR6" in capsys.readouterr().out
    example("search_photos").main(str(run_folder), str(own / "photos"), "gato rojo")
    hits = capsys.readouterr().out.splitlines()
    assert len(hits) == 5
    scores = [float(hit.split()[0]) for hit in hits]
    assert scores == sorted(scores, reverse=True)
    example("compare_texts").main("a red cat at sea", f"{run_folder}=gato rojo en mar")
    assert "gato rojo en mar  (Spanish)" in capsys.readouterr().out


@pytest.mark.notebook
@pytest.mark.enable_socket
def test_the_notebook(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    nbclient, nbformat = pytest.importorskip("nbclient"), pytest.importorskip("nbformat")
    pytest.importorskip("ipykernel")
    monkeypatch.setenv("LANGADAPT_NOTEBOOK_ROWS", "600")
    book = nbformat.read(EXAMPLES / "quickstart.ipynb", as_version=4)
    nbformat.validate(book)
    nbclient.NotebookClient(book, timeout=600, resources={"metadata": {"path": str(tmp_path)}}).execute()
    printed = [str(out) for cell in book.cells for out in cell.get("outputs", ())]
    assert any("of the English score" in out for out in printed)
