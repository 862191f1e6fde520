"""German captions: cases after prepositions and verbs, genders, strong, mixed and weak adjective endings."""

import random
from dataclasses import dataclass
from typing import Literal

from langadapt.quickstart.shapes import Background, Colour, Place, Shape, Size, Thing
from tools.embedded_world.plans import Direction, Plan, statement, unrelated

Gender = Literal["m", "f", "n"]
Case = Literal["nominative", "accusative", "dative"]


@dataclass(frozen=True)
class Noun:
    """A noun: gender, singular, plural, and dative plural where it differs."""

    gender: Gender
    singular: str
    plural: str
    dative_plural: str


NOUNS: dict[Shape, Noun] = {
    "ball": Noun("m", "Ball", "Bälle", "Bällen"),
    "star": Noun("m", "Stern", "Sterne", "Sternen"),
    "house": Noun("n", "Haus", "Häuser", "Häusern"),
    "car": Noun("n", "Auto", "Autos", "Autos"),
    "boat": Noun("n", "Boot", "Boote", "Booten"),
    "cup": Noun("f", "Tasse", "Tassen", "Tassen"),
    "fish": Noun("m", "Fisch", "Fische", "Fischen"),
    "flower": Noun("f", "Blume", "Blumen", "Blumen"),
    "tree": Noun("m", "Baum", "Bäume", "Bäumen"),
    "umbrella": Noun("m", "Regenschirm", "Regenschirme", "Regenschirmen"),
    "hat": Noun("m", "Hut", "Hüte", "Hüten"),
    "book": Noun("n", "Buch", "Bücher", "Büchern"),
    "bell": Noun("f", "Glocke", "Glocken", "Glocken"),
    "chair": Noun("m", "Stuhl", "Stühle", "Stühlen"),
    "butterfly": Noun("m", "Schmetterling", "Schmetterlinge", "Schmetterlingen"),
    "cat": Noun("f", "Katze", "Katzen", "Katzen"),
}
COLOURS: dict[Colour, str] = {
    "red": "rot",
    "blue": "blau",
    "green": "grün",
    "yellow": "gelb",
    "purple": "violett",
    "orange": "orangefarben",
    "white": "weiß",
    "black": "schwarz",
}
SIZES: dict[Size, str] = {"small": "klein", "large": "groß"}
NUMBERS = {2: "zwei", 3: "drei"}
INDEFINITE: dict[Case, dict[Gender, str]] = {
    "nominative": {"m": "ein", "f": "eine", "n": "ein"},
    "accusative": {"m": "einen", "f": "eine", "n": "ein"},
    "dative": {"m": "einem", "f": "einer", "n": "einem"},
}
DEFINITE: dict[Case, dict[Gender, str]] = {
    "nominative": {"m": "der", "f": "die", "n": "das"},
    "accusative": {"m": "den", "f": "die", "n": "das"},
    "dative": {"m": "dem", "f": "der", "n": "dem"},
}
MIXED_ENDINGS: dict[Case, dict[Gender, str]] = {
    "nominative": {"m": "er", "f": "e", "n": "es"},
    "accusative": {"m": "en", "f": "e", "n": "es"},
    "dative": {"m": "en", "f": "en", "n": "en"},
}
WEAK_ENDINGS: dict[Case, dict[Gender, str]] = {
    "nominative": {"m": "e", "f": "e", "n": "e"},
    "accusative": {"m": "en", "f": "e", "n": "e"},
    "dative": {"m": "en", "f": "en", "n": "en"},
}
DEFINITE_PLURAL: dict[Case, str] = {"nominative": "die", "accusative": "die", "dative": "den"}
STRONG_PLURAL: dict[Case, str] = {"nominative": "e", "accusative": "e", "dative": "en"}
BACKGROUNDS: dict[Background, tuple[str, ...]] = {
    "meadow": ("auf einer Wiese", "im Gras"),
    "sea": ("auf dem Meer", "auf See"),
    "desert": ("in der Wüste", "im Wüstensand"),
    "night": ("bei Nacht", "unter dem Nachthimmel"),
    "snow": ("im Schnee", "in einer verschneiten Landschaft"),
    "sunset": ("bei Sonnenuntergang", "im Licht der untergehenden Sonne"),
    "mountains": ("in den Bergen", "vor einer Bergkette"),
    "city": ("in der Stadt", "vor der Skyline einer Stadt"),
}
RELATIONS: dict[Direction, str] = {
    "left": "links von",
    "right": "rechts von",
    "above": "über",
    "below": "unter",
}
SIDES: dict[Direction, tuple[str, str]] = {
    "left": ("links", "rechts"),
    "right": ("rechts", "links"),
    "above": ("oben", "unten"),
    "below": ("unten", "oben"),
}
PLACES: dict[Place, tuple[str, ...]] = {
    "top": ("oben", "am oberen Rand"),
    "bottom": ("unten", "am unteren Rand"),
    "left": ("links", "auf der linken Seite"),
    "right": ("rechts", "auf der rechten Seite"),
}


def caption(plan: Plan, rng: random.Random) -> str:
    """Word a plan in German.

    Args:
        plan: The facts to state.
        rng: Chooses among the paraphrases.

    Returns:
        One sentence.
    """
    background = rng.choice(BACKGROUNDS[plan.background]) if plan.background else ""
    text = _core(plan, background, rng) + _tail(plan, rng)
    return f"{text[0].upper()}{text[1:]}."


def _core(plan: Plan, background: str, rng: random.Random) -> str:
    told = statement(plan, rng)
    if told is None:
        chosen = unrelated(plan, rng)
        if rng.random() < 0.4:
            things = " und ".join(_phrase(thing, "accusative") for thing in chosen)
            return f"{background} sieht man {things}" if background else f"man sieht {things}"
        things = " und ".join(_phrase(thing, "nominative") for thing in chosen)
        return f"{things} {background}".rstrip()
    if rng.random() < 0.2:
        here, there = SIDES[told.direction]
        text = (
            f"{here} {_phrase(told.subject, 'nominative')} und {there} {_phrase(told.landmark, 'nominative')}"
        )
        return f"{background}: {text}" if background else text
    one, other = told.subject, told.landmark
    kind = rng.choice(("plain", "sees", "exists", "definite"))
    place = f"{RELATIONS[told.direction]} {_phrase(other, 'dative', definite=kind == 'definite')}"
    place = place.replace("von dem ", "vom ")
    if kind == "plain":
        return f"{_phrase(one, 'nominative')} {place} {background}".rstrip()
    if kind == "sees":
        seen = f"{_phrase(one, 'accusative')} {place}"
        return f"{background} sieht man {seen}" if background else f"man sieht {seen}"
    subject = _phrase(one, "nominative", definite=kind == "definite")
    if background:
        return f"{background} {_is(one)} {subject} {place}"
    return f"{subject} {_is(one)} {place}" if kind == "definite" else f"{place} {_is(one)} {subject}"


def _tail(plan: Plan, rng: random.Random) -> str:
    if plan.third is None:
        return ""
    if plan.place is None:
        if rng.random() < 0.5:
            return f", dazu {_phrase(plan.third, 'nominative')}"
        return f", zusammen mit {_phrase(plan.third, 'dative')}"
    place = rng.choice(PLACES[plan.place])
    if rng.random() < 0.4:
        return f", mit {_phrase(plan.third, 'dative')} {place}"
    if rng.random() < 0.5:
        return f", und {place} {_is(plan.third)} {_phrase(plan.third, 'nominative')}"
    return f", {place} {_phrase(plan.third, 'nominative')}"


def _phrase(thing: Thing, case: Case, *, definite: bool = False) -> str:
    noun = NOUNS[thing.shape]
    stems = [SIZES[thing.size]] if thing.size else []
    stems.append(COLOURS[thing.colour])
    if thing.count == 1:
        article = (DEFINITE if definite else INDEFINITE)[case][noun.gender]
        ending = (WEAK_ENDINGS if definite else MIXED_ENDINGS)[case][noun.gender]
        return " ".join((article, *(stem + ending for stem in stems), noun.singular))
    number = NUMBERS[thing.count]
    name = noun.dative_plural if case == "dative" else noun.plural
    if definite:
        return " ".join((DEFINITE_PLURAL[case], number, *(stem + "en" for stem in stems), name))
    return " ".join((number, *(stem + STRONG_PLURAL[case] for stem in stems), name))


def _is(thing: Thing) -> str:
    return "sind" if thing.count > 1 else "ist"
