"""What a command imports before its arguments are checked, and how many modules it needs."""

import json
import subprocess
import sys

import pytest

from langadapt.cli.app import _COMMANDS

pytestmark = pytest.mark.slow

# Each command with something that the user must mend: (arguments, words of the message).
WRONG = {
    "quickstart": "--lang xx",
    "doctor": "--lang xx",
    "distill": "--lang xx",
    "distill --state-cache": "--lang zh --state-cache much",
    "tune": "--run nowhere --pairs nowhere.tsv",
    "domain": "--run nowhere --pairs nowhere.tsv",
    "align": "--pairs nowhere.tsv",
    "prompts": "nowhere nowhere",
    "eval": "nowhere",
    "compare": "nowhere elsewhere",
    "classify": "nowhere nowhere",
    "index": "nowhere --model nowhere",
    "search": "nowhere text --model nowhere",
    "demo": "nowhere --model nowhere",
    "serve": "nowhere --model nowhere",
    "encode": "nowhere nowhere.txt",
    "export": "nowhere --format onnx",
    "publish": "nowhere --out new",
    "languages show": "xx",
    "languages new": "Shona",
    "languages schema": "--kind pair",
    "languages check": "xx",
    "languages list": "--script Ethiopic",
    "models convert": "nowhere --out new",
    "data build": "--lang xx",
    "data check": "nowhere.tsv",
    "data translate": "nowhere.tsv --lang de --model nowhere --out x.txt",
}
PROGRAM = """
import contextlib, io, json, os, sys
from langadapt.cli import main

def run(name, arguments):
    sys.argv = ["langadapt", *name.partition(" --")[0].split(), *arguments.split()]
    code, err = 0, io.StringIO()
    with contextlib.redirect_stderr(err), contextlib.redirect_stdout(io.StringIO()):
        try:
            main()
        except SystemExit as stop:
            code = stop.code
    heavy = sorted({"torch", "transformers"} & set(sys.modules))
    print(json.dumps([name, code, heavy, err.getvalue()]), flush=True)

for name, arguments in json.loads(sys.argv[1]).items():
    if os.fork() == 0:  # each with no more imports than the others
        try:
            run(name, arguments)
        finally:
            os._exit(0)
    os.wait()
"""


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list]:
    call = [sys.executable, "-c", PROGRAM, json.dumps(WRONG)]
    folder = tmp_path_factory.mktemp("nowhere")
    done = subprocess.run(call, capture_output=True, text=True, check=True, cwd=folder)
    return {name: found for name, *found in map(json.loads, done.stdout.splitlines())}


@pytest.mark.parametrize("name", WRONG)
def test_arguments_are_checked_before_torch_is_imported(name: str, results: dict[str, list]) -> None:
    code, heavy, err = results[name]
    assert (code, heavy) == (2, []), err


def test_every_command_is_tried() -> None:
    assert {name.split()[0] for name in WRONG} == set(_COMMANDS)


def imported(arguments: str) -> set[str]:
    """Modules that are there after a command, which stops at a fault behind its imports or at its help."""
    program = (
        "import sys\n"
        "from langadapt.cli import main\n"
        f"sys.argv = ['langadapt', *{arguments.split()!r}]\n"
        "try:\n    main()\n"
        "except SystemExit:\n    pass\n"
        "sys.stderr.write('\\n' + ' '.join(sys.modules))\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    return set(done.stderr.splitlines()[-1].split())


def test_help_imports_nothing_slow() -> None:
    assert not imported("--help") & {"torch", "transformers", "numpy", "pydantic", "langadapt.recipes"}


def test_distilling_needs_few_modules() -> None:
    modules = imported("distill --lang zh --device toaster")
    assert "langadapt.training.distill" in modules
    assert len([name for name in modules if name.partition(".")[0] == "langadapt"]) <= 80
