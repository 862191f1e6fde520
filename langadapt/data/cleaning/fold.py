"""Texts as they are compared: without case, punctuation and spaces, as keys and as numbered tokens."""

import hashlib
import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from langadapt.data.cleaning.scripts import UNSEGMENTED, script_name

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
