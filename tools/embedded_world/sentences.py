"""Write the shipped sentences and test scenes: `python -m tools.embedded_world.sentences`.

Everything is drawn with fixed seeds: the same grammars always give the same sentences.
"""

import gzip
import json
import random
from collections.abc import Callable, Iterator
from dataclasses import asdict
from itertools import islice
from pathlib import Path
from typing import Any

from langadapt.quickstart.shapes import Scene
from langadapt.quickstart.world import CAPTIONS_PER_SCENE, SENTENCES, TARGETS, VERSION, HeldOutRow
from tools.embedded_world.authors import Author, Describer, Translator
from tools.embedded_world.captions import CAPTIONS, arabic, chinese, english, german, swahili
from tools.embedded_world.plans import sample_plan
from tools.embedded_world.sampling import SHAPES, held_out_scenes, training_scenes

PARALLEL_ROWS = 16_000
HELD_OUT_ROWS = 1_000
TOUR_ROWS = 400
_LOOSE = 0.05


def held_out_rows(count: int) -> Iterator[HeldOutRow]:
    """Compose the test set: held-out scenes with captions in every language, the same on every call."""
    yield from _described("test", held_out_scenes, count, CAPTIONS_PER_SCENE)


def tour_rows(count: int) -> Iterator[HeldOutRow]:
    """Compose training scenes with captions, for the tour's stages with images."""
    yield from _described("tour", training_scenes, count, 1)


def tour_classes() -> Iterator[str]:
    """Name each shape in every language: the tour's classes."""
    for shape in SHAPES:
        names = {
            "en": english.NOUNS[shape][0],
            "ar": arabic.NOUNS[shape][0].singular,
            "de": german.NOUNS[shape][0].singular,
            "sw": swahili.NOUNS[shape][0].singular,
            "zh": chinese.NOUNS[shape][0][1],
        }
        yield json.dumps({"shape": shape, "names": names}, ensure_ascii=False) + "\n"


def _described(
    purpose: str, draw_scenes: Callable[[random.Random], Iterator[Scene]], count: int, each: int
) -> Iterator[HeldOutRow]:
    scenes, facts = _draws(f"{purpose} scenes"), _draws(f"{purpose} facts")
    words = {language: Describer(_seed(f"{purpose} words {language}")) for language in CAPTIONS}
    for number, scene in enumerate(islice(draw_scenes(scenes), count)):
        plans = [sample_plan(scene, facts) for _ in range(each)]
        captions = {
            language: tuple(caption(plan, words[language]) for plan in plans)
            for language, caption in CAPTIONS.items()
        }
        yield HeldOutRow(image=f"{number:04d}.png", scene=scene, captions=captions)


def parallel_rows(language: str, count: int) -> Iterator[tuple[str, str]]:
    """Compose (English, target) pairs about training scenes only, the same on every call.

    One translation in twenty is loose: it leaves out and adds other facts about the scene than the English.
    """
    scenes, facts = _draws(f"parallel scenes {language}"), _draws(f"parallel facts {language}")
    loose, english = _draws(f"parallel loose {language}"), Author(_seed(f"parallel words en {language}"))
    target = Translator(_seed(f"parallel words {language}"))
    for scene in islice(training_scenes(scenes), count):
        plan = sample_plan(scene, facts)
        translated = sample_plan(scene, loose) if loose.random() < _LOOSE else plan
        yield CAPTIONS["en"](plan, english), CAPTIONS[language](translated, target)


def _draws(purpose: str) -> random.Random:
    """Return a generator for one purpose: a new paraphrase in one language moves nothing else."""
    return random.Random(_seed(purpose))


def _seed(purpose: str) -> str:
    return f"langadapt world {VERSION}: {purpose}"


def shipped_texts() -> dict[str, str]:
    """Return what the compressed files hold, by file name."""
    tests, tour = map(_lines, (held_out_rows(HELD_OUT_ROWS), tour_rows(TOUR_ROWS)))
    tables = {
        f"{language}.tsv.gz": "".join(
            f"{one}\t{two}\n" for one, two in parallel_rows(language, PARALLEL_ROWS)
        )
        for language in TARGETS
    }
    images = {"tour.jsonl.gz": tour, "tour_classes.jsonl.gz": "".join(tour_classes())}
    return {"held_out.jsonl.gz": tests, **images, **tables}


def _lines(rows: Iterator[HeldOutRow]) -> str:
    values = ({**asdict(row), "scene": _plain(row.scene)} for row in rows)
    return "".join(json.dumps(row, ensure_ascii=False, separators=(",", ":")) + "\n" for row in values)


def _plain(scene: Scene) -> dict[str, Any]:
    return asdict(scene, dict_factory=lambda items: {key: value for key, value in items if value is not None})


def write_sentences(folder: Path) -> None:
    """Write every compressed file; equal texts give equal bytes where zlib is the same."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in shipped_texts().items():
        (folder / name).write_bytes(gzip.compress(text.encode(), compresslevel=9, mtime=0))


if __name__ == "__main__":
    write_sentences(SENTENCES)
