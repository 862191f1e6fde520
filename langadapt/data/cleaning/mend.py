"""What is put right in a text without dropping its row."""

import re
import unicodedata

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
