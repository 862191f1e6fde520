"""Arabic captions: gender, dual and plural, definiteness, and the cases that unvowelled spelling shows."""

import random
from dataclasses import dataclass
from typing import Literal

from langadapt.quickstart.shapes import Background, Colour, Place, Shape, Size, Thing
from tools.embedded_world.plans import Direction, Plan, statement, unrelated

Case = Literal["nominative", "accusative", "genitive"]


@dataclass(frozen=True)
class Noun:
    """A noun: whether feminine, singular, the stem the dual is built on, plural."""

    feminine: bool
    singular: str
    dual_stem: str
    plural: str


@dataclass(frozen=True)
class Adjective:
    """An adjective: masculine and feminine singular, and the stems of both duals."""

    masculine: str
    feminine: str
    masculine_dual: str
    feminine_dual: str
    takes_tanwin: bool = True


NOUNS: dict[Shape, Noun] = {
    "ball": Noun(True, "كرة", "كرت", "كرات"),
    "star": Noun(True, "نجمة", "نجمت", "نجمات"),
    "house": Noun(False, "بيت", "بيت", "بيوت"),
    "car": Noun(True, "سيارة", "سيارت", "سيارات"),
    "boat": Noun(False, "قارب", "قارب", "قوارب"),
    "cup": Noun(False, "كوب", "كوب", "أكواب"),
    "fish": Noun(True, "سمكة", "سمكت", "سمكات"),
    "flower": Noun(True, "زهرة", "زهرت", "زهرات"),
    "tree": Noun(True, "شجرة", "شجرت", "شجرات"),
    "umbrella": Noun(True, "مظلة", "مظلت", "مظلات"),
    "hat": Noun(True, "قبعة", "قبعت", "قبعات"),
    "book": Noun(False, "كتاب", "كتاب", "كتب"),
    "bell": Noun(False, "جرس", "جرس", "أجراس"),
    "chair": Noun(False, "كرسي", "كرسي", "كراسي"),
    "butterfly": Noun(True, "فراشة", "فراشت", "فراشات"),
    "cat": Noun(True, "قطة", "قطت", "قطط"),
}
COLOURS: dict[Colour, Adjective] = {
    "red": Adjective("أحمر", "حمراء", "أحمر", "حمراو", False),
    "blue": Adjective("أزرق", "زرقاء", "أزرق", "زرقاو", False),
    "green": Adjective("أخضر", "خضراء", "أخضر", "خضراو", False),
    "yellow": Adjective("أصفر", "صفراء", "أصفر", "صفراو", False),
    "purple": Adjective("بنفسجي", "بنفسجية", "بنفسجي", "بنفسجيت"),
    "orange": Adjective("برتقالي", "برتقالية", "برتقالي", "برتقاليت"),
    "white": Adjective("أبيض", "بيضاء", "أبيض", "بيضاو", False),
    "black": Adjective("أسود", "سوداء", "أسود", "سوداو", False),
}
SIZES: dict[Size, Adjective] = {
    "small": Adjective("صغير", "صغيرة", "صغير", "صغيرت"),
    "large": Adjective("كبير", "كبيرة", "كبير", "كبيرت"),
}
DUAL_ENDINGS: dict[Case, str] = {"nominative": "ان", "accusative": "ين", "genitive": "ين"}
TANWIN = "ًا"
BACKGROUNDS: dict[Background, tuple[str, ...]] = {
    "meadow": ("على العشب", "في المرج"),
    "sea": ("في البحر", "على سطح البحر"),
    "desert": ("في الصحراء", "على رمال الصحراء"),
    "night": ("في الليل", "تحت سماء الليل"),
    "snow": ("على الثلج", "في مكان مغطى بالثلج"),
    "sunset": ("عند الغروب", "وقت غروب الشمس"),
    "mountains": ("في الجبال", "أمام الجبال"),
    "city": ("في المدينة", "أمام مباني المدينة"),
}
RELATIONS: dict[Direction, tuple[str, ...]] = {
    "left": ("على يسار", "إلى يسار"),
    "right": ("على يمين", "إلى يمين"),
    "above": ("فوق",),
    "below": ("تحت",),
}
SIDES: dict[Direction, tuple[str, str]] = {
    "left": ("على اليسار", "على اليمين"),
    "right": ("على اليمين", "على اليسار"),
    "above": ("في الأعلى", "في الأسفل"),
    "below": ("في الأسفل", "في الأعلى"),
}
PLACES: dict[Place, tuple[str, ...]] = {
    "top": ("في الأعلى", "في أعلى الصورة"),
    "bottom": ("في الأسفل", "في أسفل الصورة"),
    "left": ("على اليسار", "في يسار الصورة"),
    "right": ("على اليمين", "في يمين الصورة"),
}


def caption(plan: Plan, rng: random.Random) -> str:
    """Word a plan in Arabic.

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
        text = f"{background}، {text}"
    if background and position == "middle":
        text = f"{text} {background}"
    text += _tail(plan, rng)
    if background and position == "end":
        text = f"{text}، {background}"
    return f"{text}."


def _core(plan: Plan, rng: random.Random) -> str:
    told = statement(plan, rng)
    if told is None:
        chosen = unrelated(plan, rng)
        if rng.random() < 0.5:
            return "نرى " + " و".join(_phrase(thing, "accusative") for thing in chosen)
        return " و".join(_phrase(thing, "nominative") for thing in chosen)
    if rng.random() < 0.2:
        here, there = SIDES[told.direction]
        return f"{here} {_phrase(told.subject, 'nominative')} و{there} {_phrase(told.landmark, 'nominative')}"
    one, other = told.subject, told.landmark
    where = rng.choice(RELATIONS[told.direction])
    kind = rng.choice(("plain", "exists", "sees", "definite"))
    if kind == "definite":
        subject = _phrase(one, "nominative", definite=True)
        return f"{subject} {where} {_phrase(other, 'genitive', definite=True)}"
    opening = {"plain": "", "exists": "هناك ", "sees": "نرى "}[kind]
    seen = _phrase(one, "accusative" if kind == "sees" else "nominative")
    return f"{opening}{seen} {where} {_phrase(other, 'genitive')}"


def _tail(plan: Plan, rng: random.Random) -> str:
    if plan.third is None:
        return ""
    if plan.place is None:
        return f"، مع {_phrase(plan.third, 'genitive')}"
    place = rng.choice(PLACES[plan.place])
    if rng.random() < 0.4:
        return f"، مع {_phrase(plan.third, 'genitive')} {place}"
    return f"، و{place} {_phrase(plan.third, 'nominative')}"


def _phrase(thing: Thing, case: Case, *, definite: bool = False) -> str:
    noun = NOUNS[thing.shape]
    adjectives = [COLOURS[thing.colour]] + ([SIZES[thing.size]] if thing.size else [])
    article = "ال" if definite else ""
    if thing.count == 1:
        words = [noun.singular, *(a.feminine if noun.feminine else a.masculine for a in adjectives)]
        nunated = [True, *(a.takes_tanwin for a in adjectives)]
        if case == "accusative" and not definite and not noun.feminine:
            words = [word + TANWIN if ends else word for word, ends in zip(words, nunated, strict=True)]
    elif thing.count == 2:
        stems = (a.feminine_dual if noun.feminine else a.masculine_dual for a in adjectives)
        words = [stem + DUAL_ENDINGS[case] for stem in (noun.dual_stem, *stems)]
    else:  # plurals of things and animals agree like a feminine singular; three takes the other gender
        three = "ثلاث" if noun.feminine else "ثلاثة"
        words = [noun.plural, *(a.feminine for a in adjectives)]
        words.insert(1 if definite else 0, three)
    return " ".join(article + word for word in words)
