"""`langadapt publish` as a user types it."""

import json
import sys
from pathlib import Path

import pytest

from langadapt.cli import main


@pytest.fixture
def typed(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    def call(*arguments: str | Path) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["langadapt", "publish", *map(str, arguments)])
        capsys.readouterr()
        with pytest.raises(SystemExit) as stop:
            main()
        said = capsys.readouterr()
        return int(stop.value.code or 0), said.out, said.err

    return call


def test_a_dry_run_without_network_says_what_would_go_where(typed, run: Path) -> None:
    code, out, err = typed(run, "--repo", "me/clip-es", "--dry-run", "--local-base-models", "--json")
    assert code == 0, err
    said = json.loads(out)
    assert said["commit"] is None
    assert said["files"]["adapter.safetensors"] == (run / "adapter.safetensors").stat().st_size
    code, _, err = typed(run, "--repo", "me/clip-es", "--dry-run", "--local-base-models")
    assert code == 0
    assert "nothing was uploaded; without --dry-run this goes to me/clip-es" in err
    assert "these terms are unknown" in err


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ((), "one of --repo ORG/NAME and --out DIR"),
        (("--repo", "clip-es"), "--repo clip-es: expected ORG/NAME"),
        (("--out", "x", "--permission", " "), "--permission: say who"),
        (("--repo", "me/clip-es"), "--local-base-models"),
    ],
    ids=str,
)
def test_what_a_user_can_get_wrong(typed, run: Path, arguments: tuple[str, ...], words: str) -> None:
    code, _, err = typed(run, *arguments)
    assert code == 2
    (line,) = [line for line in err.splitlines() if line.startswith("langadapt: ")]
    assert words in line
    assert "Traceback" not in err


def test_the_help_has_examples(typed) -> None:
    code, out, _ = typed("--help")
    assert code == 0
    for example in ("--dry-run", "--private", "--out"):
        assert f"langadapt publish runs/zh {example}" in out or f"--repo me/clip-zh {example}" in out
