"""Images of a data set on the Hub, kept as they were distributed in one file of the cache."""

import json
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import datasets

from langadapt.data.hub_data import load_hub
from langadapt.data.images import PackedImage
from langadapt.data.rows import Row, missing_column, reach
from langadapt.data.store import cache_folder, fingerprint
from langadapt.errors import DataError
from langadapt.recipes.data import HubSource


def read_hub_images(source: HubSource, columns: Sequence[str]) -> Iterator[Row]:
    """Streams rows of a Hub data set whose first column holds images.

    The images are copied undecoded into one file of the cache, once per revision; nothing is unpacked.

    Args:
        source: repository (or a local folder laid out like one), config, split, revision.
        columns: the image column, then text columns; dotted names reach into nested columns.

    Raises:
        DataError: as `read_hub`; the first column holds no images.
    """
    data = load_hub(source)
    where = f"{source.repo}, split {source.split}"
    names: list[str] = data.column_names
    image, *texts = columns
    for column in columns:
        if column not in names and column.partition(".")[0] not in names:
            raise missing_column(column, names, where)
    if not isinstance(data.features.get(image), datasets.Image):
        raise DataError(f"{where}: column '{image}' holds no images; name the one that does")
    roots = list(dict.fromkeys(c if c in names else c.partition(".")[0] for c in texts))
    places = _pack(data.select_columns([image]).cast_column(image, datasets.Image(decode=False)), image)
    for number, record in enumerate(data.select_columns(roots), start=1):
        place = f"{where}: row {number}"
        yield Row(place, (places[number - 1], *(reach(record, column, place) for column in texts)))


def _pack(data: Any, column: str) -> list[PackedImage]:
    folder = cache_folder() / "hub-images"
    stem = fingerprint(data._fingerprint, column, len(data))
    packed, index = folder / f"{stem}.bin", folder / f"{stem}.json"
    if not (index.is_file() and packed.is_file()):
        folder.mkdir(parents=True, exist_ok=True)
        sizes: list[int] = []
        temporary = folder / f".{stem}.{os.getpid()}.tmp"
        with temporary.open("wb") as file:
            for record in data:
                raw = record[column]["bytes"]
                if raw is None:
                    raw = Path(record[column]["path"]).read_bytes()
                sizes.append(file.write(raw))
        os.replace(temporary, packed)
        listing = index.with_name(f".{stem}.{os.getpid()}.json")
        listing.write_text(json.dumps(sizes), encoding="utf-8")
        os.replace(listing, index)
    sizes = json.loads(index.read_text(encoding="utf-8"))
    found, offset = [], 0
    for number, size in enumerate(sizes, start=1):
        found.append(PackedImage(packed, f"row {number}", offset, size))
        offset += size
    return found
