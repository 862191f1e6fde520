"""Texts as they are compared: without case, punctuation and spaces, as keys and as numbered tokens."""

import functools
import hashlib
import re
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from langadapt.cleaning.report import CleaningRules
from langadapt.errors import DataError

_MOST_WORDS_KEPT = 400_000


class _Fold(dict[int, str]):
    """Code point -> itself, a space for what is no letter, mark or digit, or itself between spaces."""

    def __missing__(self, code: int) -> str:
        character = chr(code)
        plain = unicodedata.category(character)[0] in "LMN"
        alone = plain and script_name(character) in UNSEGMENTED
        self[code] = found = f" {character} " if alone else character if plain else " "
        return found


_FOLD = _Fold()


def fold_tokens(text: str) -> list[str]:
    """Words of a text as they are compared: NFKC, case folded, without punctuation.

    In scripts that write no spaces each character is a token.

    Example:
        >>> fold_tokens("A DOG, 2 cats; 狗！")
        ['a', 'dog', '2', 'cats', '狗']
    """
    if not text.isascii():
        text = unicodedata.normalize("NFKC", text.casefold())
    return text.casefold().translate(_FOLD).split()


def fold_key(words: Sequence[str]) -> int:
    """A 64-bit number that is equal for texts which differ in case, punctuation and white space only.

    Args:
        words: what `fold_tokens` makes of a text.

    Example:
        >>> fold_key(fold_tokens("A dog's life.")) == fold_key(fold_tokens("a DOGS life"))
        True
    """
    return _hash("".join(words))


def pair_key(english: Sequence[str], target: Sequence[str]) -> int:
    """`fold_key` of both sides together."""
    return _hash("".join(english) + "\t" + "".join(target))


def _hash(text: str) -> int:
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "little")


@dataclass(frozen=True, kw_only=True, eq=False)
class TokenRows:
    """Tokens of many texts, one after the other: `ids [N]` uint32 hashes, row r is `ids[offsets[r]:offsets[r
    + 1]]`."""

    ids: NDArray[np.uint32]
    offsets: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.offsets) - 1

    @property
    def lengths(self) -> NDArray[np.int64]:
        """Tokens of each row."""
        return np.diff(self.offsets)

    def row(self, number: int) -> NDArray[np.uint32]:
        """Tokens of one row."""
        return self.ids[self.offsets[number] : self.offsets[number + 1]]

    def take(self, rows: NDArray[np.int64]) -> "TokenRows":
        """Some rows in the given order."""
        lengths = self.lengths[rows]
        offsets = _offsets(lengths)
        places = np.repeat(self.offsets[rows] - offsets[:-1], lengths) + np.arange(offsets[-1])
        return TokenRows(ids=self.ids[places], offsets=offsets)


class TokenHash(dict[str, int]):
    """Word -> 32-bit hash, the same in every process; keeps the words that it has met."""

    def __missing__(self, word: str) -> int:
        if len(self) > _MOST_WORDS_KEPT:
            self.clear()
        self[word] = found = _hash(word) & 0xFFFFFFFF
        return found


def token_rows(texts: Iterable[Sequence[str]], hashes: TokenHash) -> TokenRows:
    """Tokens of some texts as numbers."""
    rows = list(texts)
    flat = [hashes[word] for row in rows for word in row]
    return TokenRows(
        ids=np.array(flat, np.uint32), offsets=_offsets(np.array([len(row) for row in rows], np.int64))
    )


def join_rows(parts: Sequence[TokenRows]) -> TokenRows:
    """Several parts, one after the other."""
    lengths = [part.lengths for part in parts]
    ids = np.concatenate([part.ids for part in parts]) if parts else np.zeros(0, np.uint32)
    return TokenRows(ids=ids, offsets=_offsets(np.concatenate(lengths) if parts else np.zeros(0, np.int64)))


def _offsets(lengths: NDArray[np.int64]) -> NDArray[np.int64]:
    offsets = np.zeros(len(lengths) + 1, np.int64)
    np.cumsum(lengths, out=offsets[1:])
    return offsets


@dataclass(frozen=True, kw_only=True, eq=False)
class Side:
    """One side of some rows: mended texts, their words, and the words as numbers."""

    texts: Sequence[str]
    words: Sequence[list[str]]
    tokens: TokenRows

    def __len__(self) -> int:
        return len(self.texts)

    @property
    def characters(self) -> NDArray[np.float64]:
        """Length of each text."""
        return np.fromiter(map(len, self.texts), np.float64, len(self.texts))


@dataclass(frozen=True, kw_only=True, eq=False)
class Mended:
    """Both sides, and how many rows each mending rule changed."""

    english: Side
    target: Side
    counts: Mapping[str, int]
    examples: Mapping[str, tuple[int, ...]]
    """The first rows that each mending rule changed."""


def mended_rows(
    english: Sequence[str], target: Sequence[str], rules: CleaningRules, hashes: TokenHash, *, shown: int = 3
) -> Mended:
    """Mends texts and takes them apart.

    Args:
        english: raw English sides.
        target: raw target sides.
        rules: which mending rules run.
        hashes: word numbers, kept from call to call.
        shown: examples for each rule.
    """
    active = [(name, mend) for name, mend in MENDS.items() if rules.runs(name)]
    changed: dict[str, set[int]] = {}
    out: tuple[list[str], list[str]] = ([], [])
    for row, pair in enumerate(zip(english, target, strict=True)):
        for side, text in enumerate(pair):
            new = text
            for name, mend in active:
                old, new = new, mend(new)
                if new != old:
                    changed.setdefault(name, set()).add(row)
            out[side].append(new)
    return Mended(
        english=side_of(out[0], hashes),
        target=side_of(out[1], hashes),
        counts={name: len(rows) for name, rows in changed.items()},
        examples={name: tuple(sorted(rows)[:shown]) for name, rows in changed.items()},
    )


def side_of(texts: Sequence[str], hashes: TokenHash) -> Side:
    """Texts with their words and numbers."""
    words = [fold_tokens(text) for text in texts]
    return Side(texts=texts, words=words, tokens=token_rows(words, hashes))


def exchanged(mended: Mended, rows: NDArray[np.bool_]) -> Mended:
    """The same rows with the sides of some of them exchanged."""
    if not rows.any():
        return mended
    count = len(mended.english)
    both = join_rows([mended.english.tokens, mended.target.tokens])
    own, other = np.arange(count), np.arange(count) + count
    texts = [*mended.english.texts, *mended.target.texts]
    words = [*mended.english.words, *mended.target.words]

    def side(places: NDArray[np.int64]) -> Side:
        chosen = places.tolist()
        return Side(
            texts=[texts[i] for i in chosen], words=[words[i] for i in chosen], tokens=both.take(places)
        )

    return replace(mended, english=side(np.where(rows, other, own)), target=side(np.where(rows, own, other)))


# Cc but the white ones, halves of surrogate pairs, the byte order mark, soft hyphen, word joiner and the
# marks that set the direction. Not U+200B to U+200D: Khmer and Burmese break lines at the first, Persian and
# Indic scripts spell with the others.
_CONTROL = re.compile(
    "[\x00-\x08\x0e-\x1b\x7f-\x84\x86-\x9f\xad\ufeff\u200e\u200f\u202a-\u202e\u2060\u2066-\u2069\ud800-\udfff]"
)


def without_control(text: str) -> str:
    """The text without characters that nobody sees and no tokenizer expects.

    Example:
        >>> without_control("a\\x00b\\ufeff")
        'ab'
    """
    # Nearly all texts are printable: one look at all characters in C is faster than the pattern.
    return text if text.isprintable() else _CONTROL.sub("", text)


def composed(text: str) -> str:
    """The text in Unicode's composed form NFC: one code for each accented letter.

    Example:
        >>> len(composed("e\\u0301"))
        1
    """
    return text if text.isascii() else unicodedata.normalize("NFC", text)


def single_spaces(text: str) -> str:
    """The text with each run of white space as one space, none outside.

    Example:
        >>> single_spaces(" a\\u00a0 \\t b ")
        'a b'
    """
    return " ".join(text.split())


MENDS = {"control_characters": without_control, "unicode_nfc": composed, "white_space": single_spaces}

"""Rules that mend, in the order in which they run."""

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
