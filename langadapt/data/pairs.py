"""Images with captions to train on: from a table beside a folder, tar shards, or the Hub."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from hashlib import sha256
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from langadapt.data.images import ImageFile, PackedImage, ParquetImage, file_identity, image_bytes
from langadapt.data.own import caption_columns, own_card
from langadapt.data.pixels import SUFFIXES
from langadapt.data.readers import check_count, check_image_files, inside, read_source
from langadapt.data.rows import MOST_LINE_BYTES, Row, caption_pairs, check_text, json_object, reach
from langadapt.data.sources import local_path, source_files, tar_members
from langadapt.errors import DataError
from langadapt.files.paths import real_path, user_path
from langadapt.files.store import fingerprint_of
from langadapt.recipes.authoring import UNDETERMINED
from langadapt.recipes.data import CaptionColumns, PairsRecipe, TableFiles, TarShards
from langadapt.recipes.find import RecipeFile, data_recipe


@dataclass(frozen=True, kw_only=True, eq=False)
class Pairs:
    """Captions and the distinct images that they describe; an image may have several captions."""

    name: str
    images: tuple[ImageFile, ...]
    texts: tuple[str, ...]
    image_of_text: NDArray[np.int64]
    """int64 `[texts]`."""
    english: tuple[str, ...] | None
    """English side of each caption, where all are known."""

    @cached_property
    def fingerprint(self) -> str:
        """First 16 hex digits of a SHA-256 over captions, English sides and the bytes of all images."""
        texts = (*self.texts, "", *(self.english or ()))
        return fingerprint_of((*texts, self.image_of_text, *self.image_digests))[:16]

    @cached_property
    def image_digests(self) -> tuple[str, ...]:
        """SHA-256 of each image's bytes, as hex digits."""
        return tuple(sha256(image_bytes(image)).hexdigest() for image in self.images)

    def without(self, broken: Sequence[int]) -> "Pairs":
        """Return the pairs whose images are not among the numbers in `broken`."""
        bad = np.isin(np.arange(len(self.images)), broken)
        kept = np.flatnonzero(~bad[self.image_of_text])
        number = np.cumsum(~bad) - 1
        return replace(
            self,
            images=tuple(image for image, gone in zip(self.images, bad, strict=True) if not gone),
            texts=tuple(self.texts[i] for i in kept),
            image_of_text=number[self.image_of_text[kept]],
            english=None if self.english is None else tuple(self.english[i] for i in kept),
        )


def load_pairs(name: str, *, language: str | None = None, images: Path | None = None) -> Pairs:
    """Read pairs by the name or path of a recipe, or straight from a table or a tar shard.

    A table (.tsv, .csv, .jsonl, .parquet) has columns `image`, `caption` and perhaps `english`; its image
    paths start at the folder `images`, or at its own. `language` lists accepted codes of a recipe's language,
    divided by spaces; None accepts all. A DataError says what is missing, blank, or not as expected.
    """
    found = pairs_recipe(name, images)
    recipe = found.recipe
    if language is not None and recipe.language not in (*language.split(), UNDETERMINED):
        raise DataError(f"{recipe.name} is in '{recipe.language}', not in '{language.split()[0]}'")
    folder = None if recipe.images is None else local_path(found, recipe.images)
    pairs = _collect(recipe.name, _rows(found), folder)
    check_count(found, "rows", len(pairs.texts))
    return pairs


def pairs_recipe(name: str, images: Path | None = None) -> RecipeFile[PairsRecipe]:
    """Return the recipe that a name means; for a table or a tar shard one that reads it."""
    path = user_path(name)
    if path.is_file() and path.suffix not in (".yaml", ".yml"):
        return own_pairs(path, (UNDETERMINED,), images)
    return data_recipe(PairsRecipe, name)


def own_pairs(
    path: Path, names: Sequence[str], images: Path | None, given: Mapping[str, str] | None = None
) -> RecipeFile[PairsRecipe]:
    """Make the recipe of a user's images with captions, a table or a tar shard.

    `names` are of the captions' language, its code first. Image paths start at the folder `images`, or at the
    table's own. `given` names columns by role (`image`, `caption`, `english`); the others are guessed.
    """
    card = own_card(path, names[0])
    file = str(real_path(path))
    if path.suffix == ".tar":
        first = next(_samples(path), None)
        columns = None if first is None else _usual_columns(first[1])
        recipe = PairsRecipe(
            **card, source=TarShards(kind="tar", paths=(file,)), columns=columns or CaptionColumns()
        )
    else:
        recipe = PairsRecipe(
            **card,
            source=TableFiles(kind="files", paths=(file,)),
            images=str(real_path(images or path.parent)),
            columns=caption_columns(path, names, given),
        )
    return RecipeFile(recipe=recipe, path=path, shipped=False)


def join_pairs(parts: Sequence[Pairs]) -> Pairs:
    """Join several data sets; English sides stay where all of them have some."""
    numbers: dict[object, int] = {}
    images: list[ImageFile] = []
    owners: list[NDArray[np.int64]] = []
    for part in parts:
        number = np.array([_number(image, numbers, images) for image in part.images], np.int64)
        owners.append(number[part.image_of_text])
    english = [part.english for part in parts if part.english is not None]
    return Pairs(
        name=" + ".join(part.name for part in parts),
        images=tuple(images),
        texts=tuple(text for part in parts for text in part.texts),
        image_of_text=np.concatenate(owners),
        english=tuple(text for side in english for text in side) if len(english) == len(parts) else None,
    )


def _rows(found: RecipeFile[PairsRecipe]) -> Iterator[Row]:
    source, columns = found.recipe.source, found.recipe.columns
    if isinstance(source, TarShards):
        for name in source.paths:
            yield from read_shard(local_path(found, name), columns)
        return
    texts = [columns.caption, *([columns.english] if columns.english else [])]
    files = source_files(found, source)
    if found.recipe.images is None and not isinstance(source, TableFiles):
        yield from read_source(files, texts, source, image=columns.image)
    else:
        yield from read_source(files, [columns.image, *texts], source)


def _number(image: ImageFile, numbers: dict[object, int], images: list[ImageFile]) -> int:
    """Return an image's number among `images`, to which it is added where none is the same file."""
    identity = file_identity(image) if isinstance(image, Path) else image
    if identity not in numbers:
        numbers[identity] = len(images)
        images.append(image)
    return numbers[identity]


def _collect(name: str, rows: Iterator[Row], folder: Path | None) -> Pairs:
    """Number the images as they first appear; a cell may hold a list of captions."""
    numbers: dict[object, int] = {}
    images: list[ImageFile] = []
    captions: list[tuple[str, str | None]] = []
    owners: list[int] = []
    for row in rows:
        image = row.values[0]
        if not isinstance(image, PackedImage | ParquetImage):
            if folder is None:
                raise DataError(f"{name}: `images` must name the folder of the image files")
            image = inside(folder, check_text(image, f"{row.where}: image"), row.where)
        english = "English side" if len(row.values) > 2 else None
        found = caption_pairs(row, "caption", english)
        owners += [_number(image, numbers, images)] * len(found)
        captions += found
    check_image_files(name, images)
    sides = tuple(side for _, side in captions if side is not None)
    return Pairs(
        name=name,
        images=tuple(images),
        texts=tuple(text for text, _ in captions),
        image_of_text=np.array(owners, np.int64),
        english=sides if captions and len(sides) == len(captions) else None,
    )


def read_shard(path: Path, columns: CaptionColumns | None = None) -> Iterator[Row]:
    """Stream the samples of one shard; images stay where they are and are read when they are needed.

    A sample is a run of members whose names differ only behind the first dot: `0001.jpg` with `0001.json`,
    whose keys are the columns, or with `0001.txt` (the caption) and perhaps `0001.en.txt` (its English side).
    `columns` are those of `.json` members; None takes `caption`, and `english` where the first sample has it.
    """
    sample = None
    for sample in _samples(path):
        columns = columns or _usual_columns(sample[1])
        yield _row(path, *sample, columns)
    if sample is None:
        raise DataError(f"{path}: holds no samples; check that it was written completely")


def _usual_columns(members: dict[str, PackedImage]) -> CaptionColumns:
    named = "en.txt" in members
    if "json" in members:
        named = "english" in json_object(_text(members["json"]), str(members["json"]))
    return CaptionColumns(english="english" if named else None)


def _samples(path: Path) -> Iterator[tuple[str, dict[str, PackedImage]]]:
    key, members = "", dict[str, PackedImage]()
    for _, member in tar_members(path, "r:"):
        folder, _, name = member.name.rpartition("/")
        if name.startswith("."):
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


def _row(path: Path, key: str, members: dict[str, PackedImage], columns: CaptionColumns) -> Row:
    where = f"{path}: sample {key}"
    image = next((item for kind, item in members.items() if f".{kind}" in SUFFIXES), None)
    if image is None:
        raise DataError(f"{where}: no image in it; expected one of {', '.join(SUFFIXES)}")
    if "json" in members:
        record = json_object(_text(members["json"]), str(members["json"]))
        texts = [reach(record, columns.caption, where)]
        texts += [reach(record, columns.english, where)] if columns.english else []
    elif "txt" in members:
        texts = [_text(members["txt"])]
        if columns.english:
            if "en.txt" not in members:
                raise DataError(f"{where}: no {key}.en.txt beside {key}.txt for its English side")
            texts.append(_text(members["en.txt"]))
    else:
        raise DataError(f"{where}: no caption in it; expected {key}.txt or {key}.json")
    return Row(where, (image, *texts))


def _text(member: PackedImage) -> str:
    if member.size > MOST_LINE_BYTES:
        raise DataError(f"{member}: {member.size:,} bytes are no caption; correct the shard")
    try:
        return member.read_bytes().decode("utf-8").strip()
    except UnicodeDecodeError as error:
        raise DataError(f"{member}: byte {error.start} is not UTF-8; save it as UTF-8") from error
