"""Chinese captions, with the measure word each noun asks for."""

from langadapt.quickstart.shapes import Background, Colour, Place, Shape, Size, Thing
from tools.embedded_world.authors import Author
from tools.embedded_world.plans import Direction, Plan, statement, unrelated

NOUNS: dict[Shape, tuple[tuple[str, str], ...]] = {
    "ball": (("个", "球"), ("个", "皮球"), ("只", "足球")),
    "star": (("颗", "星星"), ("颗", "星"), ("颗", "五角星")),
    "house": (("座", "房子"), ("栋", "房屋"), ("间", "木屋")),
    "car": (("辆", "汽车"), ("辆", "轿车"), ("台", "车子")),
    "boat": (("艘", "船"), ("条", "木舟"), ("艘", "帆船")),
    "cup": (("个", "杯子"), ("只", "茶杯"), ("只", "马克杯")),
    "fish": (("条", "鱼"), ("尾", "鲤鱼"), ("尾", "鲫鱼")),
    "flower": (("朵", "花"), ("朵", "鲜花"), ("枝", "花儿")),
    "tree": (("棵", "树"), ("株", "树木"), ("株", "果树")),
    "umbrella": (("把", "雨伞"), ("柄", "伞"), ("把", "阳伞")),
    "hat": (("顶", "帽子"), ("顶", "礼帽"), ("顶", "便帽")),
    "book": (("本", "书"), ("册", "书籍"), ("册", "图书")),
    "bell": (("个", "铃铛"), ("口", "钟"), ("只", "铃")),
    "chair": (("把", "椅子"), ("张", "凳子"), ("个", "座椅")),
    "butterfly": (("只", "蝴蝶"), ("只", "彩蝶"), ("只", "凤蝶")),
    "cat": (("只", "猫"), ("只", "猫咪"), ("只", "家猫")),
}
COLOURS: dict[Colour, tuple[str, ...]] = {
    "red": ("红色", "朱红色", "赤色"),
    "blue": ("蓝色", "天蓝色", "湛蓝色"),
    "green": ("绿色", "翠绿色", "碧绿色"),
    "yellow": ("黄色", "金黄色", "鹅黄色"),
    "purple": ("紫色", "紫罗兰色", "绛紫色"),
    "orange": ("橙色", "橘色", "橘子色"),
    "white": ("白色", "雪白色", "乳白色"),
    "black": ("黑色", "漆黑色", "乌黑色"),
}
SIZES: dict[Size, tuple[str, ...]] = {"small": ("小", "迷你"), "large": ("大", "巨大")}
NUMBERS = {1: "一", 2: "两", 3: "三"}
BACKGROUNDS: dict[Background, tuple[str, ...]] = {
    "meadow": ("草地上", "青草地上", "草坪上"),
    "sea": ("海面上", "大海上", "海浪中"),
    "desert": ("沙漠里", "沙漠中", "荒漠中"),
    "night": ("夜空下", "夜晚", "深夜里"),
    "snow": ("雪地里", "雪地上", "冰雪中"),
    "sunset": ("夕阳下", "日落时分", "黄昏时"),
    "mountains": ("群山前", "山里", "高山前"),
    "city": ("城市里", "城市的高楼前", "都市里"),
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


def caption(plan: Plan, author: Author) -> str:
    """Word a plan in Chinese.

    Args:
        plan: The facts to state.
        author: Chooses among words and paraphrases.

    Returns:
        One sentence.
    """
    if plan.background and author.random() < 0.25:
        return f"{_core(plan, '', author)}{_tail(plan, author)}，背景是{BACKDROPS[plan.background]}。"
    background = author.word(BACKGROUNDS[plan.background]) if plan.background else ""
    return f"{_core(plan, background, author)}{_tail(plan, author)}。"


def _core(plan: Plan, background: str, author: Author) -> str:
    told = statement(plan, author)
    if told is None:
        things = "和".join(_phrase(thing, author) for thing in unrelated(plan, author))
        return f"{background}{_opening(background, author)}{things}"
    one, other = told.subject, told.landmark
    comma = "，" if background else ""
    if author.random() < 0.3:
        here, there = SIDES[told.direction]
        return f"{background}{comma}{here}是{_phrase(one, author)}，{there}是{_phrase(other, author)}"
    where = author.choice(RELATIONS[told.direction])
    if author.random() < 0.4:
        return f"{background}{comma}{_phrase(other, author, short=True)}的{where}有{_phrase(one, author)}"
    seen = f"{_opening(background, author)}{_phrase(one, author)}"
    return f"{background}{seen}，在{_phrase(other, author, short=True)}的{where}"


def _opening(background: str, author: Author) -> str:
    return "有" if background else author.choice(("有", "图中有", "画面上有"))


def _tail(plan: Plan, author: Author) -> str:
    if plan.third is None:
        return ""
    phrase = _phrase(plan.third, author)
    if plan.place is None:
        return f"，{author.choice(('还有', '另外还有'))}{phrase}"
    return f"，{author.choice(PLACES[plan.place])}{author.choice(('有', '还有', '是'))}{phrase}"


def _phrase(thing: Thing, author: Author, *, short: bool = False) -> str:
    measure, noun = author.word(NOUNS[thing.shape])
    size = author.word(SIZES[thing.size]) if thing.size else ""
    number, colour = NUMBERS[thing.count], author.word(COLOURS[thing.colour])
    bare = len(size + noun) > 1 and (author.random() < 0.3 or short)
    return f"{number}{measure}{colour}{'' if bare else '的'}{size}{noun}"
