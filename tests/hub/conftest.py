"""A finished and scored run on the tiny models, and a stand-in of the Hub that this process talks to."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from scored import score
from stand_in import OwnHub, use_hub

from langadapt.recipes import find_language, override
from langadapt.training import RunOptions, distill


@pytest.fixture(scope="session")
def scored_run(language_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("scored") / "es"
    found = override(find_language(str(language_folder / "es.yaml")), ["distill.epochs=1"])
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LANGADAPT_CACHE", str(tmp_path_factory.mktemp("scored-cache")))
        options = RunOptions(device=torch.device("cpu"))
        distill(found, out, report=lambda progress: None, options=options)
        score(out, patch)
    return out


@pytest.fixture
def run(scored_run: Path, tmp_path: Path) -> Path:
    """A copy that a test may spoil."""
    return Path(shutil.copytree(scored_run, tmp_path / "es"))


@pytest.fixture
def own_hub(socket_enabled: None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[OwnHub]:
    with use_hub(monkeypatch, tmp_path) as made:
        yield made
