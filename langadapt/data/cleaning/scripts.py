"""Which script a letter belongs to, from Unicode's own character names: no table to keep, no library."""

import functools
import unicodedata
from collections.abc import Mapping, Sequence

from langadapt.errors import DataError

# ISO 15924 code -> how the names of its letters start.
_NAMES = {
    "Adlm": ("ADLAM",), "Arab": ("ARABIC",), "Armn": ("ARMENIAN",), "Beng": ("BENGALI",), "Bopo":
    ("BOPOMOFO",), "Cans": ("CANADIAN",), "Cher": ("CHEROKEE",), "Copt": ("COPTIC",), "Cyrl": ("CYRILLIC",),
    "Deva": ("DEVANAGARI",), "Ethi": ("ETHIOPIC",), "Geor": ("GEORGIAN",), "Grek": ("GREEK",),
    "Gujr": ("GUJARATI",), "Guru": ("GURMUKHI",), "Hang": ("HANGUL",), "Hani": ("CJK",), "Hans": ("CJK",),
    "Hant": ("CJK",), "Hebr": ("HEBREW",), "Hira": ("HIRAGANA",), "Jpan": ("CJK", "HIRAGANA", "KATAKANA"),
    "Kana": ("KATAKANA",), "Khmr": ("KHMER",), "Knda": ("KANNADA",), "Kore": ("HANGUL", "CJK"), "Laoo":
    ("LAO",), "Latn": ("LATIN",), "Mlym": ("MALAYALAM",), "Mong": ("MONGOLIAN",), "Mtei": ("MEETEI",), "Mymr":
    ("MYANMAR",), "Nkoo": ("NKO",), "Olck": ("OL",), "Orya": ("ORIYA",), "Sinh": ("SINHALA",), "Sund":
    ("SUNDANESE",), "Syrc": ("SYRIAC",), "Taml": ("TAMIL",), "Telu": ("TELUGU",), "Tfng": ("TIFINAGH",),
    "Thaa": ("THAANA",), "Thai": ("THAI",), "Tibt": ("TIBETAN",), "Vaii": ("VAI",), "Yiii": ("YI",),
}  # fmt: skip
UNSEGMENTED = frozenset({"CJK", "HIRAGANA", "KATAKANA", "THAI", "LAO", "KHMER", "MYANMAR", "TIBETAN", "YI"})
"""Scripts that write no spaces between words: their characters are counted instead of words."""


@functools.lru_cache(maxsize=65536)
def script_name(character: str) -> str:
    """How Unicode calls the script of a letter, `LATIN`; empty for what is no letter and no combining
    mark."""
    if unicodedata.category(character)[0] not in "LM":
        return ""
    words = unicodedata.name(character, "").removeprefix("FULLWIDTH ").removeprefix("HALFWIDTH ").split()
    return words[0] if words and words[0] != "COMBINING" else ""


class ScriptShare:
    """Share of a text's words that belong to some scripts.

    Words and not letters are counted (characters where a script writes no spaces): `Tom游泳` is Chinese.
    """

    def __init__(self, *, scripts: Sequence[str]) -> None:
        """Takes ISO 15924 codes.

        Raises:
            DataError: a code whose letters are not known here.
        """
        unknown = [code for code in scripts if code not in _NAMES]
        if unknown:
            raise DataError(f"script {unknown[0]} is not known to the cleaning; known: {', '.join(_NAMES)}")
        self._table = _Classes(frozenset(name for code in scripts for name in _NAMES[code]))

    def __call__(self, words: Sequence[str]) -> float:
        """The share, 0 to 1; of words without letters 1, because nothing speaks against it.

        Args:
            words: what `fold_tokens` makes of a text.
        """
        classes = "".join([word[0] for word in words]).translate(self._table)
        own, other = classes.count("a"), classes.count("b")
        return own / (own + other) if own + other else 1.0


class _Classes(dict[int, str]):
    """Code point -> `a` own script, `b` another one, space for no letter; filled as characters are met."""

    def __init__(self, names: frozenset[str]) -> None:
        super().__init__()
        self._names = names

    def __missing__(self, code: int) -> str:
        name = script_name(chr(code))
        self[code] = found = " " if not name else "a" if name in self._names else "b"
        return found


def letter_scripts(text: str) -> Mapping[str, int]:
    """How many letters of a text belong to which script, by Unicode's names."""
    counts: dict[str, int] = {}
    for character in text:
        if name := script_name(character):
            counts[name] = counts.get(name, 0) + 1
    return counts
