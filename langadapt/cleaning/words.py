"""Normalised texts and what they are compared by: words without case and punctuation, keys, token hashes."""

import functools
import hashlib
import re
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

import ftfy
import numpy as np
from numpy.typing import NDArray

from langadapt.cleaning.rules import EXAMPLES, CleaningRules
from langadapt.data.tokens import consecutive
from langadapt.errors import DataError


class _Characters(dict[int, str]):
    """Code point -> what stands for it; filled as characters are met."""

    def __init__(self, stand_in: Callable[[str], str]) -> None:
        self._stand_in = stand_in

    def __missing__(self, code: int) -> str:
        self[code] = found = self._stand_in(chr(code))
        return found


def _folded(character: str) -> str:
    """A space for what is no letter, mark or digit; spaces around what is a token alone."""
    if unicodedata.category(character)[0] not in "LMN":
        return " "
    return f" {character} " if script_name(character) in UNSEGMENTED else character


_FOLD = _Characters(_folded)


def fold_tokens(text: str) -> list[str]:
    """Return the words of a text as they are compared: NFKC, case folded, without punctuation.

    In scripts that write no spaces each character is a token.

    Example:
        >>> fold_tokens("A DOG, 2 cats; 狗！")
        ['a', 'dog', '2', 'cats', '狗']
    """
    if not text.isascii():
        text = unicodedata.normalize("NFKC", text.casefold())
    return text.casefold().translate(_FOLD).split()


def fold_key(words: Sequence[str]) -> int:
    """Hash words to 64 bits: equal for texts that differ in case, punctuation and white space only."""
    return hash64("".join(words))


def hash64(text: str) -> int:
    """Hash a text to 64 bits, the same in every process."""
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "little")


@dataclass(frozen=True, kw_only=True, eq=False)
class TokenRows:
    """Hashed tokens of many texts: `ids [N]` uint32, row r is `ids[offsets[r]:offsets[r + 1]]`."""

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
        """Return some rows in the given order."""
        lengths = self.lengths[rows]
        offsets = row_offsets(lengths)
        return TokenRows(ids=self.ids[consecutive(self.offsets[rows], lengths)], offsets=offsets)


_word_hash = functools.lru_cache(maxsize=1 << 18)(hash64)


def token_rows(texts: Sequence[Sequence[str]]) -> TokenRows:
    """Hash the words of some texts to 32 bits, the same in every process."""
    ids = np.array([_word_hash(word) & 0xFFFFFFFF for words in texts for word in words], np.uint32)
    return TokenRows(ids=ids, offsets=row_offsets(np.array(list(map(len, texts)), np.int64)))


def row_offsets(lengths: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return where rows of these lengths begin, and where the last one ends: int64 `[len(lengths) + 1]`."""
    return np.concatenate([np.zeros(1, np.int64), np.cumsum(lengths, dtype=np.int64)])


@dataclass(frozen=True, kw_only=True, eq=False)
class Side:
    """One side of some rows: normalised texts, their words, and the words as numbers."""

    texts: Sequence[str]
    words: Sequence[list[str]]
    tokens: TokenRows

    def __len__(self) -> int:
        return len(self.texts)

    @property
    def characters(self) -> NDArray[np.float64]:
        """Length of each text."""
        return np.fromiter(map(len, self.texts), np.float64, len(self.texts))

    def take(self, rows: NDArray[np.int64]) -> "Side":
        """Return some rows in the given order."""
        numbers = rows.tolist()
        texts, words = [self.texts[i] for i in numbers], [self.words[i] for i in numbers]
        return Side(texts=texts, words=words, tokens=self.tokens.take(rows))


@dataclass(frozen=True, kw_only=True, eq=False)
class NormalisedRows:
    """Both sides, and how many rows each normalising rule changed."""

    english: Side
    target: Side
    counts: Mapping[str, int]
    examples: Mapping[str, tuple[int, ...]]
    """The first rows that each rule changed."""

    def exchange(self, rows: NDArray[np.bool_]) -> "NormalisedRows":
        """Exchange the sides of some rows."""
        if not rows.any():
            return self
        own, other = self.english, self.target
        tokens = TokenRows(
            ids=np.concatenate([own.tokens.ids, other.tokens.ids]),
            offsets=row_offsets(np.concatenate([own.tokens.lengths, other.tokens.lengths])),
        )
        both = Side(texts=[*own.texts, *other.texts], words=[*own.words, *other.words], tokens=tokens)
        first = np.arange(len(own))
        second = first + len(own)
        english, target = both.take(np.where(rows, second, first)), both.take(np.where(rows, first, second))
        return replace(self, english=english, target=target)


def normalise_rows(english: Sequence[str], target: Sequence[str], rules: CleaningRules) -> NormalisedRows:
    """Normalise the raw texts of some rows and split them into words."""
    active = [(name, normalise) for name, normalise in NORMALISERS.items() if rules.runs(name)]
    changed: dict[str, set[int]] = {}
    sides: tuple[list[str], list[str]] = ([], [])
    for row, pair in enumerate(zip(english, target, strict=True)):
        for side, text in zip(sides, pair, strict=True):
            new = text
            for name, normalise in active:
                old, new = new, normalise(new)
                if new != old:
                    changed.setdefault(name, set()).add(row)
            side.append(new)
    return NormalisedRows(
        english=side_of(sides[0]),
        target=side_of(sides[1]),
        counts={name: len(rows) for name, rows in changed.items()},
        examples={name: tuple(sorted(rows)[:EXAMPLES]) for name, rows in changed.items()},
    )


def side_of(texts: Sequence[str]) -> Side:
    """Split texts into words and hash these."""
    words = [fold_tokens(text) for text in texts]
    return Side(texts=texts, words=words, tokens=token_rows(words))


def without_entities(text: str) -> str:
    """Replace HTML's names of characters, such as `&amp;`, by the characters; twice, as some are nested."""
    return ftfy.fixes.unescape_html(ftfy.fixes.unescape_html(text)) if "&" in text else text


def decoded(text: str) -> str:
    """Mend mojibake, text decoded as if it were in another encoding: `cafÃ©` is `café`."""
    return text if text.isascii() else ftfy.fix_encoding(text)


# Cc but the white ones, halves of surrogate pairs, the byte order mark, soft hyphen, word joiner, the marks
# that set the direction, and others without a form. Not U+200B to U+200D: Khmer and Burmese break lines at
# the first, Persian and Indic scripts spell with the others.
_CONTROL = re.compile(
    "[\x00-\x08\x0e-\x1b\x7f-\x84\x86-\x9f\xad\u061c\u180e\u200e\u200f\u202a-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb\ud800-\udfff]"
)

NORMALISERS: dict[str, Callable[[str], str]] = {
    "html_entities": without_entities,
    "mojibake": decoded,
    # Nearly all texts are printable: one look at all characters in C is faster than the pattern.
    "control_characters": lambda text: text if text.isprintable() else _CONTROL.sub("", text),
    "unicode_nfc": lambda text: text if text.isascii() else unicodedata.normalize("NFC", text),
    "white_space": lambda text: " ".join(text.split()),
}
"""Normalising rules, in the order in which they run."""

# ISO 15924 code -> first words of its letters' names.
_NAMES = {
    "Adlm": "ADLAM", "Arab": "ARABIC", "Armn": "ARMENIAN", "Beng": "BENGALI", "Bopo": "BOPOMOFO", "Cans":
    "CANADIAN", "Cher": "CHEROKEE", "Copt": "COPTIC", "Cyrl": "CYRILLIC", "Deva": "DEVANAGARI", "Ethi":
    "ETHIOPIC", "Geor": "GEORGIAN", "Grek": "GREEK", "Gujr": "GUJARATI", "Guru": "GURMUKHI", "Hang": "HANGUL",
    "Hani": "CJK", "Hans": "CJK", "Hant": "CJK", "Hebr": "HEBREW", "Hira": "HIRAGANA", "Jpan":
    "CJK HIRAGANA KATAKANA", "Kana": "KATAKANA", "Khmr": "KHMER", "Knda": "KANNADA", "Kore": "HANGUL CJK",
    "Laoo": "LAO", "Latn": "LATIN", "Mlym": "MALAYALAM", "Mong": "MONGOLIAN", "Mtei": "MEETEI", "Mymr":
    "MYANMAR", "Nkoo": "NKO", "Olck": "OL", "Orya": "ORIYA", "Sinh": "SINHALA", "Sund": "SUNDANESE", "Syrc":
    "SYRIAC", "Taml": "TAMIL", "Telu": "TELUGU", "Tfng": "TIFINAGH", "Thaa": "THAANA", "Thai": "THAI", "Tibt":
    "TIBETAN", "Vaii": "VAI", "Yiii": "YI",
}  # fmt: skip

UNSEGMENTED = frozenset({"CJK", "HIRAGANA", "KATAKANA", "THAI", "LAO", "KHMER", "MYANMAR", "TIBETAN", "YI"})
"""Scripts that write no spaces between words: their characters are counted instead of words."""


@functools.lru_cache(maxsize=65536)
def script_name(character: str) -> str:
    """Return Unicode's name of a letter's script, `LATIN`; empty for what is no letter or combining mark."""
    if unicodedata.category(character)[0] not in "LM":
        return ""
    words = unicodedata.name(character, "").removeprefix("FULLWIDTH ").removeprefix("HALFWIDTH ").split()
    return words[0] if words and words[0] != "COMBINING" else ""


def main_script(texts: Iterable[str]) -> str:
    """Return the ISO 15924 code of the script of most letters; `Latn` where there is no known one."""
    counts = Counter(script_name(character) for text in texts for character in text)
    names = {words.split()[0]: code for code, words in reversed(_NAMES.items())}
    return next((names[name] for name, _ in counts.most_common() if name in names), "Latn")


class ScriptShare:
    """Share of a text's words that belong to some scripts.

    Words and not letters are counted (characters where a script writes no spaces): `Tom游泳` is Chinese.
    """

    def __init__(self, *, scripts: Sequence[str]) -> None:
        """Take ISO 15924 codes; raise DataError for one whose letters are not known here."""
        unknown = [code for code in scripts if code not in _NAMES]
        if unknown:
            raise DataError(f"script {unknown[0]} is not known to the cleaning; known: {', '.join(_NAMES)}")
        names = {name for code in scripts for name in _NAMES[code].split()}
        # `a`: own script, `b`: another one
        classes = {True: "a", False: "b"}
        self._table = _Characters(
            lambda letter: classes[name in names] if (name := script_name(letter)) else " "
        )

    def __call__(self, words: Sequence[str]) -> float:
        """Return the share, 0 to 1, for the words of `fold_tokens`; 1 for words without letters."""
        classes = "".join([word[0] for word in words]).translate(self._table)
        own, other = classes.count("a"), classes.count("b")
        return own / (own + other) if own + other else 1.0
