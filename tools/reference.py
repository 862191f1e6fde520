"""The site's reference pages, made from the code: commands, recipe keys, JSON keys, Python.

`mkdocs build` calls `on_files` (see mkdocs.yml). The site has the repository's own Markdown files in their
own folders, so that their links lead to the same files on the site and in a checkout.
"""

import ast
import dataclasses
import inspect
import textwrap
import typing
from collections.abc import Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
_PAGES = ("*.md", "docs/*", "benchmarks/*.md", "benchmarks/*.svg", "examples/*")


def on_files(files: Any, config: Any) -> Any:
    """Hook of mkdocs: give it the repository's pages and the generated ones."""
    from mkdocs.structure.files import File, Files

    paths = sorted(path for pattern in _PAGES for path in ROOT.glob(pattern) if path.is_file())
    names = [path.relative_to(ROOT).as_posix() for path in paths]
    found = [
        File.generated(config, name, abs_src_path=str(path)) for name, path in zip(names, paths, strict=True)
    ]
    made = [File.generated(config, f"reference/{name}.md", content=text) for name, text in pages().items()]
    themes = [file for file in files if not str(file.abs_src_path).startswith(f"{ROOT}/docs/")]
    return Files([*themes, *found, *made])


def pages() -> dict[str, str]:
    """Markdown of each generated page, by name."""
    return {"commands": commands(), "recipes": recipes(), "json": json_keys(), "python": python()}


def commands() -> str:
    """Every command with its help, arguments and options."""
    from langadapt.cli.app import _COMMANDS, _load

    lines = [
        "# Commands\n\n`langadapt --version`, and `langadapt --offline COMMAND`, which downloads nothing."
    ]
    panel = ""
    for name, entry in _COMMANDS.items():
        if entry.panel != panel:
            panel = entry.panel
            lines.append(f"## {panel}")
        for words, command in _walk(name, _load(name)):
            text = _unescaped(command.help or command.short_help or "")
            lines += [f"### langadapt {words}", _help(text)]
            hints = typing.get_type_hints(inspect.unwrap(command.callback))
            rows = [_parameter(item, hints[item.name]) for item in command.params if item.name in hints]
            if rows:
                lines.append("| | default | |\n|---|---|---|\n" + "\n".join(rows))
    return "\n\n".join(lines) + "\n"


def _walk(words: str, command: Any) -> Iterator[tuple[str, Any]]:
    inner = getattr(command, "commands", None)
    if not inner:
        yield words, command
    for name, found in (inner or {}).items():
        yield from _walk(f"{words} {name}", found)


def _unescaped(text: str) -> str:
    return text.replace("\\[", "[")


def _help(text: str) -> str:
    """A command's docstring: its indented lines are commands."""
    parts = []
    for part in inspect.cleandoc(text).split("\n\n"):
        plain = [line for line in part.splitlines() if not line.startswith("  ")]
        code = [line for line in part.splitlines() if line.startswith("  ")]
        parts += ["\n".join(plain)] if plain else []
        parts += [f"```bash\n{textwrap.dedent(chr(10).join(code))}\n```"] if code else []
    return "\n\n".join(parts)


def _parameter(item: Any, hint: Any) -> str:
    name = "`, `".join((*item.opts, *item.secondary_opts)) if item.opts[0].startswith("-") else item.name
    shown = item.default not in (None, False, ()) and not callable(item.default)
    default = f"`{item.default}`" if shown else ""
    text = _cell(_unescaped(getattr(item, "help", None) or ""))
    values = item.metavar or _values(hint)
    return f"| `{name}` {_cell(values)} | {'required' if item.required else default} | {text} |"


def _values(hint: Any) -> str:
    """What an option takes: its choices, or the kind of value; nothing for a switch."""
    if typing.get_origin(hint) is typing.Literal:
        return ", ".join(f"`{choice}`" for choice in typing.get_args(hint))
    inner = [each for each in typing.get_args(hint) if each is not type(None)]
    if inner:
        return _values(inner[0])
    return {bool: "", int: "NUMBER", float: "NUMBER", Path: "PATH"}.get(hint, "TEXT")


def recipes() -> str:
    """Every key of every kind of recipe, from the schema."""
    from langadapt.recipes.authoring import KINDS

    lines = [
        "# Recipe keys",
        "`langadapt languages schema` prints the same as a JSON Schema, which editors check YAML files with.",
    ]
    done: set[str] = set()
    for kind, model in KINDS.items():
        schema = model.model_json_schema()
        for name, part in ({kind: schema} | schema.get("$defs", {})).items():
            if name not in done and "properties" in part:
                done.add(name)
                what = f"A {kind} recipe" if name == kind else name
                lines += [f"## {what}", _cell(part.get("description", ""))]
                required = set(part.get("required", ()))
                rows = [
                    _row(key, _schema_type(value), value, key in required)
                    for key, value in part["properties"].items()
                ]
                lines.append("| key | values | default | |\n|---|---|---|---|\n" + "\n".join(rows))
    return "\n\n".join(lines) + "\n"


def _row(key: str, values: str, schema: dict[str, Any], required: bool) -> str:
    default = schema.get("default")
    shown = (
        "required"
        if required
        else ""
        if default is None or isinstance(default, dict)
        else _cell(f"`{default}`")
    )
    return f"| `{key}` | {values} | {shown} | {_cell(schema.get('description', ''))} |"


def _schema_type(part: dict[str, Any]) -> str:
    """Values of a key, in words."""
    if "$ref" in part:
        name = part["$ref"].rpartition("/")[2]
        return f"[{name}](#{name.lower()})"
    for key in ("anyOf", "oneOf", "allOf"):
        if key in part:
            return ", or ".join(dict.fromkeys(_schema_type(item) for item in part[key]))
    if "const" in part:
        return f"`{part['const']}`"
    if "enum" in part:
        return ", ".join(f"`{value}`" for value in part["enum"])
    if part.get("type") == "array":
        items = part.get("items") or {}
        return f"list of {_schema_type(items)}" if items else "list"
    names = {
        "string": "text",
        "integer": "whole number",
        "object": "table",
        "boolean": "`true`, `false`",
        "null": "`null`",
    }
    return names.get(str(part.get("type")), str(part.get("type", "any")))


def json_keys() -> str:
    """Keys of what `--json` prints and of the files of a run, from the classes that hold them."""
    from langadapt.cleaning import rules
    from langadapt.doctor import verdict
    from langadapt.evaluation import retrieval
    from langadapt.hub import check
    from langadapt.metrics import classification
    from langadapt.models import artifact, translator
    from langadapt.search import update
    from langadapt.training import log, run

    facts = (
        "`distill --json`, `tune --json`, `align --json`, `artifact.json`: `training`",
        str(inspect.getdoc(run.train)).partition("\n\n")[2],
    )
    shown: list[tuple[str, type[Any]]] = [
        ("`eval --json`, `scores.json`: each of `cards`", retrieval.ScoreCard),
        (
            "`eval --classify --json`, `prompts --json`: scores of a method",
            classification.ClassificationScores,
        ),
        ("`data translate --json`: `scores`", translator.TranslationScores),
        ("`artifact.json`: `teacher` and `text_model`", artifact.BaseModel),
        ("`artifact.json`: each of `data`", artifact.DataSource),
        ("`log.jsonl`: lines of kind `step`", log.StepLog),
        ("`doctor --json`", verdict.Findings),
        ("`doctor --json`: `verdict`", verdict.Verdict),
        ("`data build --json`", rules.BuildReport),
        ("`index --json`", update.Update),
        ("`languages check --json`: each item", check.Checked),
    ]
    lines = [
        "# JSON keys",
        "These keys are stable. Times are in seconds, scores in percent unless a key says otherwise.",
        "Score cards also have means, and `retention`: see [README](../README.md#what-a-score-says).",
    ]
    lines += [f"## {facts[0]}", textwrap.dedent(facts[1])]
    done: set[type[Any]] = set()
    while shown:
        where, kind = shown.pop(0)
        lines.append(f"## {where}" if where.startswith("`") else f"### {where}")
        lines += [_cell(inspect.getdoc(kind) or ""), _fields(kind)]
        done.add(kind)
        known = done | {each for _, each in shown}
        inner = [each for hint in typing.get_type_hints(kind).values() for each in _classes(hint)]
        shown[:0] = [(each.__name__, each) for each in dict.fromkeys(inner) if each not in known]
    return "\n\n".join(lines) + "\n"


def _classes(hint: Any) -> Iterator[type[Any]]:
    if dataclasses.is_dataclass(hint) and isinstance(hint, type):
        yield hint
    for inner in typing.get_args(hint):
        yield from _classes(inner)


def _fields(kind: type[Any]) -> str:
    rows = [f"| `{name}` | {_cell(f'`{hint}`')} | {_cell(note)} |" for name, hint, note in _attributes(kind)]
    return "| key | type | |\n|---|---|---|\n" + "\n".join(rows)


def _attributes(kind: type[Any]) -> Iterator[tuple[str, str, str]]:
    """Name, type and the text below it of each field of a class."""
    (node,) = ast.parse(textwrap.dedent(inspect.getsource(kind))).body
    assert isinstance(node, ast.ClassDef)
    for line, below in zip(node.body, [*node.body[1:], None], strict=True):
        if isinstance(line, ast.AnnAssign) and isinstance(line.target, ast.Name):
            note = (
                below.value.value
                if isinstance(below, ast.Expr) and isinstance(below.value, ast.Constant)
                else ""
            )
            yield line.target.id, ast.unparse(line.annotation), inspect.cleandoc(str(note))


def python() -> str:
    """What `langadapt` exports; mkdocstrings fills in signatures and docstrings."""
    import langadapt

    own = [getattr(langadapt, name) for name in sorted(langadapt.__all__) if name != "__version__"]
    more = ["langadapt.training.run.RunOptions", "langadapt.evaluation.retrieval.ScoreCard"]
    names = [
        *(f"{each.__module__}.{each.__name__}" for each in own),
        *more,
        "langadapt.errors.LangadaptError",
    ]
    note = "All but the last three are names of `langadapt` itself: `langadapt.distill(...)`."
    return f"# Python\n\n{note}\n\n" + "".join(f"::: {name}\n\n" for name in names)


def _cell(value: object) -> str:
    """Text in a cell of a Markdown table; what stands between backticks stays as it is."""
    parts = " ".join(str(value).split()).split("`")
    parts[::2] = [part.replace("|", "\\|").replace("<", "&lt;").replace("[", "\\[") for part in parts[::2]]
    return "`".join(parts)
