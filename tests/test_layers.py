"""Imports point down, lazy ones included, and some things occur nowhere."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

import langadapt

PACKAGE = Path(langadapt.__file__).parent
# Lowest first; what stands in one line does not import one another.
LAYERS = [
    {"errors", "progress", "stopping"},
    {"recipes"},
    {"nn", "metrics"},
    {"data"},
    {"models"},
    {"evaluation", "training"},
    {"export", "search"},
    {"hub"},
    {"doctor"},
    {"quickstart"},
    {"cli"},
    {"__main__"},
]
LEVEL = {name: level for level, names in enumerate(LAYERS) for name in names}
FILES = sorted(PACKAGE.rglob("*.py"))
MODULES = {
    ".".join(("langadapt", *path.relative_to(PACKAGE).with_suffix("").parts)).removesuffix(".__init__"): path
    for path in FILES
}


def imports(tree: ast.AST, module: str, *, is_package: bool) -> Iterator[str]:
    """Modules of this package that a file imports, wherever in it the import stands."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (name for alias in node.names if (name := alias.name).split(".")[0] == "langadapt")
        elif isinstance(node, ast.ImportFrom):
            above = module.split(".")[: len(module.split(".")) - node.level + is_package]
            source = (
                ".".join([*above, *([node.module] if node.module else [])]) if node.level else node.module
            )
            if source and source.split(".")[0] == "langadapt":
                for alias in node.names:
                    inner = f"{source}.{alias.name}"
                    yield inner if inner in MODULES else source


GRAPH = {
    module: sorted(
        set(imports(ast.parse(path.read_text("utf-8")), module, is_package=path.name == "__init__.py"))
    )
    for module, path in MODULES.items()
}


def layer(module: str) -> str | None:
    """The part of the package that a module belongs to; None for the package's own `__init__`."""
    parts = module.split(".")
    return parts[1] if len(parts) > 1 else None


def test_every_part_has_its_layer() -> None:
    assert len(FILES) > 50
    assert {layer(module) for module in MODULES} - {None} <= LEVEL.keys()
    assert sum(map(len, GRAPH.values())) > 100, "the imports were found"


@pytest.mark.parametrize("module", [name for name in MODULES if layer(name)])
def test_imports_point_down(module: str) -> None:
    own = layer(module)
    assert own is not None
    for other in GRAPH[module]:
        target = layer(other)
        if target is None:
            # The version, which the package's `__init__` sets before it imports anything.
            continue
        assert target == own or LEVEL[target] < LEVEL[own], f"{module} imports {other}"


def test_no_module_needs_itself() -> None:
    # A package's `__init__` only gathers names: who imports the package means one of its modules.
    graph = {module: needs for module, needs in GRAPH.items() if MODULES[module].name != "__init__.py"}
    TopologicalSorter(graph).prepare()


def code(path: Path) -> ast.AST:
    return ast.parse(path.read_text("utf-8"))


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_what_occurs_nowhere(path: Path) -> None:
    for node in ast.walk(code(path)):
        if isinstance(node, ast.Call):
            called = ast.unparse(node.func)
            assert called not in ("print", "torch.load", "eval", "exec"), f"{path}:{node.lineno}: {called}("
            for keyword in node.keywords:
                if keyword.arg == "trust_remote_code":
                    assert ast.unparse(keyword.value) != "True", f"{path}:{node.lineno}"
        elif isinstance(node, ast.ExceptHandler):
            caught = "everything" if node.type is None else ast.unparse(node.type)
            assert not {"everything", "Exception", "BaseException"} & set(
                caught.strip("()").replace(",", " ").split()
            ), f"{path}:{node.lineno}: except {caught}"
        elif isinstance(node, ast.Import):
            names = {alias.name.split(".")[0] for alias in node.names}
            assert not names & {"pickle", "dill", "joblib"}, f"{path}:{node.lineno}"
        elif isinstance(node, ast.ImportFrom):
            assert node.module not in ("pickle", "dill", "joblib"), f"{path}:{node.lineno}"


def test_command_line_starts_without_torch() -> None:
    """`--help` answers at once: whatever is slow is imported by the command that needs it."""
    code = "import sys, langadapt.cli; sys.exit('torch' in sys.modules or 'transformers' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
