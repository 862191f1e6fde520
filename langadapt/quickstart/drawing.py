"""A scene becomes a picture."""

from __future__ import annotations

import random

from PIL import Image

from langadapt.quickstart.backgrounds import VARIANTS, landscape
from langadapt.quickstart.scenes import Place, Relation, Scene, Thing
from langadapt.quickstart.shapes import sprite

SIZE_PIXELS = 128
_JITTER_PIXELS = 3
_SINGLE_PIXELS = {"small": (32, 34), "large": (58, 60)}
_SEVERAL_PIXELS = {2: (33, 34), 3: (31, 32)}
_PAIR_CENTRES: dict[Relation, tuple[tuple[int, int], tuple[int, int]]] = {
    "left": ((32, 64), (96, 64)),
    "above": ((64, 32), (64, 96)),
}
_TRIPLE_CENTRES: dict[Place, tuple[tuple[int, int], tuple[int, int], tuple[int, int]]] = {
    "top": ((32, 96), (96, 96), (64, 32)),
    "bottom": ((32, 32), (96, 32), (64, 96)),
    "left": ((96, 32), (96, 96), (32, 64)),
    "right": ((32, 32), (32, 96), (96, 64)),
}


def draw(scene: Scene) -> Image.Image:
    """Draw a scene; the same scene always gives the same pixels.

    Args:
        scene: What to draw.

    Returns:
        An RGB image of 128 by 128 pixels.
    """
    rng = random.Random(scene.seed)
    image = landscape(scene.background, rng.randrange(VARIANTS), SIZE_PIXELS).copy()
    for thing, (x, y) in zip(scene.things, _centres(scene, rng), strict=True):
        shift_x, shift_y = (rng.randint(-_JITTER_PIXELS, _JITTER_PIXELS) for _ in range(2))
        _place(image, thing, x + shift_x, y + shift_y, rng)
    return image


def _centres(scene: Scene, rng: random.Random) -> tuple[tuple[int, int], ...]:
    if scene.place is not None:
        return _TRIPLE_CENTRES[scene.place]
    if scene.relation is not None:
        return _PAIR_CENTRES[scene.relation]
    return ((rng.choice((32, 64, 96)), rng.choice((32, 64, 96))),)


def _place(image: Image.Image, thing: Thing, x: int, y: int, rng: random.Random) -> None:
    if thing.count == 1:
        size = rng.choice(_SINGLE_PIXELS[thing.size or "large"])
    else:
        size = rng.choice(_SEVERAL_PIXELS[thing.count])
    picture = sprite(thing.shape, thing.colour, size)
    for dx, dy in {1: ((0, 0),), 2: ((-15, 8), (15, -8)), 3: ((0, -14), (-15, 14), (15, 14))}[thing.count]:
        left, top = x + dx - size // 2, y + dy - size // 2
        left = min(max(left, 0), SIZE_PIXELS - size)
        top = min(max(top, 0), SIZE_PIXELS - size)
        image.paste(picture, (left, top), picture)
