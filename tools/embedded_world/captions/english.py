"""English captions."""

import random

from langadapt.quickstart.shapes import Background, Place, Shape, Size, Thing
from tools.embedded_world.plans import Direction, Plan, statement, unrelated

NOUNS: dict[Shape, tuple[str, str]] = {
    "ball": ("ball", "balls"),
    "star": ("star", "stars"),
    "house": ("house", "houses"),
    "car": ("car", "cars"),
    "boat": ("boat", "boats"),
    "cup": ("cup", "cups"),
    "fish": ("fish", "fish"),
    "flower": ("flower", "flowers"),
    "tree": ("tree", "trees"),
    "umbrella": ("umbrella", "umbrellas"),
    "hat": ("hat", "hats"),
    "book": ("book", "books"),
    "bell": ("bell", "bells"),
    "chair": ("chair", "chairs"),
    "butterfly": ("butterfly", "butterflies"),
    "cat": ("cat", "cats"),
}
SIZES: dict[Size, tuple[str, ...]] = {"small": ("small", "little"), "large": ("large", "big")}
NUMBERS = {2: "two", 3: "three"}
BACKGROUNDS: dict[Background, tuple[str, ...]] = {
    "meadow": ("in a meadow", "on the grass"),
    "sea": ("at sea", "on the sea"),
    "desert": ("in the desert", "on desert sand"),
    "night": ("at night", "under a night sky"),
    "snow": ("in the snow", "in a snowy landscape"),
    "sunset": ("at sunset", "under a sunset sky"),
    "mountains": ("in the mountains", "in front of mountains"),
    "city": ("in the city", "in front of a city skyline"),
}
RELATIONS: dict[Direction, tuple[str, ...]] = {
    "left": ("to the left of", "left of"),
    "right": ("to the right of", "right of"),
    "above": ("above", "over"),
    "below": ("below", "under"),
}
SIDES: dict[Direction, tuple[str, str]] = {
    "left": ("on the left", "on the right"),
    "right": ("on the right", "on the left"),
    "above": ("at the top", "at the bottom"),
    "below": ("at the bottom", "at the top"),
}
PLACES: dict[Place, tuple[str, ...]] = {
    "top": ("at the top", "at the upper edge"),
    "bottom": ("at the bottom", "at the lower edge"),
    "left": ("on the left", "on the left side"),
    "right": ("on the right", "on the right side"),
}


def caption(plan: Plan, rng: random.Random) -> str:
    """Word a plan in English.

    Args:
        plan: The facts to state.
        rng: Chooses among the paraphrases.

    Returns:
        One sentence.
    """
    background = rng.choice(BACKGROUNDS[plan.background]) if plan.background else ""
    text = _core(plan, rng)
    position = rng.choice(("front", "middle", "end")) if plan.third else rng.choice(("front", "middle"))
    if background and position == "front":
        text = f"{background}, {text}"
    if background and position == "middle":
        text = f"{text} {background}"
    text += _tail(plan, rng)
    if background and position == "end":
        text = f"{text}, {background}"
    return f"{text[0].upper()}{text[1:]}."


def _core(plan: Plan, rng: random.Random) -> str:
    told = statement(plan, rng)
    if told is None:
        things = unrelated(plan, rng)
        opening = rng.choice(("", f"there {_is(things[0])} "))
        return opening + " and ".join(_phrase(thing, rng) for thing in things)
    if rng.random() < 0.2:
        here, there = SIDES[told.direction]
        return f"{_phrase(told.subject, rng)} {here} and {_phrase(told.landmark, rng)} {there}"
    one, other, words = told.subject, told.landmark, rng.choice(RELATIONS[told.direction])
    kind = rng.choice(("plain", "there", "definite"))
    if kind == "definite":
        return f"{_phrase(one, rng, definite=True)} {_is(one)} {words} {_phrase(other, rng, definite=True)}"
    opening = f"there {_is(one)} " if kind == "there" else ""
    return f"{opening}{_phrase(one, rng)} {words} {_phrase(other, rng)}"


def _tail(plan: Plan, rng: random.Random) -> str:
    if plan.third is None:
        return ""
    phrase = _phrase(plan.third, rng)
    if plan.place is None:
        return f", {rng.choice(('with', 'and also', 'together with'))} {phrase}"
    place = rng.choice(PLACES[plan.place])
    return rng.choice((f", with {phrase} {place}", f", and {place} {phrase}", f", and {phrase} {place}"))


def _phrase(thing: Thing, rng: random.Random, *, definite: bool = False) -> str:
    words = [NUMBERS[thing.count]] if thing.count > 1 else []
    if thing.size:
        words.append(rng.choice(SIZES[thing.size]))
    words += [thing.colour, NOUNS[thing.shape][thing.count > 1]]
    if definite:
        return " ".join(("the", *words))
    if thing.count == 1:
        words.insert(0, "an" if words[0][0] in "aeiou" else "a")
    return " ".join(words)


def _is(thing: Thing) -> str:
    return "are" if thing.count > 1 else "is"
