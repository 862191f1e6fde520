"""`langadapt eval` in this process: what may be published has scores."""

import sys
from pathlib import Path

import pytest

from langadapt.cli import main


def score(run: Path, patch: pytest.MonkeyPatch, *options: str) -> None:
    patch.setattr(sys, "argv", ["langadapt", "eval", str(run), *options])
    with pytest.raises(SystemExit) as stop:
        main()
    assert stop.value.code == 0
