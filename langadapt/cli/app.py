"""All commands under one name; each command's module is imported when the command runs."""

import io
import os
import re
import sys
from contextlib import redirect_stdout
from dataclasses import dataclass
from importlib import import_module
from inspect import cleandoc
from typing import Annotated, Any

import typer
from rich.markup import escape
from typer import Option
from typer.core import TyperGroup

from langadapt import __version__


@dataclass(frozen=True)
class _Command:
    module: str
    panel: str
    summary: str


_START, _TRAIN, _SCORE = "Start", "Train", "Score and classify"
_SEARCH, _USE = "Search images", "Use elsewhere"
_COMMANDS = {
    "quickstart": _Command("distill", _START, "Try everything on a small drawn world, in minutes."),
    "languages": _Command("languages", _START, "List languages; show, start and check recipes."),
    "doctor": _Command("doctor", _START, "Predict whether training will work, and how long it takes."),
    "models": _Command("models", _START, "Rewrite a model's weights as safetensors."),
    "data": _Command("data", _TRAIN, "Fetch data, clean sentences, check pairs, translate."),
    "distill": _Command("distill", _TRAIN, "Train an adapter on parallel sentences."),
    "tune": _Command("tune", _TRAIN, "Tune a distilled student on images with captions."),
    "domain": _Command("tune", _TRAIN, "Adapt both towers to a domain."),
    "align": _Command("tune", _TRAIN, "Join an image and a text encoder into a new model."),
    "prompts": _Command("classify", _TRAIN, "Learn prompts from a few images of each class."),
    "eval": _Command("evaluate", _SCORE, "Score retrieval or zero-shot classification."),
    "compare": _Command("evaluate", _SCORE, "Compare scored runs, image by image."),
    "classify": _Command("classify", _SCORE, "Classify images by prompts or templates."),
    "index": _Command("search", _SEARCH, "Encode the images of a folder, once."),
    "search": _Command("search", _SEARCH, "Find images by a text or by an image."),
    "demo": _Command("search", _SEARCH, "Show a search page in the browser."),
    "serve": _Command("search", _SEARCH, "Encode and search over HTTP."),
    "encode": _Command("encode", _USE, "Encode texts into the teacher's embedding space."),
    "export": _Command("encode", _USE, "Write a model for other libraries, or a Space."),
    "publish": _Command("encode", _USE, "Publish an adapter on the Hugging Face Hub."),
}


class _Commands(TyperGroup):
    """List commands by their summaries; import the one that runs."""

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        name, command, rest = super().resolve_command(ctx, args)
        return name, command and _load(str(name)), rest


class _Unpadded(io.TextIOBase):
    """Standard output without the blanks that rich puts behind lines: after a copied backslash they count."""

    def __init__(self) -> None:
        self._out = sys.stdout

    @property
    def encoding(self) -> str:  # type: ignore[override]
        return self._out.encoding

    def write(self, text: str) -> int:
        return self._out.write(re.sub(" +$", "", text, flags=re.MULTILINE))

    def isatty(self) -> bool:
        return self._out.isatty()

    def fileno(self) -> int:
        return self._out.fileno()


def plain_help(command: Any) -> Any:
    """Escape brackets in a command's help texts: rich would take `[clean]` for a style, and drop it.

    Join the lines of its paragraphs, which then wrap at the terminal's width; examples keep theirs.
    """
    for item in (command, *command.params):
        if getattr(item, "help", None):
            item.help = escape(item.help)
    parts = cleandoc(command.help or "").split("\n\n")
    joined = [part if re.search("^  ", part, re.MULTILINE) else part.replace("\n", " ") for part in parts]
    command.help = text = "\n\n".join(joined)
    show = command.format_help

    def unpadded(context: Any, formatter: Any) -> None:
        # Where no line below the first stands at the margin, typer takes the examples' indentation away: an
        # empty style before the last line looks to it like text.
        command.help = re.sub(r"^(?= .*\Z)", "[b][/b]", text, flags=re.MULTILINE)
        with redirect_stdout(_Unpadded()):
            show(context, formatter)
        command.help = text

    command.format_help = unpadded
    for inner in getattr(command, "commands", {}).values():
        plain_help(inner)
    return command


def _load(name: str) -> Any:
    module = import_module(f"langadapt.cli.{_COMMANDS[name].module}")
    if hasattr(module, "app"):
        return plain_help(typer.main.get_command(module.app))
    single = typer.Typer(add_completion=False, rich_markup_mode="rich")
    single.command(name)(getattr(module, f"{name}_command"))
    return plain_help(typer.main.get_command(single))


app = typer.Typer(
    cls=_Commands,
    name="langadapt",
    help="Teach CLIP a new language through a small adapter on frozen models.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(__version__)
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool, Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
    offline: Annotated[bool, Option("--offline", help="Download nothing, as HF_HUB_OFFLINE=1 does.")] = False,
) -> None:
    if offline:  # before the libraries that read it are imported
        os.environ["HF_HUB_OFFLINE"] = "1"


for _name, _entry in _COMMANDS.items():
    app.command(_name, help=_entry.summary, rich_help_panel=_entry.panel)(lambda: None)
