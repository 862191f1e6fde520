"""Draw a scene: a landscape, and the objects on it."""

import random
from functools import lru_cache

from PIL import Image, ImageDraw

from langadapt.quickstart.shapes import Background, Place, Relation, Rgb, Scene, Thing, mix, sprite

SIZE_PIXELS = 128
_VARIANTS = 8
_SIDE = 2 * SIZE_PIXELS  # landscapes are drawn twice as large
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
    """Draw a scene as 128 by 128 RGB pixels; the same scene always gives the same pixels."""
    rng = random.Random(scene.seed)
    image = _landscape(scene.background, rng.randrange(_VARIANTS)).copy()
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


@lru_cache(maxsize=128)
def _landscape(background: Background, variant: int) -> Image.Image:
    """Draw a variant of a background, 0 to `_VARIANTS` - 1; cached, so it must not be changed."""
    image = Image.new("RGB", (_SIDE, _SIDE))
    getattr(_Landscape(image, random.Random(f"{background}-{variant}")), background)()
    return image.resize((SIZE_PIXELS, SIZE_PIXELS), Image.Resampling.BOX)


class _Landscape(ImageDraw.ImageDraw):
    """A background, drawn by the method of its name; `rng` places its details."""

    def __init__(self, image: Image.Image, rng: random.Random) -> None:
        super().__init__(image)
        self.rng = rng

    def _fade(self, top: int, bottom: int, above: Rgb, below: Rgb) -> None:
        for y in range(top, bottom):
            part = (y - top) / max(1, bottom - top - 1)
            self.line((0, y, _SIDE, y), fill=mix(above, below, part))

    def _cloud(self, x: float, y: float) -> None:
        for dx, dy, radius in ((0, 0, 14), (16, -6, 18), (34, 0, 13)):
            self._disc(x + dx, y + dy, radius, (250, 252, 255))

    def _disc(self, x: float, y: float, radius: int, fill: Rgb) -> None:
        self.ellipse((x - radius, y - radius, x + radius, y + radius), fill=fill)

    def meadow(self) -> None:
        self._fade(0, 170, (150, 206, 244), (214, 238, 250))
        self._cloud(self.rng.randint(10, 200), self.rng.randint(24, 50))
        x = self.rng.randint(-40, 40)
        self.ellipse((x - 120, 110, x + 200, 320), fill=(136, 196, 92))
        self.ellipse((x + 60, 120, x + 420, 340), fill=(122, 184, 82))
        self.rectangle((0, 170, _SIDE, _SIDE), fill=(112, 176, 76))
        for _ in range(30):
            x, y = self.rng.randint(0, _SIDE), self.rng.randint(176, _SIDE)
            self.line((x, y, x + self.rng.randint(-4, 4), y - 10), fill=(84, 148, 58), width=3)

    def sea(self) -> None:
        self._fade(0, 100, (176, 222, 246), (232, 246, 252))
        self._fade(100, _SIDE, (74, 164, 206), (22, 94, 152))
        self._cloud(self.rng.randint(10, 200), self.rng.randint(24, 50))
        for _ in range(26):
            x, y = self.rng.randint(-10, _SIDE), self.rng.randint(110, _SIDE)
            self.arc((x, y, x + 22, y + 10), 180, 360, fill=(168, 218, 238), width=3)

    def desert(self) -> None:
        self._fade(0, 170, (166, 208, 232), (250, 232, 196))
        x = self.rng.randint(-40, 40)
        self.ellipse((x - 160, 96, x + 180, 330), fill=(232, 196, 130))
        self.ellipse((x + 60, 110, x + 460, 330), fill=(222, 182, 112))
        self.rectangle((0, 170, _SIDE, _SIDE), fill=(212, 170, 100))
        for _ in range(14):
            x, y = self.rng.randint(-20, _SIDE), self.rng.randint(176, _SIDE)
            self.arc((x, y, x + 50, y + 12), 190, 350, fill=(190, 146, 80), width=3)

    def night(self) -> None:
        self._fade(0, _SIDE, (12, 16, 48), (44, 50, 104))
        for _ in range(60):
            x, y, radius = self.rng.randint(0, _SIDE), self.rng.randint(0, 210), self.rng.choice((1, 1, 2))
            self._disc(x, y, radius, (226, 228, 250))
        x, y = self.rng.randint(40, 216), self.rng.randint(28, 50)
        self._disc(x, y, 20, (238, 234, 206))
        self.ellipse((x - 10, y - 26, x + 28, y + 12), fill=(20, 24, 60))
        self.rectangle((0, 222, _SIDE, _SIDE), fill=(20, 26, 44))

    def snow(self) -> None:
        self._fade(0, 186, (176, 190, 210), (216, 224, 236))
        x = self.rng.randint(-40, 40)
        self.ellipse((x - 100, 120, x + 240, 320), fill=(232, 238, 246))
        self.ellipse((x + 80, 130, x + 440, 330), fill=(224, 232, 242))
        self.rectangle((0, 186, _SIDE, _SIDE), fill=(238, 243, 250))
        for _ in range(60):
            x, y, radius = self.rng.randint(0, _SIDE), self.rng.randint(0, _SIDE), self.rng.choice((2, 3, 4))
            self._disc(x, y, radius, (255, 255, 255))

    def sunset(self) -> None:
        self._fade(0, 180, (128, 70, 138), (255, 176, 96))
        x = self.rng.randint(60, 196)
        self.ellipse((x - 38, 140, x + 38, 216), fill=(255, 226, 130))
        self.rectangle((0, 180, _SIDE, _SIDE), fill=(92, 52, 76))
        for _ in range(10):
            x, y = self.rng.randint(-20, _SIDE), self.rng.randint(190, _SIDE)
            self.line((x, y, x + self.rng.randint(20, 50), y), fill=(190, 106, 92), width=3)

    def mountains(self) -> None:
        self._fade(0, 190, (160, 196, 224), (226, 236, 242))
        for left, width, grey in ((-70, 210, 138), (60, 240, 118), (-10, 190, 102)):
            x, y = left + self.rng.randint(-16, 16), self.rng.randint(44, 80)
            mid = x + width // 2
            self.polygon(((x, 204), (mid, y), (x + width, 204)), fill=(grey, grey + 6, grey + 18))
            peak = ((mid - 22, y + 36), (mid, y), (mid + 22, y + 36), (mid, y + 26))
            self.polygon(peak, fill=(248, 250, 252))
        self.rectangle((0, 200, _SIDE, _SIDE), fill=(128, 142, 122))

    def city(self) -> None:
        self._fade(0, 220, (196, 200, 220), (244, 226, 216))
        x = -self.rng.randint(0, 30)
        while x < _SIDE:
            width, top, grey = self.rng.randint(34, 52), self.rng.randint(40, 120), self.rng.randint(120, 156)
            self.rectangle((x, top, x + width, 226), fill=(grey, grey - 4, grey + 10))
            for window_y in range(top + 10, 210, 20):
                for window_x in range(x + 7, x + width - 10, 14):
                    self.rectangle((window_x, window_y, window_x + 6, window_y + 9), fill=(250, 236, 190))
            x += width + 4
        self.rectangle((0, 222, _SIDE, _SIDE), fill=(92, 92, 100))
