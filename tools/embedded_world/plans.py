"""Which facts about a scene a caption states; shared by all languages of one row."""

import random
from dataclasses import dataclass, replace
from typing import Literal

from langadapt.quickstart.shapes import Background, Place, Relation, Scene, Thing

Direction = Literal["left", "right", "above", "below"]
OPPOSITES: dict[Relation, Direction] = {"left": "right", "above": "below"}


@dataclass(frozen=True, kw_only=True)
class Plan:
    """The facts that every caption of a row states, in whatever words and order its language likes.

    None means that a fact is not mentioned. `first` is left of (or above) `second` when there is a relation.
    """

    first: Thing
    second: Thing | None = None
    relation: Relation | None = None
    third: Thing | None = None
    place: Place | None = None
    background: Background | None = None

    def __post_init__(self) -> None:
        if self.relation is not None and self.second is None:
            raise ValueError("relation: belongs to the second thing")
        if self.place is not None and self.third is None:
            raise ValueError("place: belongs to the third thing")


@dataclass(frozen=True, kw_only=True)
class Statement:
    """One way round of a relation: `subject` is left of, right of, above or below `landmark`."""

    subject: Thing
    direction: Direction
    landmark: Thing


def statement(plan: Plan, rng: random.Random) -> Statement | None:
    """Read a plan's relation from one end or the other; None if the plan states no relation."""
    if plan.second is None or plan.relation is None:
        return None
    if rng.random() < 0.5:
        return Statement(subject=plan.first, direction=plan.relation, landmark=plan.second)
    return Statement(subject=plan.second, direction=OPPOSITES[plan.relation], landmark=plan.first)


def unrelated(plan: Plan, rng: random.Random) -> list[Thing]:
    """First and second thing in any order, for captions that do not relate them."""
    things = [plan.first] if plan.second is None else [plan.first, plan.second]
    return rng.sample(things, len(things))


def sample_plan(scene: Scene, rng: random.Random) -> Plan:
    """Choose what to say: all things, colours and counts; most sizes, positions and backgrounds."""
    return Plan(
        first=_perhaps_sized(scene.first, rng),
        second=_perhaps_sized(scene.second, rng) if scene.second else None,
        relation=scene.relation if rng.random() < 0.9 else None,
        third=_perhaps_sized(scene.third, rng) if scene.third else None,
        place=scene.place if rng.random() < 0.75 else None,
        background=scene.background if rng.random() < 0.9 else None,
    )


def _perhaps_sized(thing: Thing, rng: random.Random) -> Thing:
    return thing if rng.random() < 0.7 else replace(thing, size=None)
