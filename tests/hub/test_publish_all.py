"""The script that trains and publishes a set of adapters: its plan, and a run against the stand-in."""

import shutil
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
from stand_in import OwnHub
from typer.testing import CliRunner

from langadapt.cli import main as command_line
from tools import publish_all
from tools.publish_all import checked_languages, plan, space_command, task


def asked(*arguments: str | Path) -> tuple[int, list[str]]:
    app = publish_all.typer.Typer()
    app.command()(publish_all.main)
    done = CliRunner().invoke(app, [*map(str, arguments)])
    return done.exit_code, done.output.splitlines()


def test_the_plan_names_every_checked_language_and_fits_80_columns(tmp_path: Path) -> None:
    assert len(checked_languages()) == 66
    code, lines = asked("me", "--dry-run", "--runs", tmp_path, "--lang", "zh", "--lang", "te")
    assert code == 0
    assert [line.split()[0] for line in lines[:3]] == ["language", "Telugu", "Chinese"], "the cheapest first"
    assert all(len(line) <= 80 for line in lines[:4])
    assert lines[-6:] == [
        f"langadapt distill --lang te --out {tmp_path}/te",
        f"langadapt eval {tmp_path}/te",
        f"langadapt publish --all {tmp_path}/te --repo me/clip",
        f"langadapt distill --lang zh --out {tmp_path}/zh",
        f"langadapt eval {tmp_path}/zh",
        f"langadapt publish --all {tmp_path}/zh --repo me/clip",
    ]
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("me", "--lang", "zz"), "no language 'zz'"),
        (("me", "--lang", "zh", "--lang", "zh"), "name each language once"),
        (("bad org!", "--lang", "zh"), "'bad org!' is not a name on the Hub"),
        (("", "--lang", "zh"), "'' is not a name on the Hub"),
        (("me", "--lang", "zh", "--photos", "nowhere"), "nowhere: no such folder"),
        (("me", "--lang", "zh", "--photos", ".", "--private"), "cannot read private adapters"),
    ],
)
def test_what_would_fail_after_days_is_refused_at_once(arguments: tuple[str, ...], said: str) -> None:
    code, lines = asked(*arguments, "--dry-run")
    assert (code, len(lines)) == (2, 1)
    assert said in lines[0]


def test_the_estimate_is_that_of_measured_rates(tmp_path: Path) -> None:
    chinese = task("zh", tmp_path)
    # A million pairs, five epochs: 3.9 ms the first time, 0.93 ms in each of four further passes.
    assert chinese.rows == 1_000_000
    assert chinese.hours == pytest.approx((3900 + 4 * 930) / 3600)
    words = " ".join(plan([chinese] * 20))
    assert "an estimate" in words
    assert "no GPU was measured" in words


def in_process(commands: list[Sequence[str]], monkeypatch: pytest.MonkeyPatch) -> Callable[..., int]:
    def run(command: Sequence[str]) -> int:
        commands.append(command)
        options = ["--local-base-models"] if command[0] == "publish" else []
        monkeypatch.setattr(sys, "argv", ["langadapt", *command, *options])
        with pytest.raises(SystemExit) as stop:
            command_line()
        return int(stop.value.code or 0)

    return run


@pytest.mark.hub
def test_what_is_left_is_done_and_what_fails_stops_no_other(
    own_hub: OwnHub, run: Path, language_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = {name: str(language_folder / f"{name}.yaml") for name in ("es", "es-b", "es-c")}
    for name in ("es-b", "es-c"):
        shutil.copy(names["es"], names[name])
        shutil.copytree(run, run.parent / name)
    for folder in (run, run.parent / "es-b"):
        (folder / "curve.svg").write_text("<svg/>")
    (run.parent / "es-b" / "scores.json").unlink()
    (run.parent / "es-c" / "artifact.json").unlink()
    tasks = [task(name, run.parent) for name in names.values()]
    assert [[command[0] for command in each.commands] for each in tasks] == [
        [],
        ["eval"],
        ["distill", "eval"],
    ]

    commands: list[Sequence[str]] = []
    monkeypatch.setattr(publish_all, "langadapt_command", in_process(commands, monkeypatch))
    out = ["--runs", run.parent, *(part for name in names.values() for part in ("--lang", name))]
    (run.parent / "es-c" / "artifact.json").mkdir()  # training there fails
    code, lines = asked("me", *out)
    assert code == 2
    assert [line for line in lines if line.startswith("failed: ")] == [
        f"failed: langadapt distill --recipe {names['es-c']} --out {run.parent}/es-c"
    ]
    assert [command[0] for command in commands] == ["publish", "eval", "publish", "distill"]
    assert set(own_hub.state.repositories) == {"me/clip-es", "me/clip-es-b"}
    assert own_hub.state.collections["me/clip-1"]["items"] == ["me/clip-es", "me/clip-es-b"]

    commands.clear()
    asked("me", *out)
    assert [command[0] for command in commands] == ["publish", "publish", "distill"], "not trained again"


def test_a_signal_ends_all_but_what_is_published_stays(tmp_path: Path) -> None:
    tasks = [task(name, tmp_path) for name in ("te", "zh")]
    seen: list[str] = []

    def stopped(command: Sequence[str]) -> int:
        seen.append(command[0])
        return 130 if len(seen) == 4 else 0

    with pytest.raises(SystemExit) as stop:
        publish_all.publish_all(tasks, stopped, "me", None, False)
    assert (stop.value.code, seen) == (130, ["distill", "eval", "publish", "distill"])
    assert space_command(tasks[0], "me", Path("photos"))[:4] == ["export", "me/clip-te", "--format", "space"]
