"""What a drawn scene contains, how one is sampled, and which combinations are kept for testing."""

from __future__ import annotations

import hashlib
import itertools
import random
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from typing import Literal, get_args

Shape = Literal[
    "ball", "star", "house", "car", "boat", "cup", "fish", "flower",
    "tree", "umbrella", "hat", "book", "bell", "chair", "butterfly", "cat",
]  # fmt: skip
Colour = Literal["red", "blue", "green", "yellow", "purple", "orange", "white", "black"]
Size = Literal["small", "large"]
Relation = Literal["left", "above"]
Place = Literal["top", "bottom", "left", "right"]
Background = Literal["meadow", "sea", "desert", "night", "snow", "sunset", "mountains", "city"]

SHAPES: tuple[Shape, ...] = get_args(Shape)
COLOURS: tuple[Colour, ...] = get_args(Colour)
SIZES: tuple[Size, ...] = get_args(Size)
RELATIONS: tuple[Relation, ...] = get_args(Relation)
BACKGROUNDS: tuple[Background, ...] = get_args(Background)
PLACES: dict[Relation, tuple[Place, ...]] = {"left": ("top", "bottom"), "above": ("left", "right")}

_HELD_OUT_ONE_IN = 8
Pair = tuple[tuple[Shape, Colour], tuple[Shape, Colour]]


@dataclass(frozen=True, kw_only=True)
class Thing:
    """One kind of object: one to three copies of a shape in one colour.

    Args:
        shape: What it is.
        colour: The colour of all its copies.
        count: Number of copies, 1 to 3.
        size: Only for a single object; None where several are drawn or the size is not stated.
    """

    shape: Shape
    colour: Colour
    count: int = 1
    size: Size | None = None

    def __post_init__(self) -> None:
        if not 1 <= self.count <= 3:
            raise ValueError(f"count: expected 1 to 3, got {self.count}")
        if self.count > 1 and self.size is not None:
            raise ValueError("size: belongs to single objects only")


@dataclass(frozen=True, kw_only=True)
class Scene:
    """A picture before it is drawn: one thing, or `first` left of (or above) `second` and perhaps a third.

    Args:
        first: The only thing, or the left or upper one.
        background: Where it all happens.
        second: The right or lower thing.
        relation: `left` or `above`, read from first to second; given exactly when there is a second.
        third: An optional further thing.
        place: The edge where the third thing stands; given exactly when there is a third.
        seed: Chooses the small shifts and the details of the background; no caption mentions them.
    """

    first: Thing
    background: Background
    second: Thing | None = None
    relation: Relation | None = None
    third: Thing | None = None
    place: Place | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        if (self.second is None) != (self.relation is None):
            raise ValueError("relation: belongs to the second thing, give both or neither")
        if self.third is not None and self.second is None:
            raise ValueError("third: needs a second thing")
        if (self.third is None) != (self.place is None):
            raise ValueError("place: belongs to the third thing, give both or neither")

    @property
    def things(self) -> tuple[Thing, ...]:
        """One to three things in order."""
        return tuple(thing for thing in (self.first, self.second, self.third) if thing)

    @property
    def combination(self) -> frozenset[tuple[Shape, Colour]]:
        """The set of (shape, colour) the scene is made of."""
        return frozenset((thing.shape, thing.colour) for thing in self.things)


def pairs(combination: frozenset[tuple[Shape, Colour]]) -> Iterator[Pair]:
    """All unordered pairs of (shape, colour) within a combination, each in sorted order."""
    yield from itertools.combinations(sorted(combination), 2)


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
    return any(pair_is_held_out(pair) for pair in pairs(scene.combination))


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
        if is_held_out(scene) and scene.combination not in seen:
            seen.add(scene.combination)
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
