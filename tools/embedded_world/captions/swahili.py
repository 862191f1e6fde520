"""Swahili captions: noun classes and the concords of adjectives, numerals, the `-a` link and the copula."""

import random
from dataclasses import dataclass

from langadapt.quickstart.shapes import Background, Colour, Place, Shape, Thing
from tools.embedded_world.plans import Direction, Plan, statement, unrelated


@dataclass(frozen=True, kw_only=True)
class Concord:
    """What a noun class asks of the words that agree with it.

    Args:
        before_e: Adjective prefix before a vowel, as in `m-w-ekundu`.
        large: The class's form of `-kubwa`.
        small: The class's form of `-dogo`.
        link: The `-a` of relation, as in `gari la bluu`.
        located: The locative copula, as in `gari liko`.
        numbers: The class's forms of two and three; plural classes only.
    """

    before_e: str
    large: str
    small: str
    link: str
    located: str
    numbers: tuple[str, str] = ("", "")


CONCORDS: dict[int, Concord] = {
    1: Concord(before_e="mw", large="mkubwa", small="mdogo", link="wa", located="yuko"),
    2: Concord(
        before_e="w", large="wakubwa", small="wadogo", link="wa", located="wako", numbers=("wawili", "watatu")
    ),
    3: Concord(before_e="mw", large="mkubwa", small="mdogo", link="wa", located="uko"),
    4: Concord(
        before_e="my", large="mikubwa", small="midogo", link="ya", located="iko", numbers=("miwili", "mitatu")
    ),
    5: Concord(before_e="j", large="kubwa", small="dogo", link="la", located="liko"),
    6: Concord(
        before_e="m", large="makubwa", small="madogo", link="ya", located="yako", numbers=("mawili", "matatu")
    ),
    7: Concord(before_e="ch", large="kikubwa", small="kidogo", link="cha", located="kiko"),
    8: Concord(
        before_e="vy",
        large="vikubwa",
        small="vidogo",
        link="vya",
        located="viko",
        numbers=("viwili", "vitatu"),
    ),
    9: Concord(before_e="ny", large="kubwa", small="ndogo", link="ya", located="iko"),
    10: Concord(
        before_e="ny", large="kubwa", small="ndogo", link="za", located="ziko", numbers=("mbili", "tatu")
    ),
}


@dataclass(frozen=True)
class Noun:
    """A noun: the class its singular agrees with (the plural takes the next), singular, plural."""

    agreement: int
    singular: str
    plural: str


NOUNS: dict[Shape, Noun] = {
    "ball": Noun(3, "mpira", "mipira"),
    "star": Noun(9, "nyota", "nyota"),
    "house": Noun(9, "nyumba", "nyumba"),
    "car": Noun(5, "gari", "magari"),
    "boat": Noun(9, "mashua", "mashua"),
    "cup": Noun(7, "kikombe", "vikombe"),
    "fish": Noun(1, "samaki", "samaki"),  # animals agree as people do, whatever their own prefix
    "flower": Noun(5, "ua", "maua"),
    "tree": Noun(3, "mti", "miti"),
    "umbrella": Noun(3, "mwavuli", "miavuli"),
    "hat": Noun(9, "kofia", "kofia"),
    "book": Noun(7, "kitabu", "vitabu"),
    "bell": Noun(9, "kengele", "kengele"),
    "chair": Noun(7, "kiti", "viti"),
    "butterfly": Noun(1, "kipepeo", "vipepeo"),
    "cat": Noun(1, "paka", "paka"),
}
ADJECTIVES: dict[Colour, str] = {"red": "ekundu", "white": "eupe", "black": "eusi"}
LINKED: dict[Colour, tuple[str, ...]] = {
    "blue": ("bluu", "rangi ya bluu"),
    "green": ("kijani", "rangi ya kijani"),
    "yellow": ("njano", "rangi ya njano"),
    "purple": ("zambarau", "rangi ya zambarau"),
    "orange": ("rangi ya machungwa",),
}
BACKGROUNDS: dict[Background, tuple[str, ...]] = {
    "meadow": ("kwenye nyasi", "katika uwanda wa nyasi"),
    "sea": ("baharini", "juu ya bahari"),
    "desert": ("jangwani", "kwenye mchanga wa jangwa"),
    "night": ("usiku", "chini ya anga la usiku"),
    "snow": ("kwenye theluji", "katika mandhari ya theluji"),
    "sunset": ("wakati wa machweo", "jua linapotua"),
    "mountains": ("milimani", "mbele ya milima"),
    "city": ("mjini", "mbele ya majengo ya jiji"),
}
RELATIONS: dict[Direction, tuple[str, ...]] = {
    "left": ("kushoto kwa", "upande wa kushoto wa"),
    "right": ("kulia kwa", "upande wa kulia wa"),
    "above": ("juu ya",),
    "below": ("chini ya",),
}
SIDES: dict[Direction, tuple[str, str]] = {
    "left": ("kushoto", "kulia"),
    "right": ("kulia", "kushoto"),
    "above": ("juu", "chini"),
    "below": ("chini", "juu"),
}
PLACES: dict[Place, tuple[str, ...]] = {
    "top": ("juu", "upande wa juu"),
    "bottom": ("chini", "upande wa chini"),
    "left": ("kushoto", "upande wa kushoto"),
    "right": ("kulia", "upande wa kulia"),
}


def caption(plan: Plan, rng: random.Random) -> str:
    """Word a plan in Swahili.

    Args:
        plan: The facts to state.
        rng: Chooses among the paraphrases.

    Returns:
        One sentence.
    """
    background = rng.choice(BACKGROUNDS[plan.background]) if plan.background else ""
    text = _core(plan, rng)
    position = rng.choice(("front", "middle", "end")) if plan.third else rng.choice(("front", "end"))
    if background and position == "front":
        text = f"{background}, {text}"
    if background and position == "middle":
        text = f"{text} {background}"
    text += _tail(plan, rng)
    if background and position == "end":
        text = f"{text}, {background}" if plan.third else f"{text} {background}"
    return f"{text[0].upper()}{text[1:]}."


def _core(plan: Plan, rng: random.Random) -> str:
    told = statement(plan, rng)
    if told is None:
        opening = rng.choice(("", "kuna "))
        return opening + " na ".join(_phrase(thing, rng) for thing in unrelated(plan, rng))
    if rng.random() < 0.2:
        here, there = SIDES[told.direction]
        return f"{here} kuna {_phrase(told.subject, rng)} na {there} kuna {_phrase(told.landmark, rng)}"
    one = told.subject
    where = f"{rng.choice(RELATIONS[told.direction])} {_phrase(told.landmark, rng)}"
    kind = rng.choice(("plain", "exists", "located"))
    if kind == "plain":
        return f"{_phrase(one, rng)} {where}"
    if kind == "exists":
        return f"kuna {_phrase(one, rng)} {where}"
    return f"{_phrase(one, rng)} {_concord(one).located} {where}"


def _tail(plan: Plan, rng: random.Random) -> str:
    if plan.third is None:
        return ""
    phrase = _phrase(plan.third, rng)
    if plan.place is None:
        return f", {rng.choice(('pamoja na', 'na pia'))} {phrase}"
    place = rng.choice(PLACES[plan.place])
    return rng.choice((f", na {place} kuna {phrase}", f", pamoja na {phrase} {place}"))


def _concord(thing: Thing) -> Concord:
    return CONCORDS[NOUNS[thing.shape].agreement + (thing.count > 1)]


def _phrase(thing: Thing, rng: random.Random) -> str:
    noun, concord = NOUNS[thing.shape], _concord(thing)
    words = [noun.singular if thing.count == 1 else noun.plural]
    if thing.count > 1:
        words.append(concord.numbers[thing.count - 2])
    if thing.size:
        words.append(concord.large if thing.size == "large" else concord.small)
    if thing.colour in ADJECTIVES:
        words.append(concord.before_e + ADJECTIVES[thing.colour])
    else:
        words += [concord.link, rng.choice(LINKED[thing.colour])]
    return " ".join(words)
