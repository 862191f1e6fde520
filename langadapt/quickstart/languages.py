"""The grammars by language code."""

from __future__ import annotations

import random
from collections.abc import Callable

from langadapt.quickstart.captions import arabic, chinese, english, german, swahili
from langadapt.quickstart.plans import Plan

CAPTIONS: dict[str, Callable[[Plan, random.Random], str]] = {
    "en": english.caption,
    "zh": chinese.caption,
    "de": german.caption,
    "sw": swahili.caption,
    "ar": arabic.caption,
}
