"""The grammars, against sentences written by hand."""

import random
import re
from itertools import islice

import pytest

from langadapt.quickstart.shapes import Colour, Shape, Thing
from tools.embedded_world.captions import CAPTIONS
from tools.embedded_world.plans import Plan, sample_plan
from tools.embedded_world.sampling import training_scenes

_PLANS = {
    "ball-houses": Plan(
        first=Thing(shape="ball", colour="red", size="small"),
        second=Thing(shape="house", colour="blue", count=2),
        relation="left",
    ),
    "cat-star-sea": Plan(
        first=Thing(shape="cat", colour="orange", size="large"),
        second=Thing(shape="star", colour="purple"),
        relation="above",
        background="sea",
    ),
    "books-flower-boats": Plan(
        first=Thing(shape="book", colour="black", count=3),
        second=Thing(shape="flower", colour="yellow"),
        relation="left",
        third=Thing(shape="boat", colour="white", count=2),
        place="top",
    ),
    "fish-cars": Plan(
        first=Thing(shape="fish", colour="red", count=3),
        second=Thing(shape="car", colour="green", count=2),
    ),
    "chair": Plan(first=Thing(shape="chair", colour="white", size="large")),
}

_EXPECTED = [
    # English: articles, plurals, verb agreement
    ("ball-houses", "en", "A small red ball left of two blue houses."),
    ("ball-houses", "en", "The two blue houses are to the right of the little red ball."),
    ("cat-star-sea", "en", "At sea, there is a large orange cat above a purple star."),
    ("fish-cars", "en", "There are three red fish and two green cars."),
    # German: dative after the prepositions, accusative after the verb, weak endings after the article
    ("ball-houses", "de", "Ein kleiner roter Ball links von zwei blauen Häusern."),
    ("ball-houses", "de", "Man sieht einen kleinen roten Ball links von zwei blauen Häusern."),
    ("ball-houses", "de", "Die zwei blauen Häuser sind rechts vom kleinen roten Ball."),
    ("cat-star-sea", "de", "Auf dem Meer ist eine große orangefarbene Katze über einem violetten Stern."),
    (
        "cat-star-sea",
        "de",
        "Auf See sieht man einen violetten Stern unter einer großen orangefarbenen Katze.",
    ),
    (
        "books-flower-boats",
        "de",
        "Links drei schwarze Bücher und rechts eine gelbe Blume, mit zwei weißen Booten am oberen Rand.",
    ),
    ("fish-cars", "de", "Man sieht drei rote Fische und zwei grüne Autos."),
    ("chair", "de", "Ein großer weißer Stuhl."),
    # Chinese: a measure word for each noun, 两 for two
    ("ball-houses", "zh", "左边是一个红色的小球，右边是两座蓝色的房子。"),
    ("cat-star-sea", "zh", "海面上，一只橙色大猫的下方有一颗紫色的星星。"),
    ("books-flower-boats", "zh", "三本黑色的书的右边有一朵黄色的花，最上面有两艘白色的船。"),
    ("fish-cars", "zh", "图中有三条红色的鱼和两辆绿色的汽车。"),
    ("chair", "zh", "有一把白色的大椅子。"),
    # Swahili: classes 3, 9/10, 5/6, 7/8; animals agree in classes 1 and 2
    ("ball-houses", "sw", "Mpira mdogo mwekundu uko kushoto kwa nyumba mbili za bluu."),
    ("ball-houses", "sw", "Nyumba mbili za rangi ya bluu ziko kulia kwa mpira mdogo mwekundu."),
    ("cat-star-sea", "sw", "Baharini, paka mkubwa wa rangi ya machungwa yuko juu ya nyota ya zambarau."),
    (
        "books-flower-boats",
        "sw",
        "Vitabu vitatu vyeusi viko kushoto kwa ua la njano, na juu kuna mashua mbili nyeupe.",
    ),
    ("fish-cars", "sw", "Kuna samaki watatu wekundu na magari mawili ya kijani."),
    ("chair", "sw", "Kiti kikubwa cheupe."),
    # Arabic: gender, dual in its cases, three against the noun's gender, definite agreement, tanwin
    ("ball-houses", "ar", "هناك كرة حمراء صغيرة على يسار بيتين أزرقين."),
    ("ball-houses", "ar", "البيتان الأزرقان على يمين الكرة الحمراء الصغيرة."),
    ("cat-star-sea", "ar", "في البحر، القطة البرتقالية الكبيرة فوق النجمة البنفسجية."),
    ("books-flower-boats", "ar", "الكتب الثلاثة السوداء على يسار الزهرة الصفراء، وفي الأعلى قاربان أبيضان."),
    ("fish-cars", "ar", "نرى ثلاث سمكات حمراء وسيارتين خضراوين."),
    ("chair", "ar", "نرى كرسيًا أبيض كبيرًا."),
]


@pytest.mark.parametrize(("plan", "language", "sentence"), _EXPECTED)
def test_a_careful_sentence_is_among_the_paraphrases(plan: str, language: str, sentence: str) -> None:
    said = {CAPTIONS[language](_PLANS[plan], random.Random(seed)) for seed in range(3_000)}
    assert sentence in said


_SHAPES: dict[Shape, dict[str, str]] = {
    "ball": {"en": "balls?", "de": "Ball|Bälle", "zh": "球", "sw": "mpira|mipira", "ar": "كر(ة|ات|ت)"},
    "star": {"en": "stars?", "de": "Stern", "zh": "星星", "sw": "nyota", "ar": "نجم"},
    "house": {"en": "houses?", "de": "Haus|Häuser", "zh": "房子", "sw": "nyumba", "ar": "بيت|بيوت"},
    "car": {"en": "cars?", "de": "Auto", "zh": "汽车", "sw": "gari|magari", "ar": "سيار"},
    "boat": {"en": "boats?", "de": "Boot", "zh": "船", "sw": "mashua", "ar": "قارب|قوارب"},
    "cup": {"en": "cups?", "de": "Tasse", "zh": "杯子", "sw": "kikombe|vikombe", "ar": "كوب|أكواب"},
    "fish": {"en": "fish", "de": "Fisch", "zh": "鱼", "sw": "samaki", "ar": "سمك"},
    "flower": {"en": "flowers?", "de": "Blume", "zh": "花", "sw": "ua|maua", "ar": "زهر"},
    "tree": {"en": "trees?", "de": "Baum|Bäume", "zh": "树", "sw": "mti|miti", "ar": "شجر"},
    "umbrella": {"en": "umbrellas?", "de": "Regenschirm", "zh": "雨伞", "sw": "mwavuli|miavuli", "ar": "مظل"},
    "hat": {"en": "hats?", "de": "Hut|Hüte", "zh": "帽子", "sw": "kofia", "ar": "قبع"},
    "book": {"en": "books?", "de": "Buch|Bücher", "zh": "书", "sw": "kitabu|vitabu", "ar": "كتاب|كتب"},
    "bell": {"en": "bells?", "de": "Glocke", "zh": "铃铛", "sw": "kengele", "ar": "جرس|أجراس"},
    "chair": {"en": "chairs?", "de": "Stuhl|Stühle", "zh": "椅子", "sw": "kiti|viti", "ar": "كرسي|كراسي"},
    "butterfly": {
        "en": "butterfly|butterflies",
        "de": "Schmetterling",
        "zh": "蝴蝶",
        "sw": "kipepeo|vipepeo",
        "ar": "فراش",
    },
    "cat": {"en": "cats?", "de": "Katze", "zh": "猫", "sw": "paka", "ar": "قط(ة|ت|ط)"},
}
_COLOURS: dict[Colour, dict[str, str]] = {
    "red": {"en": "red", "de": "rote", "zh": "红色", "sw": r"\w+ekundu", "ar": "(ال)?(أحمر|حمرا)"},
    "blue": {"en": "blue", "de": "blaue", "zh": "蓝色", "sw": "bluu", "ar": "(ال)?(أزرق|زرقا)"},
    "green": {"en": "green", "de": "grüne", "zh": "绿色", "sw": "kijani", "ar": "(ال)?(أخضر|خضرا)"},
    "yellow": {"en": "yellow", "de": "gelbe", "zh": "黄色", "sw": "njano", "ar": "(ال)?(أصفر|صفرا)"},
    "purple": {"en": "purple", "de": "violette", "zh": "紫色", "sw": "zambarau", "ar": "(ال)?بنفسجي"},
    "orange": {"en": "orange", "de": "orangefarbene", "zh": "橙色", "sw": "machungwa", "ar": "(ال)?برتقالي"},
    "white": {"en": "white", "de": "weiße", "zh": "白色", "sw": r"\w+eupe", "ar": "(ال)?(أبيض|بيضا)"},
    "black": {"en": "black", "de": "schwarze", "zh": "黑色", "sw": r"\w+eusi", "ar": "(ال)?(أسود|سودا)"},
}
_BORDERS = {"en": (r"\b", r"\b"), "de": (r"\b", ""), "zh": ("", ""), "sw": (r"\b", r"\b"), "ar": ("", "")}
_ARABIC_START = r"(?:^|\s|[وا]|ال)"


def _found(table: dict[str, dict[str, str]], language: str, text: str) -> list[str]:
    before, after = _BORDERS[language]
    before = _ARABIC_START if language == "ar" else before
    found = []
    for name, words in table.items():
        pattern = f"{before}(?:{words[language]}){after}"
        found += [name] * len(re.findall(pattern, text, re.IGNORECASE if language == "sw" else 0))
    return sorted(found)


def test_all_languages_name_the_same_objects_and_colours() -> None:
    rng = random.Random(3)
    for scene in islice(training_scenes(rng), 400):
        plan = sample_plan(scene, rng)
        shapes = sorted(thing.shape for thing in scene.things)
        colours = sorted(thing.colour for thing in scene.things)
        for language, caption in CAPTIONS.items():
            text = caption(plan, rng)
            text = text.lower() if language == "en" else text
            assert _found(_SHAPES, language, text) == shapes, (language, text)  # type: ignore[arg-type]
            assert _found(_COLOURS, language, text) == colours, (language, text)  # type: ignore[arg-type]


_BACKGROUND_WORDS = {
    "en": r"sea\b", "de": r"\bMeer|\bSee", "zh": "海", "sw": "bahar", "ar": "البحر"
}  # fmt: skip
_THREE = {"en": r"\bthree\b", "de": r"\bdrei\b", "zh": "三", "sw": r"\b\w*tatu\b", "ar": "ثلاث"}


@pytest.mark.parametrize("language", sorted(CAPTIONS))
def test_a_fact_is_said_exactly_when_it_is_planned(language: str) -> None:
    def says(words: dict[str, str], plan: Plan) -> set[bool]:
        texts = (CAPTIONS[language](plan, random.Random(seed)) for seed in range(60))
        return {re.search(words[language], text, re.IGNORECASE) is not None for text in texts}

    cat = Thing(shape="cat", colour="red")
    cats = Thing(shape="cat", colour="red", count=3)
    assert says(_BACKGROUND_WORDS, Plan(first=cat, background="sea")) == {True}
    assert says(_BACKGROUND_WORDS, Plan(first=cat)) == {False}
    assert says(_THREE, Plan(first=cats)) == {True}
    assert says(_THREE, Plan(first=cat)) == {False}


def test_the_same_draw_gives_the_same_words() -> None:
    for plan in _PLANS.values():
        for caption in CAPTIONS.values():
            assert caption(plan, random.Random(1)) == caption(plan, random.Random(1))
