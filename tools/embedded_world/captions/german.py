"""German captions: cases after prepositions and verbs, genders, strong, mixed and weak adjective endings."""

from dataclasses import dataclass
from typing import Literal

from langadapt.quickstart.shapes import Background, Colour, Place, Shape, Size, Thing
from tools.embedded_world.authors import Author
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


NOUNS: dict[Shape, tuple[Noun, ...]] = {
    "ball": (
        Noun("m", "Ball", "Bälle", "Bällen"),
        Noun("f", "Kugel", "Kugeln", "Kugeln"),
        Noun("m", "Spielball", "Spielbälle", "Spielbällen"),
    ),
    "star": (
        Noun("m", "Stern", "Sterne", "Sternen"),
        Noun("n", "Gestirn", "Gestirne", "Gestirnen"),
        Noun("n", "Sternchen", "Sternchen", "Sternchen"),
    ),
    "house": (
        Noun("n", "Haus", "Häuser", "Häusern"),
        Noun("n", "Gebäude", "Gebäude", "Gebäuden"),
        Noun("f", "Hütte", "Hütten", "Hütten"),
    ),
    "car": (
        Noun("n", "Auto", "Autos", "Autos"),
        Noun("m", "Wagen", "Wagen", "Wagen"),
        Noun("n", "Fahrzeug", "Fahrzeuge", "Fahrzeugen"),
    ),
    "boat": (
        Noun("n", "Boot", "Boote", "Booten"),
        Noun("m", "Kahn", "Kähne", "Kähnen"),
        Noun("n", "Schiff", "Schiffe", "Schiffen"),
    ),
    "cup": (
        Noun("f", "Tasse", "Tassen", "Tassen"),
        Noun("m", "Becher", "Becher", "Bechern"),
        Noun("m", "Humpen", "Humpen", "Humpen"),
    ),
    "fish": (
        Noun("m", "Fisch", "Fische", "Fischen"),
        Noun("m", "Karpfen", "Karpfen", "Karpfen"),
        Noun("f", "Forelle", "Forellen", "Forellen"),
    ),
    "flower": (
        Noun("f", "Blume", "Blumen", "Blumen"),
        Noun("f", "Blüte", "Blüten", "Blüten"),
        Noun("f", "Margerite", "Margeriten", "Margeriten"),
    ),
    "tree": (
        Noun("m", "Baum", "Bäume", "Bäumen"),
        Noun("f", "Linde", "Linden", "Linden"),
        Noun("m", "Laubbaum", "Laubbäume", "Laubbäumen"),
    ),
    "umbrella": (
        Noun("m", "Regenschirm", "Regenschirme", "Regenschirmen"),
        Noun("m", "Schirm", "Schirme", "Schirmen"),
        Noun("m", "Parapluie", "Parapluies", "Parapluies"),
    ),
    "hat": (
        Noun("m", "Hut", "Hüte", "Hüten"),
        Noun("f", "Kopfbedeckung", "Kopfbedeckungen", "Kopfbedeckungen"),
        Noun("m", "Zylinder", "Zylinder", "Zylindern"),
    ),
    "book": (
        Noun("n", "Buch", "Bücher", "Büchern"),
        Noun("m", "Band", "Bände", "Bänden"),
        Noun("n", "Heft", "Hefte", "Heften"),
    ),
    "bell": (
        Noun("f", "Glocke", "Glocken", "Glocken"),
        Noun("f", "Schelle", "Schellen", "Schellen"),
        Noun("f", "Klingel", "Klingeln", "Klingeln"),
    ),
    "chair": (
        Noun("m", "Stuhl", "Stühle", "Stühlen"),
        Noun("m", "Hocker", "Hocker", "Hockern"),
        Noun("f", "Sitzgelegenheit", "Sitzgelegenheiten", "Sitzgelegenheiten"),
    ),
    "butterfly": (
        Noun("m", "Schmetterling", "Schmetterlinge", "Schmetterlingen"),
        Noun("m", "Falter", "Falter", "Faltern"),
    ),
    "cat": (
        Noun("f", "Katze", "Katzen", "Katzen"),
        Noun("m", "Kater", "Kater", "Katern"),
        Noun("f", "Mieze", "Miezen", "Miezen"),
    ),
}
COLOURS: dict[Colour, tuple[str, ...]] = {
    "red": ("rot", "feuerrot", "scharlachrot"),
    "blue": ("blau", "himmelblau", "azurblau"),
    "green": ("grün", "grasgrün", "smaragdgrün"),
    "yellow": ("gelb", "zitronengelb", "golden"),
    "purple": ("violett", "lilafarben", "fliederfarben"),
    "orange": ("orangefarben", "apfelsinenfarben"),
    "white": ("weiß", "schneeweiß", "kreideweiß"),
    "black": ("schwarz", "pechschwarz", "rabenschwarz"),
}
SIZES: dict[Size, tuple[str, ...]] = {"small": ("klein", "winzig"), "large": ("groß", "riesig", "mächtig")}
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
    "meadow": ("auf einer Wiese", "im Gras", "auf dem Rasen"),
    "sea": ("auf dem Meer", "auf See", "auf dem Ozean"),
    "desert": ("in der Wüste", "im Wüstensand", "zwischen Dünen"),
    "night": ("bei Nacht", "unter dem Nachthimmel", "in der Dunkelheit"),
    "snow": ("im Schnee", "in einer verschneiten Landschaft", "an einem Wintertag"),
    "sunset": ("bei Sonnenuntergang", "im Licht der untergehenden Sonne", "in der Dämmerung"),
    "mountains": ("in den Bergen", "vor einer Bergkette", "im Gebirge"),
    "city": ("in der Stadt", "vor der Skyline einer Stadt", "zwischen Hochhäusern"),
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


def caption(plan: Plan, author: Author) -> str:
    """Word a plan in German.

    Args:
        plan: The facts to state.
        author: Chooses among words and paraphrases.

    Returns:
        One sentence.
    """
    background = author.word(BACKGROUNDS[plan.background]) if plan.background else ""
    text = _core(plan, background, author) + _tail(plan, author)
    return f"{text[0].upper()}{text[1:]}."


def _core(plan: Plan, background: str, author: Author) -> str:
    told = statement(plan, author)
    if told is None:
        chosen = unrelated(plan, author)
        if author.random() < 0.4:
            things = " und ".join(_phrase(thing, author, "accusative") for thing in chosen)
            return f"{background} sieht man {things}" if background else f"man sieht {things}"
        things = " und ".join(_phrase(thing, author, "nominative") for thing in chosen)
        return f"{things} {background}".rstrip()
    if author.random() < 0.2:
        here, there = SIDES[told.direction]
        pair = [_phrase(thing, author, "nominative") for thing in (told.subject, told.landmark)]
        text = f"{here} {pair[0]} und {there} {pair[1]}"
        return f"{background}: {text}" if background else text
    one, other = told.subject, told.landmark
    kind = author.choice(("plain", "sees", "exists", "definite"))
    place = f"{RELATIONS[told.direction]} {_phrase(other, author, 'dative', definite=kind == 'definite')}"
    place = place.replace("von dem ", "vom ")
    if kind == "plain":
        return f"{_phrase(one, author, 'nominative')} {place} {background}".rstrip()
    if kind == "sees":
        seen = f"{_phrase(one, author, 'accusative')} {place}"
        return f"{background} sieht man {seen}" if background else f"man sieht {seen}"
    subject = _phrase(one, author, "nominative", definite=kind == "definite")
    if background:
        return f"{background} {_is(one)} {subject} {place}"
    return f"{subject} {_is(one)} {place}" if kind == "definite" else f"{place} {_is(one)} {subject}"


def _tail(plan: Plan, author: Author) -> str:
    if plan.third is None:
        return ""
    if plan.place is None:
        if author.random() < 0.5:
            return f", dazu {_phrase(plan.third, author, 'nominative')}"
        return f", zusammen mit {_phrase(plan.third, author, 'dative')}"
    place = author.choice(PLACES[plan.place])
    if author.random() < 0.4:
        return f", mit {_phrase(plan.third, author, 'dative')} {place}"
    if author.random() < 0.5:
        return f", und {place} {_is(plan.third)} {_phrase(plan.third, author, 'nominative')}"
    return f", {place} {_phrase(plan.third, author, 'nominative')}"


def _phrase(thing: Thing, author: Author, case: Case, *, definite: bool = False) -> str:
    noun = author.word(NOUNS[thing.shape])
    stems = [author.word(SIZES[thing.size])] if thing.size else []
    stems.append(author.word(COLOURS[thing.colour]))
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
