"""The site: its reference names all there is, its pages are all reached, and it builds without network."""

import importlib.util
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from langadapt.cli.app import _COMMANDS, _load
from langadapt.recipes.authoring import KINDS
from tools.reference import commands, json_keys, recipes

ROOT = Path(__file__).parents[1]
NAV = yaml.safe_load((ROOT / "mkdocs.yml").read_text(encoding="utf-8"))["nav"]


def test_every_command_and_option_has_its_line() -> None:
    text = commands()
    for name in _COMMANDS:
        command = _load(name)
        for inner, found in (getattr(command, "commands", None) or {"": command}).items():
            (part,) = re.findall(
                rf"^### {f'langadapt {name} {inner}'.rstrip()}$(.*?)(?=^##|\Z)", text, re.M | re.S
            )
            for item in found.params:
                shown = f"`{item.opts[0]}" if item.opts[0].startswith("-") else f"`{item.name}`"
                assert item.name == "help" or f"| {shown}" in part, f"{name} {inner} {shown}"
    distill = text.partition("### langadapt distill")[2].partition("###")[0]
    assert (
        "| `--track` `wandb`, `tensorboard`, `trackio` |  | Also log to this experiment tracker. |" in distill
    )
    assert "\nlangadapt distill --lang sw --data my.csv\n" in distill
    assert "[BIND" not in text


def test_every_recipe_key_has_its_line() -> None:
    text = recipes()
    for model in KINDS.values():
        schema = model.model_json_schema()
        for part in (schema, *schema.get("$defs", {}).values()):
            for key in part.get("properties", ()):
                assert f"\n| `{key}` | " in text, key
    assert "| `prompts` | list of text | `[]` | Zero-shot" in text
    assert "| `epochs` | whole number | `5` | Each epoch ends with a validation" in text
    anchors = {heading.lower() for heading in re.findall(r"^## (\w+)$", text, re.M)}
    assert set(re.findall(r"\]\(#(\w+)\)", text)) <= anchors


def test_json_keys_have_their_lines() -> None:
    text = json_keys()
    for line in (
        "| `ceiling` | `RetrievalScores | None` | The teacher on the English side of the same captions. |",
        "| `r10` | `float` |  |",
        "| `learning_rate` | `float` |  |",
    ):
        assert f"\n{line}\n" in text
    assert "`held_out_recall`" in text


def test_every_page_is_reached() -> None:
    named = {page for part in NAV for page in re.findall(r"[\w/.-]+\.md", str(part))}
    own = {path.relative_to(ROOT).as_posix() for path in (ROOT / "docs").glob("*.md")}
    assert own <= named, "name the page in mkdocs.yml"
    made = {"reference/commands.md", "reference/recipes.md", "reference/json.md", "reference/python.md"}
    assert {page for page in named if not (ROOT / page).is_file()} == made


BUILD = """
import socket, sys

def refuse(*arguments):
    raise OSError("no network here")

socket.socket.connect = refuse
socket.getaddrinfo = refuse
from mkdocs.__main__ import cli
cli(sys.argv[1:])
"""


@pytest.mark.site
def test_it_builds_without_network_and_loads_nothing_from_elsewhere(tmp_path: Path) -> None:
    for name in ("mkdocs", "material", "mkdocstrings_handlers.python"):
        if importlib.util.find_spec(name.partition(".")[0]) is None:
            pytest.skip("pip install -c constraints.txt -e '.[docs]'")
    done = subprocess.run(
        [sys.executable, "-c", BUILD, "build", "--strict", "--site-dir", str(tmp_path / "site")],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    site = tmp_path / "site"
    loaded = re.compile(r"<(?:script|img|iframe|link)\b[^>]*\b(?:src|href)=\"(?:https?:)?//[^\"]+\"")
    pages = {
        path.relative_to(site).as_posix(): path.read_text(encoding="utf-8") for path in site.rglob("*.html")
    }
    assert {
        "index.html",
        "docs/tutorial.html",
        "reference/commands.html",
        "benchmarks/RESULTS.html",
    } <= pages.keys()
    for name, text in pages.items():
        outside = [found for found in loaded.findall(text) if 'rel="canonical"' not in found]
        assert outside == [], name
        assert "api.github.com" not in text
    assert 'id="langadapt.api.distill"' in pages["reference/python.html"]
    assert 'id="langadapt.models.language_model.load"' in pages["reference/python.html"]
    assert "values of the recipe by dotted key" in pages["reference/python.html"]
