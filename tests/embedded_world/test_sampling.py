"""Held-out combinations: no training scene holds the combination of a test scene."""

import itertools
import random
from itertools import islice

from langadapt.quickstart.shapes import Scene
from tools.embedded_world.sampling import BACKGROUNDS, COLOURS, SHAPES, held_out_scenes, training_scenes

Items = list[tuple[str, str]]


def _items(scene: Scene) -> Items:
    return [(thing.shape, thing.colour) for thing in scene.things]


def test_no_training_scene_holds_the_combination_of_a_test_scene_even_as_a_part() -> None:
    training = [set(_items(scene)) for scene in islice(training_scenes(random.Random(1)), 4_000)]
    for scene in islice(held_out_scenes(random.Random(2)), 300):
        combination = set(_items(scene))
        assert not any(combination <= seen for seen in training)


def test_the_two_kinds_of_scenes_are_told_apart_by_pairs_alone() -> None:
    def pairs(scene: Scene) -> set[frozenset[tuple[str, str]]]:
        return {frozenset(pair) for pair in itertools.combinations(_items(scene), 2)}

    trained = set().union(*(pairs(scene) for scene in islice(training_scenes(random.Random(3)), 20_000)))
    for scene in islice(held_out_scenes(random.Random(4)), 500):
        assert pairs(scene) - trained, "every test scene has a pair that training never shows"
    possible = len(SHAPES) * (len(SHAPES) - 1) // 2 * len(COLOURS) ** 2
    assert 0.8 * possible < len(trained) < 0.9 * possible, "one pair in eight is kept"


def test_test_scenes_differ_in_their_combination() -> None:
    scenes = list(islice(held_out_scenes(random.Random(5)), 1_000))
    assert len({frozenset(_items(scene)) for scene in scenes}) == 1_000


def test_training_shows_every_shape_in_every_colour_and_every_background() -> None:
    scenes = list(islice(training_scenes(random.Random(6)), 4_000))
    shown = {item for scene in scenes for item in _items(scene)}
    assert shown == set(itertools.product(SHAPES, COLOURS))
    assert {scene.background for scene in scenes} == set(BACKGROUNDS)
