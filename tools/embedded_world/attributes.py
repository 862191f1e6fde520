"""Classification sets of drawn scenes: which thing, how many, how large, where, what colour, left of what."""

import hashlib
import io
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from langadapt.files.atomic import write_text
from langadapt.quickstart.drawing import draw
from langadapt.quickstart.shapes import Scene, Shape, Size, Thing
from tools.embedded_world.captions import chinese, english
from tools.embedded_world.sampling import BACKGROUNDS, COLOURS, SHAPES

Split = Literal["train", "test", "dev-train", "dev-test"]
"""Both `dev` parts are halves of `train`: choices are made there, with a shift as large as that to `test`."""
_COUNTED: tuple[Shape, ...] = ("ball", "star", "boat", "fish", "cat")
_SIZED: tuple[Shape, ...] = ("house", "cup", "flower", "hat", "bell", "chair", "car", "tree")
_RELATED: tuple[tuple[Shape, Shape], ...] = (
    ("cat", "ball"), ("boat", "star"), ("tree", "house"), ("hat", "book"),
)  # fmt: skip
_TEST_ONE_IN = 2


@dataclass(frozen=True, kw_only=True)
class AttributeClass:
    """One class: its folder, its name in Chinese and in English, and how a scene of it is drawn."""

    folder: str
    chinese: str
    english: str
    scene: Callable[[random.Random], Scene]


def attribute_sets() -> dict[str, tuple[AttributeClass, ...]]:
    """All sets by name."""
    return {
        "shapes": tuple(_shape(shape) for shape in SHAPES),
        "colours": tuple(_colour(place) for place in range(len(COLOURS))),
        "places": tuple(_place(place) for place in range(len(BACKGROUNDS))),
        "counts": tuple(_count(shape, count) for shape in _COUNTED for count in (1, 2, 3)),
        "sizes": tuple(_size(shape, size) for shape in _SIZED for size in ("small", "large")),
        "relations": tuple(
            _relation(*pair, vertical=vertical)
            for one, other in _RELATED
            for pair in ((one, other), (other, one))
            for vertical in (False, True)
        ),
    }


def attribute_scenes(item: AttributeClass, split: Split, rng: random.Random) -> Iterator[Scene]:
    """Endless scenes of a class; what the class leaves open is drawn by lot.

    Colours, shapes, numbers and background together make a combination. Each combination belongs to training
    or to testing, by a hash: no test picture shows a combination that a training picture shows.
    """
    while True:
        scene = item.scene(rng)
        if split in splits_of(scene):
            yield scene


def splits_of(scene: Scene) -> tuple[Split, ...]:
    """Testing, or training and a half of it, by a hash of everything in the scene but its seed."""
    things = [f"{thing.count} {thing.size} {thing.colour} {thing.shape}" for thing in scene.things]
    text = "|".join([*things, str(scene.relation), scene.background])
    digest = hashlib.blake2b(text.encode(), digest_size=8, person=b"attribute-split").digest()
    rest, place = divmod(int.from_bytes(digest, "big"), _TEST_ONE_IN)
    return ("test",) if place == 0 else ("train", "dev-test" if rest % 2 else "dev-train")


def write_attribute_set(
    folder: Path, name: str, *, train: int = 24, test: int = 20, seed: int = 0, dev: bool = False
) -> Path:
    """Draws a set: `train/CLASS/*.png`, `test/CLASS/*.png` and `classes.zh.txt` with English names.

    Args:
        folder: created if missing; the set's folder inside it has its name.
        name: a key of `attribute_sets`.
        train: pictures of each class to choose shots from.
        test: pictures of each class to score.
        seed: other seeds draw other pictures of the same combinations.
        dev: take both from the training combinations, each from another half of them.

    Returns:
        The set's folder.
    """
    place = folder / name
    classes = attribute_sets()[name]
    lines = "".join(f"{item.folder}\t{item.chinese}\t{item.english}\n" for item in classes)
    if (place / "classes.zh.txt").is_file():
        return place
    splits: tuple[tuple[Literal["train", "test"], int], ...] = (("train", train), ("test", test))
    for item in classes:
        for split, count in splits:
            drawn: Split = split if not dev else "dev-train" if split == "train" else "dev-test"
            scenes = attribute_scenes(item, drawn, random.Random(f"{name} {item.folder} {split} {seed}"))
            (place / split / item.folder).mkdir(parents=True, exist_ok=True)
            for number in range(count):
                picture = io.BytesIO()
                draw(next(scenes)).save(picture, format="png", compress_level=4)
                (place / split / item.folder / f"{number:03d}.png").write_bytes(picture.getvalue())
    write_text(place / "classes.zh.txt", lines)  # last: the set is whole when it is there
    return place


def _single(rng: random.Random, thing: Thing, *, background: int | None = None) -> Scene:
    where = rng.choice(BACKGROUNDS) if background is None else BACKGROUNDS[background]
    return Scene(first=thing, background=where, seed=rng.getrandbits(32))


def _shape(shape: Shape) -> AttributeClass:
    noun = english.NOUNS[shape][0]
    return AttributeClass(
        folder=shape,
        chinese=chinese.NOUNS[shape][0][1],
        english=_one(noun),
        scene=lambda rng: _single(rng, Thing(shape=shape, colour=rng.choice(COLOURS), size="small")),
    )


def _colour(place: int) -> AttributeClass:
    colour = COLOURS[place]
    return AttributeClass(
        folder=colour,
        chinese=chinese.COLOURS[colour][0],
        english=colour,
        scene=lambda rng: _single(rng, Thing(shape=rng.choice(SHAPES), colour=colour, size="large")),
    )


def _place(place: int) -> AttributeClass:
    background = BACKGROUNDS[place]
    return AttributeClass(
        folder=background,
        chinese=chinese.BACKDROPS[background],
        english=background,
        scene=lambda rng: _single(
            rng, Thing(shape=rng.choice(SHAPES), colour=rng.choice(COLOURS), size="large"), background=place
        ),
    )


def _count(shape: Shape, count: int) -> AttributeClass:
    measure, noun = chinese.NOUNS[shape][0]
    said = english.NOUNS[shape][count > 1]
    return AttributeClass(
        folder=f"{shape}-{count}",
        chinese=f"{chinese.NUMBERS[count]}{measure}{noun}",
        english=_one(said) if count == 1 else f"{english.NUMBERS[count]} {said}",
        scene=lambda rng: _single(rng, Thing(shape=shape, colour=rng.choice(COLOURS), count=count)),
    )


def _size(shape: Shape, size: Size) -> AttributeClass:
    measure, noun = chinese.NOUNS[shape][0]
    return AttributeClass(
        folder=f"{shape}-{size}",
        chinese=f"一{measure}{chinese.SIZES[size][0]}{noun}",
        english=f"a {size} {english.NOUNS[shape][0]}",
        scene=lambda rng: _single(rng, Thing(shape=shape, colour=rng.choice(COLOURS), size=size)),
    )


def _relation(one: Shape, other: Shape, *, vertical: bool) -> AttributeClass:
    relation, direction = ("above", "上方") if vertical else ("left", "左边")
    said = (
        f"{_one(english.NOUNS[one][0])} {'above' if vertical else 'left of'} {_one(english.NOUNS[other][0])}"
    )

    def scene(rng: random.Random) -> Scene:
        colours = rng.sample(COLOURS, 2)
        return Scene(
            first=Thing(shape=one, colour=colours[0]),
            second=Thing(shape=other, colour=colours[1]),
            relation="above" if vertical else "left",
            background=rng.choice(BACKGROUNDS),
            seed=rng.getrandbits(32),
        )

    return AttributeClass(
        folder=f"{one}-{relation}-{other}",
        chinese=f"{chinese.NOUNS[other][0][1]}的{direction}有{chinese.NOUNS[one][0][1]}",
        english=said,
        scene=scene,
    )


def _one(noun: str) -> str:
    return f"{'an' if noun[0] in 'aeiou' else 'a'} {noun}"
