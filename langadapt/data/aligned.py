"""Two plain files whose lines correspond (Moses format)."""

from collections.abc import Iterator
from itertools import zip_longest
from pathlib import Path

from langadapt.data.lines import read_lines
from langadapt.data.rows import Row, check_text
from langadapt.errors import DataError


def read_aligned(english: Path, target: Path) -> Iterator[Row]:
    """Streams line pairs of two files, each also .gz or .zst.

    Args:
        english: English sentences, one per line.
        target: their translations on the same lines.

    Yields:
        Rows with the two texts, English first.

    Raises:
        DataError: unreadable file, a blank line on either side, different numbers of lines, no lines.
    """
    for row in read_aligned_lines(english, target):
        number = row.place.rpartition(" ")[2]
        check_text(row.values[0], f"{english}: line {number} (beside {target.name})")
        check_text(row.values[1], f"{target}: line {number} (beside {english.name})")
        yield row


def read_aligned_lines(english: Path, target: Path) -> Iterator[Row]:
    """Like `read_aligned`, blank lines as they are."""
    number = 0
    for left, right in zip_longest(read_lines(english), read_lines(target)):
        if left is None or right is None:
            raise _unequal(english, target)
        number += 1
        yield Row(f"{english}, {target.name}: line {number}", (left.text, right.text))
    if not number:
        raise DataError(
            f"{english} and {target.name}: hold no lines; check that they were written completely"
        )


def _unequal(english: Path, target: Path) -> DataError:
    counts = [sum(1 for _ in read_lines(path)) for path in (english, target)]
    return DataError(
        f"{english} has {counts[0]} lines, {target} has {counts[1]}: they do not correspond; "
        "take both from one release"
    )
