"""Arabic captions: gender, dual and plural, definiteness, and the cases that unvowelled spelling shows."""

from dataclasses import dataclass
from typing import Literal

from langadapt.quickstart.shapes import Background, Colour, Place, Shape, Size, Thing
from tools.embedded_world.authors import Author
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


NOUNS: dict[Shape, tuple[Noun, ...]] = {
    "ball": (Noun(True, "كرة", "كرت", "كرات"), Noun(True, "طابة", "طابت", "طابات")),
    "star": (
        Noun(True, "نجمة", "نجمت", "نجمات"),
        Noun(False, "نجم", "نجم", "نجوم"),
        Noun(False, "كوكب", "كوكب", "كواكب"),
    ),
    "house": (
        Noun(False, "بيت", "بيت", "بيوت"),
        Noun(False, "منزل", "منزل", "منازل"),
        Noun(False, "كوخ", "كوخ", "أكواخ"),
    ),
    "car": (
        Noun(True, "سيارة", "سيارت", "سيارات"),
        Noun(True, "مركبة", "مركبت", "مركبات"),
        Noun(True, "عربة", "عربت", "عربات"),
    ),
    "boat": (
        Noun(False, "قارب", "قارب", "قوارب"),
        Noun(False, "زورق", "زورق", "زوارق"),
        Noun(True, "سفينة", "سفينت", "سفن"),
    ),
    "cup": (
        Noun(False, "كوب", "كوب", "أكواب"),
        Noun(False, "فنجان", "فنجان", "فناجين"),
        Noun(False, "قدح", "قدح", "أقداح"),
    ),
    "fish": (Noun(True, "سمكة", "سمكت", "سمكات"), Noun(True, "سردينة", "سردينت", "سردينات")),
    "flower": (Noun(True, "زهرة", "زهرت", "زهرات"), Noun(True, "وردة", "وردت", "وردات")),
    "tree": (Noun(True, "شجرة", "شجرت", "شجرات"), Noun(True, "نخلة", "نخلت", "نخلات")),
    "umbrella": (Noun(True, "مظلة", "مظلت", "مظلات"), Noun(True, "شمسية", "شمسيت", "شمسيات")),
    "hat": (
        Noun(True, "قبعة", "قبعت", "قبعات"),
        Noun(True, "طاقية", "طاقيت", "طاقيات"),
        Noun(True, "برنيطة", "برنيطت", "برنيطات"),
    ),
    "book": (
        Noun(False, "كتاب", "كتاب", "كتب"),
        Noun(False, "دفتر", "دفتر", "دفاتر"),
        Noun(False, "مجلد", "مجلد", "مجلدات"),
    ),
    "bell": (Noun(False, "جرس", "جرس", "أجراس"), Noun(False, "ناقوس", "ناقوس", "نواقيس")),
    "chair": (Noun(False, "كرسي", "كرسي", "كراسي"), Noun(False, "مقعد", "مقعد", "مقاعد")),
    "butterfly": (Noun(True, "فراشة", "فراشت", "فراشات"),),
    "cat": (Noun(True, "قطة", "قطت", "قطط"), Noun(True, "هرة", "هرت", "هرر"), Noun(False, "قط", "قط", "قطط")),
}
COLOURS: dict[Colour, tuple[Adjective, ...]] = {
    "red": (
        Adjective("أحمر", "حمراء", "أحمر", "حمراو", False),
        Adjective("قرمزي", "قرمزية", "قرمزي", "قرمزيت"),
        Adjective("دموي", "دموية", "دموي", "دمويت"),
    ),
    "blue": (
        Adjective("أزرق", "زرقاء", "أزرق", "زرقاو", False),
        Adjective("سماوي", "سماوية", "سماوي", "سماويت"),
        Adjective("لازوردي", "لازوردية", "لازوردي", "لازورديت"),
    ),
    "green": (
        Adjective("أخضر", "خضراء", "أخضر", "خضراو", False),
        Adjective("زمردي", "زمردية", "زمردي", "زمرديت"),
        Adjective("زيتوني", "زيتونية", "زيتوني", "زيتونيت"),
    ),
    "yellow": (
        Adjective("أصفر", "صفراء", "أصفر", "صفراو", False),
        Adjective("ذهبي", "ذهبية", "ذهبي", "ذهبيت"),
        Adjective("ليموني", "ليمونية", "ليموني", "ليمونيت"),
    ),
    "purple": (
        Adjective("بنفسجي", "بنفسجية", "بنفسجي", "بنفسجيت"),
        Adjective("أرجواني", "أرجوانية", "أرجواني", "أرجوانيت"),
        Adjective("ليلكي", "ليلكية", "ليلكي", "ليلكيت"),
    ),
    "orange": (
        Adjective("برتقالي", "برتقالية", "برتقالي", "برتقاليت"),
        Adjective("نارنجي", "نارنجية", "نارنجي", "نارنجيت"),
    ),
    "white": (
        Adjective("أبيض", "بيضاء", "أبيض", "بيضاو", False),
        Adjective("حليبي", "حليبية", "حليبي", "حليبيت"),
        Adjective("ناصع", "ناصعة", "ناصع", "ناصعت"),
    ),
    "black": (
        Adjective("أسود", "سوداء", "أسود", "سوداو", False),
        Adjective("فاحم", "فاحمة", "فاحم", "فاحمت"),
        Adjective("حالك", "حالكة", "حالك", "حالكت"),
    ),
}
SIZES: dict[Size, tuple[Adjective, ...]] = {
    "small": (Adjective("صغير", "صغيرة", "صغير", "صغيرت"), Adjective("ضئيل", "ضئيلة", "ضئيل", "ضئيلت")),
    "large": (
        Adjective("كبير", "كبيرة", "كبير", "كبيرت"),
        Adjective("ضخم", "ضخمة", "ضخم", "ضخمت"),
        Adjective("هائل", "هائلة", "هائل", "هائلت"),
    ),
}
DUAL_ENDINGS: dict[Case, str] = {"nominative": "ان", "accusative": "ين", "genitive": "ين"}
TANWIN = "ًا"
BACKGROUNDS: dict[Background, tuple[str, ...]] = {
    "meadow": ("على العشب", "في المرج", "بين الأعشاب"),
    "sea": ("في البحر", "على سطح البحر", "وسط أمواج البحر"),
    "desert": ("في الصحراء", "على رمال الصحراء", "بين الكثبان"),
    "night": ("في الليل", "تحت سماء الليل", "في الظلام"),
    "snow": ("على الثلج", "في مكان مغطى بالثلج", "في يوم مثلج"),
    "sunset": ("عند الغروب", "وقت غروب الشمس", "عند المغيب"),
    "mountains": ("في الجبال", "أمام الجبال", "عند سفح الجبل"),
    "city": ("في المدينة", "أمام مباني المدينة", "بين ناطحات السحاب"),
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


def caption(plan: Plan, author: Author) -> str:
    """Word a plan in Arabic.

    Args:
        plan: The facts to state.
        author: Chooses among words and paraphrases.

    Returns:
        One sentence.
    """
    background = author.word(BACKGROUNDS[plan.background]) if plan.background else ""
    text = _core(plan, author)
    position = author.choice(("front", "middle", "end")) if plan.third else author.choice(("front", "middle"))
    if background and position == "front":
        text = f"{background}، {text}"
    if background and position == "middle":
        text = f"{text} {background}"
    text += _tail(plan, author)
    if background and position == "end":
        text = f"{text}، {background}"
    return f"{text}."


def _core(plan: Plan, author: Author) -> str:
    told = statement(plan, author)
    if told is None:
        chosen = unrelated(plan, author)
        if author.random() < 0.5:
            return "نرى " + " و".join(_phrase(thing, author, "accusative") for thing in chosen)
        return " و".join(_phrase(thing, author, "nominative") for thing in chosen)
    if author.random() < 0.2:
        here, there = SIDES[told.direction]
        one, other = (_phrase(thing, author, "nominative") for thing in (told.subject, told.landmark))
        return f"{here} {one} و{there} {other}"
    where = author.choice(RELATIONS[told.direction])
    kind = author.choice(("plain", "exists", "sees", "definite"))
    if kind == "definite":
        subject = _phrase(told.subject, author, "nominative", definite=True)
        return f"{subject} {where} {_phrase(told.landmark, author, 'genitive', definite=True)}"
    opening = {"plain": "", "exists": "هناك ", "sees": "نرى "}[kind]
    seen = _phrase(told.subject, author, "accusative" if kind == "sees" else "nominative")
    return f"{opening}{seen} {where} {_phrase(told.landmark, author, 'genitive')}"


def _tail(plan: Plan, author: Author) -> str:
    if plan.third is None:
        return ""
    if plan.place is None:
        return f"، مع {_phrase(plan.third, author, 'genitive')}"
    place = author.choice(PLACES[plan.place])
    if author.random() < 0.4:
        return f"، مع {_phrase(plan.third, author, 'genitive')} {place}"
    return f"، و{place} {_phrase(plan.third, author, 'nominative')}"


def _phrase(thing: Thing, author: Author, case: Case, *, definite: bool = False) -> str:
    noun = author.word(NOUNS[thing.shape])
    adjectives = [author.word(COLOURS[thing.colour])]
    adjectives += [author.word(SIZES[thing.size])] if thing.size else []
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
