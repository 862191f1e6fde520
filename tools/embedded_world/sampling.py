"""Sample scenes, and keep some combinations of objects and colours for testing."""

import hashlib
import itertools
import random
from collections.abc import Iterator
from functools import cache
from typing import get_args

from langadapt.quickstart.shapes import Background, Colour, Place, Relation, Scene, Shape, Size, Thing

SHAPES: tuple[Shape, ...] = get_args(Shape)
COLOURS: tuple[Colour, ...] = get_args(Colour)
SIZES: tuple[Size, ...] = get_args(Size)
RELATIONS: tuple[Relation, ...] = get_args(Relation)
BACKGROUNDS: tuple[Background, ...] = get_args(Background)
PLACES: dict[Relation, tuple[Place, ...]] = {"left": ("top", "bottom"), "above": ("left", "right")}
_HELD_OUT_ONE_IN = 8
Pair = tuple[tuple[Shape, Colour], tuple[Shape, Colour]]


def combination(scene: Scene) -> frozenset[tuple[Shape, Colour]]:
    """The set of (shape, colour) that a scene is made of."""
    return frozenset((thing.shape, thing.colour) for thing in scene.things)


@cache
def pair_is_held_out(pair: Pair) -> bool:
    """Whether a pair of (shape, colour) is reserved for testing: one pair in eight, chosen by a hash."""
    text = "|".join(part for item in sorted(pair) for part in item)
    digest = hashlib.blake2b(text.encode(), digest_size=8, person=b"langadapt-world").digest()
    return int.from_bytes(digest, "big") % _HELD_OUT_ONE_IN == 0


def is_held_out(scene: Scene) -> bool:
    """Whether a scene may only be used for testing.

    A scene is held out when it contains at least one held-out pair. Training scenes contain none, so the
    combination of a test scene never occurs in training, not even as a part of a larger scene.
    """
    return any(pair_is_held_out(pair) for pair in itertools.combinations(sorted(combination(scene)), 2))


def training_scenes(rng: random.Random) -> Iterator[Scene]:
    """Endless scenes without any held-out pair."""
    while True:
        scene = _sample_scene(rng)
        if not is_held_out(scene):
            yield scene


def held_out_scenes(rng: random.Random) -> Iterator[Scene]:
    """Held-out scenes, every one with another combination, so that objects and colours identify it."""
    seen: set[frozenset[tuple[Shape, Colour]]] = set()
    while True:
        scene = _sample_scene(rng)
        if is_held_out(scene) and (shown := combination(scene)) not in seen:
            seen.add(shown)
            yield scene


def _sample_scene(rng: random.Random) -> Scene:
    shapes = rng.sample(SHAPES, rng.choice((1, 2, 2, 3, 3)))
    things = [_sample_thing(shape, rng) for shape in shapes]
    relation = rng.choice(RELATIONS)
    return Scene(
        first=things[0],
        background=rng.choice(BACKGROUNDS),
        second=things[1] if len(things) > 1 else None,
        relation=relation if len(things) > 1 else None,
        third=things[2] if len(things) > 2 else None,
        place=rng.choice(PLACES[relation]) if len(things) > 2 else None,
        seed=rng.getrandbits(32),
    )


def _sample_thing(shape: Shape, rng: random.Random) -> Thing:
    count = rng.choice((1, 1, 1, 2, 3))
    return Thing(
        shape=shape,
        colour=rng.choice(COLOURS),
        count=count,
        size=rng.choice(SIZES) if count == 1 else None,
    )
