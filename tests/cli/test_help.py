"""Help and output show brackets as they are written; rich would take some for styles."""

import inspect
import re
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest
from rich.table import Table

from langadapt.cli import main
from langadapt.cli.app import _COMMANDS, _load
from langadapt.cli.progress import console, print_result, progress_report
from langadapt.errors import Progress

TEXTS = [
    "[/INST] cat",
    "[clean]",
    "[bold]x",
    "[bitfit, projection]",
    "pip install 'langadapt[faiss]'",
    ":dog:",
]


def commands(name: str, command: Any) -> Iterator[tuple[str, Any]]:
    yield name, command
    for inner, found in getattr(command, "commands", {}).items():
        yield from commands(f"{name} {inner}", found)


EVERY = [name for top in _COMMANDS for name, _ in commands(top, _load(top))]


def squeezed(text: str) -> str:
    return re.sub(r"[\s│]", "", text)


@pytest.mark.parametrize("name", EVERY)
def test_help_keeps_its_brackets(
    name: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setattr("sys.argv", ["langadapt", *name.split(), "--help"])
    with pytest.raises(SystemExit):
        main()
    out = capsys.readouterr().out
    shown = squeezed(out)
    assert not re.search(" $", out, re.MULTILINE), "a blank behind a backslash breaks what is pasted"
    top, *rest = name.split()
    command = _load(top)
    for word in rest:
        command = command.commands[word]
    assert "\\[" not in shown
    texts = [command.callback and command.callback.__doc__, *(getattr(p, "help", "") for p in command.params)]
    for line in re.findall("^ +(?:langadapt|--).*", inspect.cleandoc(texts[0] or ""), re.MULTILINE):
        assert f" {line}\n" in out, "an example was wrapped, or lost its indentation"
    for part in re.findall(r"\[[^\]\n]*\]", "\n".join(text.replace("\\[", "[") for text in texts if text)):
        assert squeezed(part) in shown


@pytest.mark.slow
def test_help_ends_quietly_where_its_reader_leaves() -> None:
    command = [sys.executable, "-m", "langadapt", "distill", "--help"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()
        assert b"Traceback" not in process.stderr.read()


@pytest.mark.parametrize("text", TEXTS)
def test_output_shows_what_the_user_wrote(text: str, capsys: pytest.CaptureFixture[str]) -> None:
    table = Table("query", box=None)
    table.add_row(text)
    print_result(table)
    print_result(text)
    console.print(text)
    with progress_report() as report:
        report(Progress(stage=text))
    said = capsys.readouterr()
    assert said.out.count(text) == 2
    assert said.err.count(text) == 2
