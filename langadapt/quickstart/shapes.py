"""How each object is drawn: flat, sticker-like shapes in a box of 100 by 100 units."""

import math
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

from PIL import Image, ImageDraw, ImageFilter

Rgb = tuple[int, int, int]
Colour = Literal["red", "blue", "green", "yellow", "purple", "orange", "white", "black"]

PALETTE: dict[Colour, Rgb] = {
    "red": (222, 38, 44),
    "blue": (32, 88, 226),
    "green": (28, 158, 62),
    "yellow": (252, 216, 34),
    "purple": (140, 50, 186),
    "orange": (250, 130, 16),
    "white": (246, 246, 246),
    "black": (34, 34, 38),
}

INK: Rgb = (52, 50, 58)
PAPER: Rgb = (255, 255, 250)
WOOD: Rgb = (126, 84, 50)
_OVERSAMPLING = 4
_MARGIN_UNITS = 8


class Pen:
    """Draws in units of 1/100 of the box; `fill` is the object's colour, `shade` darker, `tint` lighter."""

    def __init__(self, *, draw: ImageDraw.ImageDraw, scale: float, fill: Rgb) -> None:
        self._draw, self._scale, self.fill = draw, scale, fill
        self.shade = mix(fill, (0, 0, 0), 0.28)
        self.tint = mix(fill, (255, 255, 255), 0.45)

    def polygon(self, colour: Rgb, *points: tuple[float, float]) -> None:
        """Fill a polygon given by its corners."""
        self._draw.polygon([self._at(*point) for point in points], fill=colour)

    def ellipse(self, colour: Rgb, *box: float) -> None:
        """Fill the ellipse inside (left, top, right, bottom)."""
        self._draw.ellipse(self._at(*box), fill=colour)

    def box(self, colour: Rgb, *box: float, radius: float = 0) -> None:
        """Fill a rectangle, with round corners if a radius is given."""
        self._draw.rounded_rectangle(self._at(*box), radius=radius * self._scale, fill=colour)

    def arc(self, colour: Rgb, *box: float, start: int, end: int, width: float) -> None:
        """Draw a part of an ellipse's outline; angles in degrees, clockwise from three o'clock."""
        self._draw.arc(self._at(*box), start, end, fill=colour, width=round(width * self._scale))

    def slice(self, colour: Rgb, *box: float, start: int, end: int) -> None:
        """Fill a slice of an ellipse; angles in degrees, clockwise from three o'clock."""
        self._draw.pieslice(self._at(*box), start, end, fill=colour)

    def line(self, colour: Rgb, *points: tuple[float, float], width: float) -> None:
        """Draw a line through points."""
        ends = [self._at(*point) for point in points]
        self._draw.line(ends, fill=colour, width=round(width * self._scale), joint="curve")

    def _at(self, *numbers: float) -> tuple[float, ...]:
        return tuple((number + _MARGIN_UNITS) * self._scale for number in numbers)


Shape = Literal[
    "ball", "star", "house", "car", "boat", "cup", "fish", "flower",
    "tree", "umbrella", "hat", "book", "bell", "chair", "butterfly", "cat",
]  # fmt: skip


class Drawing(Pen):
    """What a shape looks like: the method of its name."""

    def ball(self) -> None:
        self.ellipse(self.fill, 4, 4, 96, 96)
        self.slice(self.shade, 4, 4, 96, 96, start=60, end=120)
        self.slice(self.shade, 4, 4, 96, 96, start=180, end=240)
        self.slice(self.shade, 4, 4, 96, 96, start=300, end=360)
        self.ellipse(self.tint, 40, 40, 60, 60)

    def star(self) -> None:
        points = [_around(50, 54, 54 if i % 2 == 0 else 23, -90 + 36 * i) for i in range(10)]
        self.polygon(self.fill, *points)

    def house(self) -> None:
        self.box(self.shade, 70, 8, 82, 40)
        self.box(self.fill, 14, 46, 86, 98)
        self.polygon(self.shade, (50, 2), (100, 50), (0, 50))
        self.box(INK, 42, 66, 60, 98)
        self.box(PAPER, 22, 58, 36, 74)
        self.box(PAPER, 66, 58, 80, 74)

    def car(self) -> None:
        self.polygon(self.fill, (20, 48), (32, 20), (70, 20), (84, 48))
        self.box(self.fill, 0, 44, 100, 76, radius=10)
        self.polygon(PAPER, (29, 46), (37, 27), (49, 27), (49, 46))
        self.polygon(PAPER, (54, 46), (54, 27), (66, 27), (75, 46))
        for x in (12, 64):
            self.ellipse(INK, x, 62, x + 24, 86)
            self.ellipse(PAPER, x + 8, 70, x + 16, 78)

    def boat(self) -> None:
        self.line(WOOD, (48, 2), (48, 70), width=5)
        self.polygon(self.tint, (54, 6), (92, 60), (54, 60))
        self.polygon(self.fill, (43, 18), (43, 60), (12, 60))
        self.polygon(self.fill, (0, 66), (100, 66), (80, 96), (20, 96))
        self.polygon(self.shade, (0, 66), (100, 66), (95, 74), (5, 74))

    def cup(self) -> None:
        self.arc(self.fill, 54, 34, 98, 76, start=-100, end=110, width=10)
        self.box(self.fill, 10, 24, 72, 84, radius=12)
        self.ellipse(self.shade, 10, 16, 72, 34)
        self.box(self.shade, 4, 88, 82, 96, radius=4)

    def fish(self) -> None:
        self.polygon(self.shade, (62, 50), (100, 20), (92, 50), (100, 82))
        self.polygon(self.shade, (30, 30), (54, 12), (60, 34))
        self.ellipse(self.fill, 0, 24, 78, 78)
        self.ellipse(PAPER, 12, 38, 28, 54)
        self.ellipse(INK, 16, 42, 24, 50)
        self.arc(self.shade, 20, 30, 46, 72, start=-60, end=60, width=4)

    def flower(self) -> None:
        stem: Rgb = (44, 110, 52)
        self.line(stem, (50, 40), (50, 100), width=6)
        self.ellipse(stem, 52, 74, 80, 88)
        for degrees in range(0, 360, 60):
            x, y = _around(50, 36, 23, degrees - 90)
            self.ellipse(self.fill, x - 15, y - 15, x + 15, y + 15)
        self.ellipse(self.shade, 38, 24, 62, 48)

    def tree(self) -> None:
        self.polygon(WOOD, (43, 60), (57, 60), (62, 100), (38, 100))
        self.ellipse(self.shade, 6, 30, 56, 76)
        self.ellipse(self.shade, 44, 30, 94, 76)
        self.ellipse(self.fill, 18, 0, 82, 62)

    def umbrella(self) -> None:
        self.line(WOOD, (50, 10), (50, 90), width=6)
        self.arc(WOOD, 50, 80, 70, 100, start=0, end=180, width=6)
        self.slice(self.fill, 0, 6, 100, 106, start=180, end=360)
        self.slice(self.shade, 32, 6, 68, 106, start=180, end=360)
        self.line(self.fill, (50, 0), (50, 10), width=6)

    def hat(self) -> None:
        self.box(self.fill, 22, 8, 78, 78, radius=4)
        self.box(self.tint, 22, 54, 78, 68)
        self.box(self.fill, 0, 72, 100, 90, radius=9)

    def book(self) -> None:
        self.box(PAPER, 18, 10, 88, 96, radius=3)
        self.box(self.fill, 12, 2, 86, 84, radius=3)
        self.box(self.shade, 12, 2, 26, 98, radius=3)
        self.box(self.shade, 12, 92, 86, 98, radius=3)
        self.box(PAPER, 38, 18, 74, 26)
        self.box(PAPER, 38, 34, 64, 42)

    def bell(self) -> None:
        self.ellipse(self.shade, 40, 0, 60, 20)
        self.ellipse(self.shade, 38, 74, 62, 98)
        self.slice(self.fill, 20, 8, 80, 68, start=180, end=360)
        self.polygon(self.fill, (20, 36), (80, 36), (88, 74), (12, 74))
        self.box(self.shade, 4, 72, 96, 84, radius=6)

    def chair(self) -> None:
        for x in (22, 70):
            self.box(self.shade, x, 0, x + 9, 60)
            self.box(self.shade, x - 8 if x < 50 else x + 8, 60, x + 1 if x < 50 else x + 17, 100)
        self.box(self.fill, 22, 4, 79, 18)
        self.box(self.fill, 22, 26, 79, 38)
        self.polygon(self.fill, (20, 52), (80, 52), (92, 68), (8, 68))

    def butterfly(self) -> None:
        for left in (True, False):
            for colour, box in (
                (self.fill, (0, 6, 50, 56)),
                (self.fill, (10, 48, 48, 94)),
                (self.tint, (12, 20, 32, 40)),
                (self.shade, (22, 62, 36, 78)),
            ):
                x0, y0, x1, y1 = box
                self.ellipse(colour, *(box if left else (100 - x1, y0, 100 - x0, y1)))
        self.line(INK, (50, 24), (36, 2), width=3)
        self.line(INK, (50, 24), (64, 2), width=3)
        self.ellipse(INK, 45, 16, 55, 90)

    def cat(self) -> None:
        self.polygon(self.fill, (8, 52), (10, 0), (48, 28))
        self.polygon(self.fill, (92, 52), (90, 0), (52, 28))
        self.ellipse(self.fill, 4, 18, 96, 96)
        for x in (32, 68):
            self.ellipse(PAPER, x - 11, 40, x + 11, 62)
            self.ellipse(INK, x - 4, 41, x + 4, 61)
        self.polygon(self.shade, (43, 66), (57, 66), (50, 74))
        self.arc(self.shade, 36, 68, 50, 82, start=0, end=140, width=4)
        self.arc(self.shade, 50, 68, 64, 82, start=40, end=180, width=4)


@lru_cache(maxsize=4096)
def sprite(shape: Shape, colour: Colour, size_pixels: int) -> Image.Image:
    """Draw one antialiased object with a rim on a transparent RGBA square; cached, so do not change it."""
    side = size_pixels * _OVERSAMPLING
    image = Image.new("RGBA", (side, side))
    scale = side / (100 + 2 * _MARGIN_UNITS)
    getattr(Drawing(draw=ImageDraw.Draw(image), scale=scale, fill=PALETTE[colour]), shape)()
    rim = image.getchannel("A").filter(ImageFilter.MaxFilter(2 * _OVERSAMPLING - 1))
    sticker = Image.new("RGBA", image.size, mix(INK, PAPER, 0.35) if colour == "white" else PAPER)
    sticker.putalpha(rim)
    sticker.alpha_composite(image)
    return sticker.resize((size_pixels, size_pixels), Image.Resampling.BOX)


def mix(one: Rgb, other: Rgb, fraction: float) -> Rgb:
    """Blend two colours; 0 gives the first one."""
    red, green, blue = (round(a + (b - a) * fraction) for a, b in zip(one, other, strict=True))
    return red, green, blue


def _around(x: float, y: float, radius: float, degrees: float) -> tuple[float, float]:
    angle = math.radians(degrees)
    return x + radius * math.cos(angle), y + radius * math.sin(angle)


Size = Literal["small", "large"]
Relation = Literal["left", "above"]
Place = Literal["top", "bottom", "left", "right"]
Background = Literal["meadow", "sea", "desert", "night", "snow", "sunset", "mountains", "city"]


@dataclass(frozen=True, kw_only=True)
class Thing:
    """One kind of object: one to three copies of a shape in one colour; only a single one has a size."""

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

    `relation` belongs to the second thing, `place`, the edge where it stands, to the third. The seed chooses
    small shifts and the details of the background; no caption mentions them.
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
