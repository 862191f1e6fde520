"""Swahili captions: noun classes and the concords of adjectives, numerals, the `-a` link and the copula."""

from dataclasses import dataclass

from langadapt.quickstart.shapes import Background, Colour, Place, Shape, Thing
from tools.embedded_world.authors import Author
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


# Animals agree as people do (class 1), whatever their own prefix.
NOUNS: dict[Shape, tuple[Noun, ...]] = {
    "ball": (Noun(3, "mpira", "mipira"), Noun(5, "tufe", "matufe")),
    "star": (Noun(9, "nyota", "nyota"), Noun(9, "najimu", "najimu")),
    "house": (Noun(9, "nyumba", "nyumba"), Noun(7, "kibanda", "vibanda"), Noun(5, "jengo", "majengo")),
    "car": (Noun(5, "gari", "magari"), Noun(9, "motokaa", "motokaa")),
    "boat": (Noun(9, "mashua", "mashua"), Noun(9, "ngalawa", "ngalawa"), Noun(9, "boti", "boti")),
    "cup": (Noun(7, "kikombe", "vikombe"), Noun(5, "kopo", "makopo"), Noun(9, "bilauri", "bilauri")),
    "fish": (Noun(1, "samaki", "samaki"), Noun(1, "kambare", "kambare"), Noun(1, "changu", "changu")),
    "flower": (Noun(5, "ua", "maua"), Noun(5, "waridi", "mawaridi"), Noun(5, "yungiyungi", "mayungiyungi")),
    "tree": (Noun(3, "mti", "miti"), Noun(3, "mwembe", "miembe"), Noun(3, "mnazi", "minazi")),
    "umbrella": (Noun(3, "mwavuli", "miavuli"), Noun(3, "mwamvuli", "miamvuli")),
    "hat": (Noun(9, "kofia", "kofia"), Noun(7, "chepeo", "vyepeo")),
    "book": (Noun(7, "kitabu", "vitabu"), Noun(5, "daftari", "madaftari"), Noun(5, "buku", "mabuku")),
    "bell": (Noun(9, "kengele", "kengele"), Noun(9, "njuga", "njuga")),
    "chair": (Noun(7, "kiti", "viti"), Noun(7, "kigoda", "vigoda"), Noun(9, "stuli", "stuli")),
    "butterfly": (Noun(1, "kipepeo", "vipepeo"), Noun(1, "nondo", "nondo")),
    "cat": (Noun(1, "paka", "paka"), Noun(1, "nyau", "nyau")),
}
COLOURS: dict[Colour, tuple[str, ...]] = {
    "red": ("-ekundu", "rangi ya damu"),
    "white": ("-eupe", "rangi ya maziwa"),
    "black": ("-eusi", "rangi ya makaa"),
    "blue": ("bluu", "rangi ya bluu", "samawati"),
    "green": ("kijani", "rangi ya kijani", "rangi ya majani"),
    "yellow": ("njano", "rangi ya njano", "manjano"),
    "purple": ("zambarau", "rangi ya zambarau", "urujuani"),
    "orange": ("rangi ya machungwa", "chungwa"),
}
"""A hyphen takes the prefix of the noun's class, all others the link."""
BACKGROUNDS: dict[Background, tuple[str, ...]] = {
    "meadow": ("kwenye nyasi", "katika uwanda wa nyasi", "malishoni"),
    "sea": ("baharini", "juu ya bahari", "katikati ya bahari"),
    "desert": ("jangwani", "kwenye mchanga wa jangwa", "kwenye vilima vya mchanga"),
    "night": ("usiku", "chini ya anga la usiku", "gizani"),
    "snow": ("kwenye theluji", "katika mandhari ya theluji", "kwenye barafu"),
    "sunset": ("wakati wa machweo", "jua linapotua", "jioni"),
    "mountains": ("milimani", "mbele ya milima", "vilimani"),
    "city": ("mjini", "mbele ya maghorofa ya jiji", "jijini"),
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


def caption(plan: Plan, author: Author) -> str:
    """Word a plan in Swahili.

    Args:
        plan: The facts to state.
        author: Chooses among words and paraphrases.

    Returns:
        One sentence.
    """
    background = author.word(BACKGROUNDS[plan.background]) if plan.background else ""
    text = _core(plan, author)
    position = author.choice(("front", "middle", "end")) if plan.third else author.choice(("front", "end"))
    if background and position == "front":
        text = f"{background}, {text}"
    if background and position == "middle":
        text = f"{text} {background}"
    text += _tail(plan, author)
    if background and position == "end":
        text = f"{text}, {background}" if plan.third else f"{text} {background}"
    return f"{text[0].upper()}{text[1:]}."


def _core(plan: Plan, author: Author) -> str:
    told = statement(plan, author)
    if told is None:
        opening = author.choice(("", "kuna "))
        return opening + " na ".join(_phrase(thing, author) for thing in unrelated(plan, author))
    if author.random() < 0.2:
        here, there = SIDES[told.direction]
        return f"{here} kuna {_phrase(told.subject, author)} na {there} kuna {_phrase(told.landmark, author)}"
    one = told.subject
    where = f"{author.choice(RELATIONS[told.direction])} {_phrase(told.landmark, author)}"
    kind = author.choice(("plain", "exists", "located"))
    if kind == "plain":
        return f"{_phrase(one, author)} {where}"
    if kind == "exists":
        return f"kuna {_phrase(one, author)} {where}"
    noun = author.word(NOUNS[one.shape])
    return f"{_phrase(one, author, noun)} {_concord(noun, one).located} {where}"


def _tail(plan: Plan, author: Author) -> str:
    if plan.third is None:
        return ""
    phrase = _phrase(plan.third, author)
    if plan.place is None:
        return f", {author.choice(('pamoja na', 'na pia'))} {phrase}"
    place = author.choice(PLACES[plan.place])
    return author.choice((f", na {place} kuna {phrase}", f", pamoja na {phrase} {place}"))


def _concord(noun: Noun, thing: Thing) -> Concord:
    return CONCORDS[noun.agreement + (thing.count > 1)]


def _phrase(thing: Thing, author: Author, noun: Noun | None = None) -> str:
    noun = noun or author.word(NOUNS[thing.shape])
    concord = _concord(noun, thing)
    words = [noun.singular if thing.count == 1 else noun.plural]
    if thing.count > 1:
        words.append(concord.numbers[thing.count - 2])
    if thing.size:
        size = concord.large if thing.size == "large" else concord.small
        words.append(author.word((size, f"{size} sana")))
    colour = author.word(COLOURS[thing.colour])
    words += [concord.before_e + colour[1:]] if colour[0] == "-" else [concord.link, colour]
    return " ".join(words)
