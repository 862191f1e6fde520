"""What a drawn scene contains."""

from dataclasses import dataclass
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
