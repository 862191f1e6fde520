"""One Python file that loads an export without langadapt, made of langadapt's own source files."""

import ast
from importlib.resources import files

from langadapt import __version__

MODULE_FILE, MODULE_CLASS = "langadapt_module.py", "LanguageAndImages"
_PARTS = (
    "nn/adapter.py",
    "nn/peft_modules.py",
    "models/towers.py",
    "models/vocabulary.py",
    "export/module.py",
)
_HEAD = f'''"""Texts of a language and images in one space, for sentence-transformers, without langadapt.

Made of the source files of langadapt {__version__}, in this order: {", ".join(_PARTS)}.
Licence: Apache-2.0.
"""

from types import SimpleNamespace as AdapterSpec  # the adapter's shape, as langadapt_module.json has it
'''


def module_source() -> str:
    """The text of `langadapt_module.py`."""
    return "\n".join([_HEAD, *(_section(name) for name in _PARTS)])


def _section(name: str) -> str:
    """A source file without its docstring and without imports of the files that stand before it."""
    text = files("langadapt").joinpath(name).read_text(encoding="utf-8")
    lines = text.splitlines(keepends=True)
    tree = ast.parse(text)
    docstring, *_ = tree.body
    gone = [docstring] + [
        node
        for node in tree.body
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("langadapt")
    ]
    for node in gone:
        assert node.end_lineno is not None
        for number in range(node.lineno - 1, node.end_lineno):
            lines[number] = ""
    return f"# ---- {name}\n" + "".join(lines)
