"""WebDataset shards: an image, its caption and perhaps more, under one key in an uncompressed tar file."""

import json
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from langadapt.data.images import SUFFIXES, PackedImage
from langadapt.data.lines import unreadable
from langadapt.data.rows import Row, reach
from langadapt.errors import DataError
from langadapt.recipes.data import CaptionColumns


def read_shard(path: Path, columns: CaptionColumns) -> Iterator[Row]:
    """Streams the samples of one shard; images stay where they are and are read when they are needed.

    A sample is a run of members whose names differ only behind the first dot: `0001.jpg` with `0001.json`,
    whose keys are the columns, or with `0001.txt` (the caption) and perhaps `0001.en.txt` (its English side).

    Args:
        path: .tar, not compressed: members could not be found again in a compressed one.
        columns: names of the caption and its English side in `.json` members.

    Yields:
        Rows with image, caption and, where `columns.english` is named, the English side.

    Raises:
        DataError: unreadable or compressed file, a sample without image or caption, no samples.
    """
    empty = True
    for key, members in _samples(path):
        empty = False
        yield _row(path, key, members, columns)
    if empty:
        raise DataError(f"{path}: holds no samples; check that it was written completely")


def has_english(path: Path) -> bool:
    """Whether the first sample of a shard names the caption's English side."""
    for _, members in _samples(path):
        if "json" in members:
            return "english" in _record(members["json"])
        return "en.txt" in members
    return False


def _samples(path: Path) -> Iterator[tuple[str, dict[str, PackedImage]]]:
    try:
        with tarfile.open(path, "r:") as tar:
            key, members = "", dict[str, PackedImage]()
            for member in tar:
                folder, _, name = member.name.rpartition("/")
                if not member.isfile() or name.startswith("."):
                    continue
                stem, _, kind = name.partition(".")
                own = f"{folder}/{stem}" if folder else stem
                if own != key and members:
                    yield key, members
                    members = {}
                key = own
                members[kind.lower()] = PackedImage(path, member.name, member.offset_data, member.size)
            if members:
                yield key, members
    except tarfile.TarError as error:
        raise DataError(f"{path}: not a plain tar file ({error}); unpack compressed shards") from error
    except OSError as error:
        raise unreadable(path, error) from error


def _row(path: Path, key: str, members: dict[str, PackedImage], columns: CaptionColumns) -> Row:
    place = f"{path}: sample {key}"
    image = next((item for kind, item in members.items() if f".{kind}" in SUFFIXES), None)
    if image is None:
        raise DataError(f"{place}: no image in it; expected one of {', '.join(SUFFIXES)}")
    if "json" in members:
        record = _record(members["json"])
        texts = [reach(record, columns.caption, place)]
        texts += [reach(record, columns.english, place)] if columns.english else []
    elif "txt" in members:
        texts = [_text(members["txt"])]
        if columns.english:
            if "en.txt" not in members:
                raise DataError(f"{place}: no {key}.en.txt beside {key}.txt for its English side")
            texts.append(_text(members["en.txt"]))
    else:
        raise DataError(f"{place}: no caption in it; expected {key}.txt or {key}.json")
    return Row(place, (image, *texts))


def _record(member: PackedImage) -> dict[str, Any]:
    try:
        found = json.loads(_text(member))
    except (ValueError, RecursionError) as error:
        raise DataError(f"{member}: is not valid JSON: {str(error).splitlines()[0]}; correct it") from error
    if not isinstance(found, dict):
        raise DataError(f"{member}: expected a JSON object, got {type(found).__name__}")
    return found


def _text(member: PackedImage) -> str:
    try:
        return member.read_bytes().decode("utf-8").strip()
    except UnicodeDecodeError as error:
        raise DataError(f"{member}: byte {error.start} is not UTF-8; save it as UTF-8") from error
