"""A table with a column of image paths and one of captions: the form for your own data."""

from collections.abc import Iterator

from langadapt.data.retrieval_formats.caption import Caption, CaptionFiles
from langadapt.data.rows import Row, check_text
from langadapt.data.tables import read_values
from langadapt.errors import DataError


def read_table_captions(files: CaptionFiles) -> Iterator[Caption]:
    """Captions of TSV, CSV, JSON Lines and Parquet tables.

    A cell of JSON Lines or Parquet may hold a list of captions; then the English cell holds a list of the
    same length. An image-free set needs no image column.
    """
    columns = files.columns
    asked = [columns.caption]
    if columns.english is not None:
        asked.append(columns.english)
    if not files.image_free:
        asked.append(columns.image)
    for path in files.captions:
        for row in read_values(path, asked):
            image = "" if files.image_free else check_text(row.values[-1], f"{row.place}: {columns.image}")
            texts = _texts(row, 0, columns.caption)
            english: list[str] | list[None] = [None] * len(texts)
            if columns.english is not None:
                english = _texts(row, 1, columns.english)
            if len(english) != len(texts):
                raise DataError(
                    f"{row.place}: {len(texts)} captions, {len(english)} English ones; each needs its own"
                )
            for text, side in zip(texts, english, strict=True):
                yield Caption(image, text, side)


def _texts(row: Row, index: int, column: str) -> list[str]:
    value = row.values[index]
    values = value if isinstance(value, list) else [value]
    if not values:
        raise DataError(f"{row.place}: {column}: the list is empty; add a caption or remove this row")
    return [check_text(item, f"{row.place}: {column}") for item in values]
