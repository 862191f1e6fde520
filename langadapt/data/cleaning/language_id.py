"""Language identification by CLD2 (`pip install langadapt[clean]`): compiled in, works offline, 10
microseconds a text."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.util import find_spec

# ISO 639 codes that CLD2 writes in its own way, and what it cannot tell apart.
_ALIASES = {"he": ("iw",), "jv": ("jw",), "nb": ("no",), "zh": ("zh-Hant",), "fil": ("tl",), "ckb": ("ku",)}
_TWINS = (
    {"no", "nn", "da"},
    {"id", "ms"},
    {"hr", "sr", "bs"},
    {"cs", "sk"},
    {"en", "sco"},
    {"zu", "xh", "ss", "nr"},
    {"tn", "st", "nso"},
    {"rw", "rn"},
    {"zh", "zh-Hant", "ja"},
)
_CLEAR_PERCENT = 80


@dataclass(frozen=True, kw_only=True)
class Identifier:
    """Says which other language a text is in; empty where it is, or may be, in the expected one."""

    other: Callable[[str], str]


@dataclass(frozen=True, kw_only=True)
class NoIdentifier:
    """Why there is none."""

    reason: str


def identifier(codes: Sequence[str]) -> Identifier | NoIdentifier:
    """An identifier for one language.

    Args:
        codes: the language's ISO 639 codes, the shortest first.
    """
    if find_spec("pycld2") is None:
        return NoIdentifier(reason="pycld2 is not installed; `pip install langadapt[clean]` brings it")
    import pycld2

    known = {code for name, code in pycld2.LANGUAGES if name in pycld2.DETECTED_LANGUAGES}
    written = [name for code in codes for name in (code, *_ALIASES.get(code, ()))]
    own = [name for name in written if name in known]
    if not own:
        return NoIdentifier(reason=f"CLD2 does not know {codes[0]}")
    accepted = set(own).union(*(twins for twins in _TWINS if twins & set(own)))

    def other(text: str) -> str:
        try:
            # The hint makes it expect the language: what it still calls another one is one.
            reliable, _, found = pycld2.detect(text, bestEffort=True, hintLanguage=own[0])
        except pycld2.error:
            return ""
        name, percent = found[0][1], found[0][2]
        if not reliable or percent < _CLEAR_PERCENT or name == "un" or name in accepted:
            return ""
        return "" if any(item[1] in accepted for item in found) else str(name)

    return Identifier(other=other)
