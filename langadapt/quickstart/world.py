"""Write the embedded world into a folder: photos, captions, parallel sentences, models, recipes."""

import gzip
import io
import json
import os
import random
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, get_args

from PIL import ImageEnhance

from langadapt.errors import DataError
from langadapt.files.json import parse_json, read_json
from langadapt.quickstart.drawing import draw
from langadapt.quickstart.shapes import PALETTE, Background, Scene, Thing
from langadapt.recipes import read_yaml

VERSION = 2
CAPTIONS_PER_SCENE = 2
"""Captions of a held-out scene, by different people."""
_SHIPPED = Path(__file__).parent
WEIGHTS = _SHIPPED / "weights"
SENTENCES = _SHIPPED / "sentences"
TARGETS = tuple(sorted(path.stem for path in (_SHIPPED / "recipes").glob("*.yaml")))
_MANIFEST = "world.json"
_CAPTIONED = ("image", "caption", "english")


@dataclass(frozen=True, kw_only=True)
class HeldOutRow:
    """A held-out scene and what each language says about it."""

    image: str
    scene: Scene
    captions: dict[str, tuple[str, ...]]
    """By language code; the nth captions of all languages state the same facts."""


def held_out_rows(count: int = 1_000) -> Iterator[HeldOutRow]:
    """Read the test set: held-out scenes with captions in English and every target language."""
    yield from _described("held_out", count)


def _described(name: str, count: int) -> Iterator[HeldOutRow]:
    with gzip.open(SENTENCES / f"{name}.jsonl.gz", "rt", encoding="utf-8") as file:
        for row in map(parse_json, islice(file, count)):
            values: dict[str, Any] = row["scene"]
            things = {key: Thing(**value) for key, value in values.items() if isinstance(value, dict)}
            captions = {language: tuple(texts) for language, texts in row["captions"].items()}
            yield HeldOutRow(image=row["image"], scene=Scene(**values | things), captions=captions)


def parallel_rows(language: str, count: int) -> Iterator[tuple[str, str]]:
    """Read up to 16,000 pairs of an English and a target sentence: the same facts in different words."""
    with gzip.open(SENTENCES / f"{language}.tsv.gz", "rt", encoding="utf-8") as file:
        for line in islice(file, count):
            english, target = line.rstrip("\n").split("\t")
            yield english, target


def write_world(folder: Path, *, parallel: int = 16_000, tests: int = 1_000) -> Path:
    """Write what ordinary recipes need, `parallel` pairs a language; a complete folder is left alone.

    Files appear under their final names only when whole, the manifest `world.json` last. A folder that holds
    something else is a DataError.
    """
    manifest = {"version": VERSION, "parallel": parallel, "tests": tests}
    path, begun = folder / _MANIFEST, folder / f"{_MANIFEST}.begun"
    with suppress(OSError, ValueError):
        if read_json(path) == manifest:
            return folder
    if folder.is_dir() and any(folder.iterdir()) and not (path.is_file() or begun.is_file()):
        raise DataError(f"{folder} is not empty and holds no drawn world; choose another --folder")
    _write(begun, b"")
    path.unlink(missing_ok=True)
    rows = list(held_out_rows(tests))
    for row in rows:
        _write_picture(folder / "photos" / row.image, row.scene)
    english = ((row.image, text) for row in rows for text in row.captions["en"])
    _write_table(folder / "test.en.tsv", ("image", "caption"), english)
    for language in TARGETS:
        _write_table(folder / f"test.{language}.tsv", _CAPTIONED, _captioned(rows, language))
        sentences = parallel_rows(language, parallel)
        _write_table(folder / f"parallel.en-{language}.tsv", ("english", "target"), sentences)
        recipe = _SHIPPED / "recipes" / f"{language}.yaml"
        _write(folder / recipe.name, recipe.read_bytes())
        texts = data_recipe_texts(language, read_yaml(recipe)["name"], parallel=parallel, tests=tests)
        for name, text in texts.items():
            _write(folder / name, text.encode())
    for source in sorted(WEIGHTS.glob("*/*")):
        _write(folder / "models" / source.relative_to(WEIGHTS), source.read_bytes())
    _write(path, json.dumps(manifest).encode())
    begun.unlink()
    return folder


def write_tour(folder: Path, language: str, *, pairs: int = 400, train: int = 8, test: int = 8) -> None:
    """Write what the stages with images need into a world: training scenes with captions, and classes.

    `pairs.LANGUAGE.tsv` with `scenes/`. A domain: half of the scenes in half the light, `dusk.LANGUAGE.tsv`
    with `dusk/`, and as many held-out ones, `dusk-test.LANGUAGE.tsv` with `dusk-test/`. `shapes/train` and
    `shapes/test` with a folder for each shape, `shapes.LANGUAGE.txt` with their names. Test scenes and their
    combinations of objects and colours are not among what trains.
    """
    rows = list(_described("tour", pairs))
    dusk, unseen = rows[pairs // 2 :], list(held_out_rows(pairs // 2))
    for place, shown, light in (("scenes", rows, 1.0), ("dusk", dusk, 0.5), ("dusk-test", unseen, 0.5)):
        for row in shown:
            _write_picture(folder / place / row.image, row.scene, light)
    for name, kept in (("pairs", rows), ("dusk", dusk), ("dusk-test", unseen)):
        _write_table(folder / f"{name}.{language}.tsv", _CAPTIONED, _captioned(kept, language))
    lines = []
    with gzip.open(SENTENCES / "tour_classes.jsonl.gz", "rt", encoding="utf-8") as file:
        for item in map(parse_json, file):
            shape, names = item["shape"], item["names"]
            lines.append(f"{shape}\t{names[language]}\t{names['en']}\n")
            draws = random.Random(f"tour {shape}")
            for number in range(train + test):
                thing = Thing(shape=shape, colour=draws.choice([*PALETTE]), size="large")
                scene = Scene(first=thing, background=draws.choice(get_args(Background)), seed=number)
                split = "train" if number < train else "test"
                _write_picture(folder / "shapes" / split / shape / f"{number:02d}.png", scene)
    _write(folder / f"shapes.{language}.txt", "".join(lines).encode())


def data_recipe_texts(code: str, name: str, *, parallel: int, tests: int) -> dict[str, str]:
    """Return the recipes of a language's parallel sentences and of its test set, as YAML by file name."""
    return {
        f"parallel.en-{code}.yaml": f"""name: parallel.en-{code}
title: Embedded world, English and {name}
language: {code}
licence: Apache-2.0
source:
  kind: files
  paths: [parallel.en-{code}.tsv]
expected_rows: {parallel}
""",
        f"test.{code}.yaml": f"""name: test.{code}
title: Embedded world, held-out scenes in {name}
language: {code}
licence: Apache-2.0
captions: [test.{code}.tsv]
images: photos
columns:
  english: english
expected_images: {tests}
expected_captions: {CAPTIONS_PER_SCENE * tests}
""",
    }


def _captioned(rows: Iterable[HeldOutRow], language: str) -> Iterator[tuple[str, ...]]:
    for row in rows:
        for text, english in zip(row.captions[language], row.captions["en"], strict=True):
            yield row.image, text, english


def _write_picture(path: Path, scene: Scene, light: float = 1.0) -> None:
    picture = io.BytesIO()
    ImageEnhance.Brightness(draw(scene)).enhance(light).save(picture, format="png", compress_level=4)
    _write(path, picture.getvalue())


def _write_table(path: Path, header: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> None:
    lines = ("\t".join(row) for row in (header, *rows))
    _write(path, ("\n".join(lines) + "\n").encode())


def _write(path: Path, content: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    part.write_bytes(content)
    part.replace(path)
