"""Commands and code of README, docs and help paste as they stand; links lead somewhere."""

import ast
import re
import shlex
from pathlib import Path
from typing import Any

import pytest

import langadapt
from langadapt.cli.app import _COMMANDS, _load

ROOT = Path(langadapt.__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")), *sorted((ROOT / "examples").glob("*.md"))]


def blocks(text: str, kind: str) -> list[str]:
    return re.findall(rf"^ *```{kind}\n(.*?)^ *```", text, flags=re.DOTALL | re.MULTILINE)


def command_lines(text: str) -> list[str]:
    """Commands of shell text, with continued lines joined."""
    joined = text.replace("\\\n", " ").splitlines()
    found = (re.search(r"(?:^|\| |-m |bin/)langadapt (?!is\b)(.*)", line.strip()) for line in joined)
    return [match[1] for match in found if match]


def helps() -> list[tuple[str, str]]:
    found = []
    for name in _COMMANDS:
        command = _load(name)
        for inner in (command, *getattr(command, "commands", {}).values()):
            text = (inner.callback and inner.callback.__doc__) or ""
            found += [(f"{name} --help", line) for line in command_lines(text.partition("Examples:")[2])]
    return found


LINES = [
    *((page.name, line) for page in PAGES for block in blocks(page.read_text("utf-8"), "bash")
      for line in command_lines(block)),
    *helps(),
]  # fmt: skip


def parsed(words: list[str]) -> dict[str, Any]:
    """Options and arguments of a command line; raises for what the command does not take."""
    while words[0] in ("--offline",):
        words = words[1:]
    command: Any = _load(words[0])
    rest = words[1:]
    while getattr(command, "commands", None):
        command, rest = command.commands[rest[0]], rest[1:]
    context = command.context_class(command, info_name=words[0])
    values, left, _ = command.make_parser(context).parse_args(list(rest))
    assert not left, f"too many arguments: {left}"
    for item in command.params:
        assert not item.required or values.get(item.name), f"{item.name} is missing"
    return dict(values)


def test_every_command_of_the_docs_is_one() -> None:
    assert len(LINES) > 100
    wrong = []
    for page, line in LINES:
        try:
            parsed(shlex.split(line.partition(" > ")[0], comments=True))
        except Exception as error:  # noqa: BLE001 - any reason is shown, with its line
            wrong.append(f"{page}: langadapt {line}: {error}")
    assert not wrong, "\n".join(wrong)


def test_what_is_wrong_is_found() -> None:
    for line in ("distill --langs zh", "eval", "search photos/ x y --model", "data nope"):
        with pytest.raises(Exception):  # noqa: B017, PT011 - click's, of whatever release
            parsed(shlex.split(line))


def test_python_blocks_use_what_there_is() -> None:
    for page in PAGES:
        for block in blocks(page.read_text("utf-8"), "python"):
            for node in ast.walk(ast.parse(block)):
                if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
                    assert node.value.id != "langadapt" or hasattr(langadapt, node.attr), (
                        f"{page}: {node.attr}"
                    )


def test_links_lead_somewhere() -> None:
    for page in PAGES:
        for link in re.findall(r"\]\((?!https?:|#)([^)#\s]+)", page.read_text("utf-8")):
            assert (page.parent / link).exists(), f"{page.name}: {link}"


def test_commands_of_the_benchmarks_are_what_their_scripts_take() -> None:
    """Read, not run: the scripts import torch, and some need the lab kit."""
    seen, wrong = 0, []
    for page in sorted((ROOT / "benchmarks").glob("*.md")):
        text = page.read_text("utf-8").replace("\\\n", " ")
        for line in re.findall(r"python (benchmarks/\w+\.py[^`\n]*)", text):
            script, *words = shlex.split(line.split(" > ")[0], comments=True)
            seen += 1
            source = (ROOT / script).read_text("utf-8") if (ROOT / script).is_file() else ""
            known = {*re.findall(r"add_argument\(\s*\"(--[\w-]+)\"", source), "--help"}
            lost = [word for word in words if word.startswith("--") and word not in known]
            wrong += [f"{page.name}: {script}: {' '.join(lost) or 'no such script'}"] * bool(
                lost or not source
            )
    assert seen > 40
    assert not wrong, "\n".join(wrong)


def test_each_claim_has_a_verdict_and_a_command() -> None:
    rows = [
        line.split("|")[1:-1] for line in (ROOT / "benchmarks" / "CLAIMS.md").read_text("utf-8").splitlines()
    ]
    rows = [[cell.strip() for cell in row] for row in rows if len(row) == 5][2:]
    assert len(rows) > 20
    for claim, where, found, verdict, command in rows:
        if not claim.startswith("**"):
            assert verdict, claim
            assert verdict.startswith("not measured") or (
                where and found and re.search("benchmarks/|langadapt ", command)
            ), claim
