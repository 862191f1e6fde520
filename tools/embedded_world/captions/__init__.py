"""One caption grammar per language."""

from collections.abc import Callable

from tools.embedded_world.authors import Author
from tools.embedded_world.captions import arabic, chinese, english, german, swahili
from tools.embedded_world.plans import Plan

CAPTIONS: dict[str, Callable[[Plan, Author], str]] = {
    "en": english.caption,
    "zh": chinese.caption,
    "de": german.caption,
    "sw": swahili.caption,
    "ar": arabic.caption,
}
