"""`langadapt publish` as a user types it."""

import json
import shutil
import sys
from pathlib import Path

import pytest
from stand_in import OwnHub

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
        (("--repo", "me/clip-es", "--dry-run"), "--local-base-models"),
        (("--repo", "me/clip-es", "--local-base-models"), "you are not logged in to the Hub"),
        (("--out", "x", "--all"), "--all takes --repo"),
        (("other", "--repo", "me/clip"), "2 runs: add --all"),
    ],
    ids=str,
)
def test_what_a_user_can_get_wrong(
    typed, run: Path, arguments: tuple[str, ...], words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("langadapt.hub.stage.get_token", lambda: None)
    if "not logged in" in words:
        monkeypatch.setattr("langadapt.hub.stage.stage", lambda *given: pytest.fail("minutes of work first"))
    code, _, err = typed(run, *arguments)
    assert code == 2
    (line,) = [line for line in err.splitlines() if line.startswith("langadapt: ")]
    assert words in line
    assert "Traceback" not in err


@pytest.mark.hub
def test_many_runs_go_into_one_collection_and_a_refused_one_stops_no_other(
    typed, own_hub: OwnHub, run: Path
) -> None:
    second, bare = (Path(shutil.copytree(run, run.parent / name)) for name in ("sw", "zz"))
    (bare / "scores.json").unlink()
    given = ("--all", run, bare, second, "--repo", "me/clip", "--local-base-models", "--private")
    code, _, err = typed(*given)
    lines = [line for line in err.splitlines() if line.startswith(("langadapt: ", "not published: "))]
    assert code == 2
    assert "no scores.json in it" in " ".join(err.split())
    assert lines[-1] == "langadapt: 1 of 3 runs were not published; the reasons stand above"
    assert set(own_hub.state.repositories) == {"me/clip-es", "me/clip-sw"}
    for name in ("me/clip-es", "me/clip-sw"):
        assert f"published: {own_hub.url}/{name}" in err
    made = {"title": "clip", "private": True, "items": ["me/clip-es", "me/clip-sw"]}
    assert own_hub.state.collections == {"me/clip-1": made}
    assert f"collection: {own_hub.url}/collections/me/clip-1" in err
    assert typed(*given)[0] == 2
    assert own_hub.state.collections == {"me/clip-1": made}, "the same one again"


def test_two_runs_of_one_name_are_not_published_over_each_other(
    typed, own_hub: OwnHub, run: Path, tmp_path: Path
) -> None:
    other = Path(shutil.copytree(run, tmp_path / "other" / run.name))
    code, _, err = typed("--all", run, other, "--repo", "me/clip", "--local-base-models")
    assert code == 2
    assert "one folder name" in err
    assert own_hub.state.repositories == {}


def test_the_help_has_examples(typed) -> None:
    code, out, _ = typed("--help")
    assert code == 0
    for example in ("--dry-run", "--private", "--out"):
        assert f"langadapt publish runs/zh {example}" in out or f"--repo me/clip-zh {example}" in out
