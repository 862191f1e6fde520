"""Scenes become pictures."""

import hashlib

import pytest

from langadapt.quickstart.drawing import draw
from langadapt.quickstart.shapes import Scene, Thing


def test_a_scene_is_always_drawn_with_the_same_pixels() -> None:
    scene = Scene(
        first=Thing(shape="cat", colour="red", size="large"),
        second=Thing(shape="tree", colour="blue", count=3),
        relation="left",
        background="snow",
        seed=11,
    )
    digest = hashlib.sha256(draw(scene).tobytes()).hexdigest()
    assert hashlib.sha256(draw(scene).tobytes()).hexdigest() == digest
    mirrored = Scene(
        first=scene.things[1], second=scene.first, relation="left", background="snow", seed=scene.seed
    )
    assert hashlib.sha256(draw(mirrored).tobytes()).hexdigest() != digest


@pytest.mark.parametrize(
    ("relation", "red_half"), [("left", (0, 0, 64, 128)), ("above", (0, 0, 128, 64))], ids=["left", "above"]
)
def test_the_first_thing_is_drawn_on_the_side_that_the_relation_names(
    relation: str, red_half: tuple[int, int, int, int]
) -> None:
    scene = Scene(
        first=Thing(shape="ball", colour="red", size="large"),
        second=Thing(shape="ball", colour="blue", size="large"),
        relation=relation,  # type: ignore[arg-type]
        background="snow",
    )
    picture = draw(scene)

    def reds(box: tuple[int, int, int, int]) -> int:
        pixels = picture.crop(box).tobytes()
        return sum(
            pixels[i] > 150 and pixels[i + 1] < 90 and pixels[i + 2] < 90 for i in range(0, len(pixels), 3)
        )

    assert reds(red_half) > 500
    assert reds(red_half) > 0.95 * reds((0, 0, 128, 128))


def test_size_and_count_are_visible() -> None:
    def coloured(thing: Thing) -> int:
        pixels = draw(Scene(first=thing, background="snow")).tobytes()
        return sum(pixels[i] > 150 and pixels[i + 1] < 90 for i in range(0, len(pixels), 3))

    small = coloured(Thing(shape="star", colour="red", size="small"))
    large = coloured(Thing(shape="star", colour="red", size="large"))
    two = coloured(Thing(shape="star", colour="red", count=2))
    three = coloured(Thing(shape="star", colour="red", count=3))
    assert large > 2 * small
    assert three > 1.2 * two > 1.2 * small


def test_a_thing_of_several_has_no_size() -> None:
    with pytest.raises(ValueError, match="size"):
        Thing(shape="cat", colour="red", count=2, size="large")
