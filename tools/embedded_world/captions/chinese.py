"""Chinese captions, with the measure word each noun asks for."""

import random

from langadapt.quickstart.shapes import Background, Colour, Place, Shape, Size, Thing
from tools.embedded_world.plans import Direction, Plan, statement, unrelated

NOUNS: dict[Shape, tuple[str, str]] = {
    "ball": ("个", "球"),
    "star": ("颗", "星星"),
    "house": ("座", "房子"),
    "car": ("辆", "汽车"),
    "boat": ("艘", "船"),
    "cup": ("个", "杯子"),
    "fish": ("条", "鱼"),
    "flower": ("朵", "花"),
    "tree": ("棵", "树"),
    "umbrella": ("把", "雨伞"),
    "hat": ("顶", "帽子"),
    "book": ("本", "书"),
    "bell": ("个", "铃铛"),
    "chair": ("把", "椅子"),
    "butterfly": ("只", "蝴蝶"),
    "cat": ("只", "猫"),
}
COLOURS: dict[Colour, str] = {
    "red": "红色",
    "blue": "蓝色",
    "green": "绿色",
    "yellow": "黄色",
    "purple": "紫色",
    "orange": "橙色",
    "white": "白色",
    "black": "黑色",
}
SIZES: dict[Size, str] = {"small": "小", "large": "大"}
NUMBERS = {1: "一", 2: "两", 3: "三"}
BACKGROUNDS: dict[Background, tuple[str, ...]] = {
    "meadow": ("草地上", "青草地上"),
    "sea": ("海面上", "大海上"),
    "desert": ("沙漠里", "沙漠中"),
    "night": ("夜空下", "夜晚"),
    "snow": ("雪地里", "雪地上"),
    "sunset": ("夕阳下", "日落时分"),
    "mountains": ("群山前", "山里"),
    "city": ("城市里", "城市的高楼前"),
}
BACKDROPS: dict[Background, str] = {
    "meadow": "草地",
    "sea": "大海",
    "desert": "沙漠",
    "night": "夜空",
    "snow": "雪地",
    "sunset": "夕阳",
    "mountains": "群山",
    "city": "城市",
}
RELATIONS: dict[Direction, tuple[str, ...]] = {
    "left": ("左边", "左侧"),
    "right": ("右边", "右侧"),
    "above": ("上方", "上面"),
    "below": ("下方", "下面"),
}
SIDES: dict[Direction, tuple[str, str]] = {
    "left": ("左边", "右边"),
    "right": ("右边", "左边"),
    "above": ("上面", "下面"),
    "below": ("下面", "上面"),
}
PLACES: dict[Place, tuple[str, ...]] = {
    "top": ("画面上方", "最上面"),
    "bottom": ("画面下方", "最下面"),
    "left": ("画面左侧", "最左边"),
    "right": ("画面右侧", "最右边"),
}


def caption(plan: Plan, rng: random.Random) -> str:
    """Word a plan in Chinese.

    Args:
        plan: The facts to state.
        rng: Chooses among the paraphrases.

    Returns:
        One sentence.
    """
    if plan.background and rng.random() < 0.25:
        return f"{_core(plan, '', rng)}{_tail(plan, rng)}，背景是{BACKDROPS[plan.background]}。"
    background = rng.choice(BACKGROUNDS[plan.background]) if plan.background else ""
    return f"{_core(plan, background, rng)}{_tail(plan, rng)}。"


def _core(plan: Plan, background: str, rng: random.Random) -> str:
    told = statement(plan, rng)
    if told is None:
        things = "和".join(_phrase(thing, rng) for thing in unrelated(plan, rng))
        return f"{background}{_opening(background, rng)}{things}"
    one, other = told.subject, told.landmark
    comma = "，" if background else ""
    if rng.random() < 0.3:
        here, there = SIDES[told.direction]
        return f"{background}{comma}{here}是{_phrase(one, rng)}，{there}是{_phrase(other, rng)}"
    where = rng.choice(RELATIONS[told.direction])
    if rng.random() < 0.4:
        return f"{background}{comma}{_phrase(other, rng, short=True)}的{where}有{_phrase(one, rng)}"
    seen = f"{_opening(background, rng)}{_phrase(one, rng)}"
    return f"{background}{seen}，在{_phrase(other, rng, short=True)}的{where}"


def _opening(background: str, rng: random.Random) -> str:
    return "有" if background else rng.choice(("有", "图中有", "画面上有"))


def _tail(plan: Plan, rng: random.Random) -> str:
    if plan.third is None:
        return ""
    phrase = _phrase(plan.third, rng)
    if plan.place is None:
        return f"，{rng.choice(('还有', '另外还有'))}{phrase}"
    return f"，{rng.choice(PLACES[plan.place])}{rng.choice(('有', '还有', '是'))}{phrase}"


def _phrase(thing: Thing, rng: random.Random, *, short: bool = False) -> str:
    measure, noun = NOUNS[thing.shape]
    size = SIZES[thing.size] if thing.size else ""
    number, colour = NUMBERS[thing.count], COLOURS[thing.colour]
    bare = len(size + noun) > 1 and (rng.random() < 0.3 or short)
    return f"{number}{measure}{colour}{'' if bare else '的'}{size}{noun}"
