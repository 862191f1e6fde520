"""Imports point down, lazy ones included, and some things occur nowhere."""

import ast
from collections.abc import Iterator
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

import langadapt

PACKAGE = Path(langadapt.__file__).parent
# Lowest first; what stands in one line does not import one another.
LAYERS = [
    {"errors"},
    {"files"},
    {"recipes"},
    {"nn", "metrics"},
    {"data"},
    {"cleaning"},
    {"models"},
    {"training"},
    {"evaluation"},
    {"export", "search"},
    {"hub"},
    {"doctor"},
    {"quickstart"},
    {"api"},
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


@pytest.fixture(scope="module")
def trees() -> dict[str, ast.AST]:
    return {module: ast.parse(path.read_text("utf-8")) for module, path in MODULES.items()}


@pytest.fixture(scope="module")
def graph(trees: dict[str, ast.AST]) -> dict[str, set[str]]:
    return {
        module: set(imports(tree, module, is_package=MODULES[module].name == "__init__.py"))
        for module, tree in trees.items()
    }


def layer(module: str) -> str | None:
    """The part of the package that a module belongs to; None for the package's own `__init__`."""
    parts = module.split(".")
    return parts[1] if len(parts) > 1 else None


def test_every_part_has_its_layer(graph: dict[str, set[str]]) -> None:
    assert len(FILES) > 50
    assert {layer(module) for module in MODULES} - {None} <= LEVEL.keys()
    assert sum(map(len, graph.values())) > 100, "the imports were found"


def test_imports_point_down(graph: dict[str, set[str]]) -> None:
    wrong = []
    for module, needs in graph.items():
        own = layer(module)
        if own is None:  # the package's `__init__` sets the version, which all may import
            continue
        targets = {other: layer(other) for other in needs}
        wrong += [
            f"{module} imports {other}"
            for other, target in targets.items()
            if target not in (None, own) and LEVEL[target] >= LEVEL[own]
        ]
    assert not wrong


def test_no_module_needs_itself(graph: dict[str, set[str]]) -> None:
    # A package's `__init__` only gathers names: who imports the package means one of its modules.
    modules = {module: needs for module, needs in graph.items() if MODULES[module].name != "__init__.py"}
    TopologicalSorter(modules).prepare()


def misdeeds(tree: ast.AST) -> Iterator[tuple[int, str]]:
    """Lines with what no file of the package does."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            called = ast.unparse(node.func)
            if called in ("print", "torch.load", "eval", "exec"):
                yield node.lineno, f"{called}("
            if called.endswith((".resolve", ".expanduser")) and not called.startswith("os.path."):
                yield node.lineno, "raises for loops of links or nobody's home: use files/paths.py"
            for keyword in node.keywords:
                if keyword.arg == "trust_remote_code" and ast.unparse(keyword.value) == "True":
                    yield node.lineno, "trust_remote_code"
        elif isinstance(node, ast.ExceptHandler):
            caught = "everything" if node.type is None else ast.unparse(node.type)
            if {"everything", "Exception", "BaseException"} & set(
                caught.strip("()").replace(",", " ").split()
            ):
                yield node.lineno, f"except {caught}"
        elif isinstance(node, ast.Import | ast.ImportFrom):
            named = (
                [alias.name for alias in node.names] if isinstance(node, ast.Import) else [node.module or ""]
            )
            if {name.split(".")[0] for name in named} & {"pickle", "dill", "joblib"}:
                yield node.lineno, "pickles"
            if {name.split(".")[0] for name in named} & {"tools", "tests", "benchmarks"}:
                yield node.lineno, "not in the wheel"


def test_what_occurs_nowhere(trees: dict[str, ast.AST]) -> None:
    found = [(module, line, what) for module, tree in trees.items() for line, what in misdeeds(tree)]
    # `models convert` reads pickled weights when it is asked to: only tensors, in a process of its own.
    rest = [item for item in found if item[0] != "langadapt.models.convert"]
    assert [f"{MODULES[module]}:{line}: {what}" for module, line, what in rest] == []
    assert sorted(what for *_, what in found) == ["pickles", "torch.load("]
    loads = [
        {keyword.arg: ast.unparse(keyword.value) for keyword in node.keywords}
        for node in ast.walk(trees["langadapt.models.convert"])
        if isinstance(node, ast.Call) and ast.unparse(node.func) == "torch.load"
    ]
    assert [said["weights_only"] for said in loads] == ["True"]


@pytest.mark.parametrize(
    "line",
    [
        "print(1)", "torch.load('x')", "eval('1')", "f(trust_remote_code=True)", "import pickle",
        "from joblib import load", "Path('x').resolve()", "from tools.embedded_world import plans",
        "try: pass\nexcept (ValueError, Exception): pass", "try: pass\nexcept: pass",
    ],
)  # fmt: skip
def test_they_are_found(line: str) -> None:
    assert len(list(misdeeds(ast.parse(line)))) == 1
