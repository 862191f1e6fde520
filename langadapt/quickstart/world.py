"""Writes the embedded world into a folder: pictures, test captions, parallel sentences, models, recipes."""

from __future__ import annotations

import io
import json
import os
import random
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from langadapt.quickstart.drawing import draw
from langadapt.quickstart.languages import CAPTIONS
from langadapt.quickstart.plans import sample_plan
from langadapt.quickstart.recipes import LANGUAGES, recipe_files
from langadapt.quickstart.scenes import Scene, held_out_scenes, training_scenes

VERSION = 1
WEIGHTS = Path(__file__).with_name("weights")
TARGETS = tuple(language for language in CAPTIONS if language != "en")
_MANIFEST = "world.json"


@dataclass(frozen=True, kw_only=True)
class HeldOutRow:
    """A held-out scene and what each language says about it.

    Args:
        image: File name of the picture.
        scene: What the picture shows.
        captions: One caption per language code; all state the same facts.
    """

    image: str
    scene: Scene
    captions: dict[str, str]


def held_out_rows(count: int = 1_000) -> Iterator[HeldOutRow]:
    """The test set: held-out scenes with captions in every language, the same on every call."""
    scenes, facts = _draws("test scenes"), _draws("test facts")
    words = {language: _draws(f"test words {language}") for language in CAPTIONS}
    for number, scene in enumerate(islice(held_out_scenes(scenes), count)):
        plan = sample_plan(scene, facts)
        captions = {language: caption(plan, words[language]) for language, caption in CAPTIONS.items()}
        yield HeldOutRow(image=f"{number:04d}.png", scene=scene, captions=captions)


def parallel_rows(language: str, count: int) -> Iterator[tuple[str, str]]:
    """Training sentences: the same facts in English and in another language, each in its own wording.

    Args:
        language: One of `TARGETS`.
        count: Number of rows.

    Returns:
        (English, target) pairs about training scenes only, the same on every call.
    """
    scenes, facts = _draws(f"parallel scenes {language}"), _draws(f"parallel facts {language}")
    english, target = _draws(f"parallel words en {language}"), _draws(f"parallel words {language}")
    for scene in islice(training_scenes(scenes), count):
        plan = sample_plan(scene, facts)
        yield CAPTIONS["en"](plan, english), CAPTIONS[language](plan, target)


def _draws(purpose: str) -> random.Random:
    """Draws of their own for each purpose: a new paraphrase in one language moves nothing else."""
    return random.Random(f"langadapt world {VERSION}: {purpose}")


def write_world(folder: Path, *, parallel: int = 16_000, tests: int = 1_000) -> Path:
    """Write everything that an ordinary recipe needs; does nothing if the folder is already complete.

    Files appear under their final names only when whole, the manifest `world.json` last.

    Args:
        folder: Created if missing.
        parallel: Rows of parallel text per language.
        tests: Number of test pictures.

    Returns:
        The folder.
    """
    manifest = {"version": VERSION, "parallel": parallel, "tests": tests}
    path = folder / _MANIFEST
    if path.is_file() and json.loads(path.read_text(encoding="utf-8")) == manifest:
        return folder
    path.unlink(missing_ok=True)
    (folder / "photos").mkdir(parents=True, exist_ok=True)
    rows = list(held_out_rows(tests))
    for row in rows:
        picture = io.BytesIO()
        draw(row.scene).save(picture, format="png", compress_level=4)
        _write(folder / "photos" / row.image, picture.getvalue())
    _write_table(
        folder / "test.en.tsv", ("image", "caption"), ((row.image, row.captions["en"]) for row in rows)
    )
    for language in TARGETS:
        _write_table(
            folder / f"test.{language}.tsv",
            ("image", "caption", "english"),
            ((row.image, row.captions[language], row.captions["en"]) for row in rows),
        )
        _write_table(
            folder / f"parallel.en-{language}.tsv", ("english", "target"), parallel_rows(language, parallel)
        )
        recipes = recipe_files(language, LANGUAGES[language], parallel=parallel, tests=tests)
        for name, text in recipes.items():
            _write(folder / name, text.encode())
    for source in sorted(WEIGHTS.glob("*/*")):
        target = folder / "models" / source.relative_to(WEIGHTS)
        target.parent.mkdir(parents=True, exist_ok=True)
        _write(target, source.read_bytes())
    _write(path, json.dumps(manifest).encode())
    return folder


def _write_table(path: Path, header: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> None:
    lines = ("\t".join(row) for row in (header, *rows))
    _write(path, ("\n".join(lines) + "\n").encode())


def _write(path: Path, content: bytes) -> None:
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    part.write_bytes(content)
    part.replace(path)
