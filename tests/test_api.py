"""The commands as functions: the examples of their docstrings, on the tiny language."""

import doctest
import json
from pathlib import Path

import pytest

import langadapt
from langadapt.errors import LangadaptError


def test_examples_of_the_docstrings(language_folder: Path, tmp_path: Path) -> None:
    shared = {
        "langadapt": langadapt,
        "recipe": str(language_folder / "es"),
        "folder": tmp_path,
        "table": language_folder / "parallel.tsv",
        "sides": {"caption": "target", "english": "english"},
        "fast": {"distill.epochs": 1, "distill.min_steps": 1},
    }
    runner, parser = doctest.DocTestRunner(), doctest.DocTestParser()
    for function in (langadapt.distill, langadapt.evaluate):
        test = parser.get_doctest(function.__doc__ or "", shared, function.__name__, None, None)
        assert test.examples
        assert runner.run(test, clear_globs=False).failed == 0
        shared |= test.globs
    cards = langadapt.evaluate(tmp_path / "run")
    kept = json.loads((tmp_path / "run" / "scores.json").read_text(encoding="utf-8"))
    assert [card["name"] for card in kept["cards"]] == [card.name for card in cards]
    done = langadapt.publish(tmp_path / "run", "me/clip-es", send=False, local_base_models=True)
    assert (done.commit, "adapter.safetensors" in done.sizes) == (None, True)
    with pytest.raises(LangadaptError, match="finished run"):
        langadapt.distill(shared["recipe"], tmp_path / "run", data=[shared["table"]], settings=shared["fast"])


def test_types_are_shipped() -> None:
    assert Path(langadapt.__file__).with_name("py.typed").is_file()
