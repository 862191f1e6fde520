"""Tiny real models, made once a session; `lab` tests skip without LANGADAPT_LAB.

Fixtures import what they need themselves: the process that only hands out tests starts 8 seconds sooner.
"""

import importlib.util
import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from chromium import Browser

# Before torch is imported. Tiny models: more threads only wait for each other, here and in what tests start.
os.environ["OMP_NUM_THREADS"] = "1"
# The same numbers on every processor; what bfloat16 changes is asked by tests that set it themselves.
os.environ["LANGADAPT_PRECISION"] = "float32"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if "mteb" in item.keywords and importlib.util.find_spec("mteb") is None:
            item.add_marker(pytest.mark.skip(reason="pip install -c constraints.txt -e '.[mteb]'"))
    if os.environ.get("LANGADAPT_LAB"):
        return
    for item in items:
        if "lab" in item.keywords:
            item.add_marker(pytest.mark.skip(reason="set LANGADAPT_LAB to the lab kit's folder"))


@pytest.fixture(autouse=True, scope="session")
def _no_cache_of_the_user(tmp_path_factory: pytest.TempPathFactory) -> None:
    os.environ["LANGADAPT_CACHE"] = str(tmp_path_factory.getbasetemp() / "cache")


@pytest.fixture(autouse=True)
def _own_cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LANGADAPT_CACHE", str(tmp_path_factory.getbasetemp() / "cache"))
    monkeypatch.delenv("LANGADAPT_DATA", raising=False)
    monkeypatch.setattr("langadapt.files.fetch._FIRST_WAIT_SECONDS", 0.01)


@pytest.fixture(scope="session")
def teacher_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A CLIPModel of width 32 with random weights, its tokenizer and image processor."""
    from tiny_models import make_teacher

    return make_teacher(tmp_path_factory.mktemp("models") / "teacher")


@pytest.fixture(scope="session")
def text_model_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An XLM-R of width 32 with random weights and its tokenizer, which knows both languages."""
    from tiny_models import make_text_model

    return make_text_model(tmp_path_factory.mktemp("models") / "text-model")


@pytest.fixture(scope="session")
def unigram_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An XLM-R of width 32 whose tokenizer is XLM-R's own and knows no letter of a second language."""
    from tiny_models import make_unigram_text_model

    return make_unigram_text_model(tmp_path_factory.mktemp("models") / "unigram")


@pytest.fixture(scope="session")
def vision_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A narrow MobileNetV2 with random weights: an image encoder without Transformer layers."""
    from tiny_models import make_vision

    return make_vision(tmp_path_factory.mktemp("models") / "vision")


@pytest.fixture(scope="session")
def language_folder(
    tmp_path_factory: pytest.TempPathFactory, teacher_folder: Path, text_model_folder: Path
) -> Path:
    """A user's own folder: recipe es.yaml, parallel data, twelve pictures with captions as a test set."""
    from tiny_models import make_language

    return make_language(tmp_path_factory.mktemp("es"), teacher_folder, text_model_folder)


@pytest.fixture(scope="session")
def marian_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A translation model with random weights: what it says means nothing, and is always the same."""
    from tiny_marian import make_marian

    return make_marian(tmp_path_factory.mktemp("marian"), languages=())


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> "Iterator[Browser]":
    """A headless Chromium of this module's own."""
    from chromium import chromium, find_chromium

    program = find_chromium()
    if program is None:
        pytest.skip("no Chromium here: apt-get install chromium, or set LANGADAPT_CHROMIUM")
    with chromium(program, tmp_path_factory.mktemp("chromium") / "profile") as found:
        yield found
