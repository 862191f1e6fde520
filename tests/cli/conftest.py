"""Runs the command line in this process."""

import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from langadapt.cli import main


@dataclass(frozen=True, kw_only=True)
class Outcome:
    code: int
    out: str
    err: str


@pytest.fixture
def langadapt(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., Outcome]:
    """`langadapt("eval", run)` as a user would type it; a bug's exception comes through."""

    def call(*arguments: str | Path) -> Outcome:
        monkeypatch.setattr(sys, "argv", ["langadapt", *map(str, arguments)])
        capsys.readouterr()
        code = 0
        try:
            main()
        except SystemExit as stop:
            code = int(stop.code or 0)
        said = capsys.readouterr()
        return Outcome(code=code, out=said.out, err=said.err)

    return call


@pytest.fixture(scope="session")
def run_folder(language_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run on the tiny models."""
    import torch

    from langadapt.recipes import find_language
    from langadapt.training import RunOptions, distill

    out = tmp_path_factory.mktemp("runs") / "es"
    cache = tmp_path_factory.mktemp("run-cache")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LANGADAPT_CACHE", str(cache))
        options = RunOptions(device=torch.device("cpu"))
        distill(
            find_language(str(language_folder / "es")), out, report=lambda progress: None, options=options
        )
    return out
