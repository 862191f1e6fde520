"""A signal saves and ends; the command that it prints goes on to the same weights."""

import os
import shlex
import signal
import sys
from pathlib import Path

import pytest

sys.path.append(str(Path(__file__).parents[1] / "training"))
from tiny_run import run, weights

from langadapt import cli as resume
from langadapt.cli import main
from langadapt.cli import progress as bars
from langadapt.errors import Progress, Stopped, stops_at_once, stops_between_steps
from langadapt.training.log import read_log


def test_training_ends_after_the_step_and_is_saved(language_folder: Path, tmp_path: Path) -> None:
    number = signal.SIGINT

    def report(progress: Progress) -> None:
        if progress.stage == "distil" and progress.done == 4:
            os.kill(os.getpid(), number)

    with pytest.raises(Stopped) as stop:
        run(language_folder, tmp_path / "parts", "distill.epochs=1", report=report)
    assert stop.value.number == number
    assert stop.value.note == "step 5 of 10 is done"
    said: list[str] = []
    run(language_folder, tmp_path / "parts", "distill.epochs=1", report=lambda p: said.append(p.stage))
    assert "resumed at step 5 of 10" in said
    run(language_folder, tmp_path / "whole", "distill.epochs=1")
    for name, value in weights(tmp_path / "whole").items():
        assert value.equal(weights(tmp_path / "parts")[name])
    assert [log.step for log in read_log(tmp_path / "parts")[0]] == list(range(1, 11))
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL, "handlers are put back"


def test_a_second_signal_does_not_wait() -> None:
    with stops_between_steps() as noted:
        os.kill(os.getpid(), signal.SIGTERM)
        assert noted() == signal.SIGTERM
        with pytest.raises(Stopped):
            os.kill(os.getpid(), signal.SIGINT)
    with stops_at_once(), pytest.raises(Stopped, match="15"):
        os.kill(os.getpid(), signal.SIGTERM)


@pytest.fixture
def stopped_command(
    language_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> tuple[int, str]:
    """Exit code and last line of a `distill` that gets SIGTERM at step 12."""
    plain = bars._plain_lines

    def stopping():
        report = plain()

        def told(progress: Progress) -> None:
            report(progress)
            if progress.stage == "distil" and progress.done == 12:
                os.kill(os.getpid(), signal.SIGTERM)

        return told

    words = ["langadapt", "distill", "--recipe", str(language_folder / "es.yaml"), "--overwrite"]
    monkeypatch.setattr(sys, "argv", [*words, "--out", str(tmp_path / "my run"), "--device", "cpu"])
    with monkeypatch.context() as patch:
        patch.setattr(bars, "_plain_lines", stopping)
        with pytest.raises(SystemExit) as stop:
            main()
    return int(stop.value.code or 0), capsys.readouterr().err.splitlines()[-1]


def test_the_line_says_how_to_go_on(
    stopped_command: tuple[int, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    code, line = stopped_command
    assert code == 128 + signal.SIGTERM
    assert line.startswith(
        "langadapt: stopped by SIGTERM; step 13 of 40 is done; go on with: langadapt distill "
    )
    assert "--overwrite" not in line, "it would begin anew"
    monkeypatch.setattr(sys, "argv", shlex.split(line.partition("go on with: ")[2]))
    with pytest.raises(SystemExit) as stop:
        main()
    assert stop.value.code == 0
    assert (tmp_path / "my run" / "artifact.json").is_file()


def test_what_goes_on_and_what_does_not() -> None:
    assert resume.way_on(["index", "a b", "--rebuild"]) == "go on with: langadapt index 'a b'"
    assert resume.way_on(["data", "build", "--lang", "sw"]).startswith("go on with: langadapt data build")
    assert "start again with" in resume.way_on(["prompts", "--shots", "4"])
    assert resume.way_on(["eval", "runs/sw"]) == ""
    assert resume.way_on([]) == ""
