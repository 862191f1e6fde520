"""Images with captions to train on: from a table beside a folder, tar shards, or the Hub."""

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from langadapt.data.hub_images import read_hub_images
from langadapt.data.images import ImageFile, PackedImage
from langadapt.data.local_files import inside, local_path
from langadapt.data.rows import Row, check_text
from langadapt.data.tables import column_names, read_values
from langadapt.data.tar_shards import has_english, read_shard
from langadapt.errors import DataError, MissingDataError
from langadapt.recipes.data import CaptionColumns, HubSource, PairsRecipe, TableFiles, TarShards
from langadapt.recipes.find import Found, data_recipe

_SHOWN = 5


@dataclass(frozen=True, kw_only=True, eq=False)
class Pairs:
    """Captions and the images that they describe; an image may have several captions."""

    name: str
    images: tuple[ImageFile, ...]
    """Distinct images."""
    texts: tuple[str, ...]
    image_of_text: NDArray[np.int64]
    """int64 `[texts]`."""
    english: tuple[str, ...] | None
    """English side of each caption, where all are known."""

    @cached_property
    def fingerprint(self) -> str:
        """First 16 hex digits of a SHA-256 over captions, English sides and the bytes of all images."""
        digest = hashlib.sha256()
        for text in (*self.texts, "", *(self.english or ())):
            raw = text.encode()
            digest.update(len(raw).to_bytes(8, "little"))
            digest.update(raw)
        digest.update(self.image_of_text.tobytes())
        digest.update("".join(self.image_digests).encode())
        return digest.hexdigest()[:16]

    @cached_property
    def image_digests(self) -> tuple[str, ...]:
        """SHA-256 of each image's bytes, as hex digits."""
        try:
            return tuple(hashlib.sha256(image.read_bytes()).hexdigest() for image in self.images)
        except OSError as error:
            raise DataError(f"{error.filename}: cannot be read: {error.strerror}") from error

    def without(self, broken: Sequence[int]) -> "Pairs":
        """The pairs whose images are not among the numbers in `broken`."""
        bad = np.isin(np.arange(len(self.images)), broken)
        kept = np.flatnonzero(~bad[self.image_of_text])
        number = np.cumsum(~bad) - 1
        return Pairs(
            name=self.name,
            images=tuple(image for image, gone in zip(self.images, bad, strict=True) if not gone),
            texts=tuple(self.texts[i] for i in kept),
            image_of_text=number[self.image_of_text[kept]],
            english=None if self.english is None else tuple(self.english[i] for i in kept),
        )


def load_pairs(name: str, *, language: str | None = None, images: Path | None = None) -> Pairs:
    """Reads pairs by the name or path of a recipe, or straight from a table or a tar shard.

    Args:
        name: a recipe's name, a path ending in .yaml, or the path of a .tsv, .csv, .jsonl, .parquet or .tar
            with the usual column names (`english` is read where it is there).
        language: codes of a recipe's language that are accepted, joined by spaces; None accepts all.
        images: folder at which a table's image paths start; None is the table's own folder.

    Raises:
        DataError: not there, unreadable, a blank caption, another language, another number of rows than the
            recipe's `expected_rows`, image files missing.
    """
    found = pairs_recipe(name)
    if found is None:
        path = Path(name).expanduser()
        return _from_file(path, images or path.parent)
    recipe = found.recipe
    if language is not None and recipe.language not in language.split():
        raise DataError(f"{recipe.name} is in '{recipe.language}', not in '{language.split()[0]}'")
    folder = None if recipe.images is None else local_path(found, recipe.images)
    pairs = _collect(recipe.name, _rows(found), folder)
    if recipe.expected_rows is not None and len(pairs.texts) != recipe.expected_rows:
        raise DataError(
            f"{found.path}: expected_rows is {recipe.expected_rows}, the data hold {len(pairs.texts)}; fetch "
            "the release that the recipe names or correct expected_rows"
        )
    return pairs


def pairs_recipe(name: str) -> Found[PairsRecipe] | None:
    """The recipe that a name means; None where it is a table or a tar shard itself."""
    path = Path(name).expanduser()
    if path.is_file() and path.suffix not in (".yaml", ".yml"):
        return None
    return data_recipe(PairsRecipe, name)


def join_pairs(parts: Sequence[Pairs]) -> Pairs:
    """Several data sets as one; English sides stay where all of them have some."""
    starts = np.cumsum([0, *(len(part.images) for part in parts)])
    english = [part.english for part in parts if part.english is not None]
    return Pairs(
        name=" + ".join(part.name for part in parts),
        images=tuple(image for part in parts for image in part.images),
        texts=tuple(text for part in parts for text in part.texts),
        image_of_text=np.concatenate(
            [part.image_of_text + start for part, start in zip(parts, starts[:-1], strict=True)]
        ),
        english=tuple(text for side in english for text in side) if len(english) == len(parts) else None,
    )


def _from_file(path: Path, folder: Path) -> Pairs:
    if path.suffix == ".tar":
        columns = CaptionColumns(english="english" if has_english(path) else None)
        return _collect(path.stem, read_shard(path, columns), None)
    wanted = ["image", "caption", *(["english"] if "english" in column_names(path) else [])]
    name = path.name.removesuffix(".gz").removesuffix(".zst").rpartition(".")[0]
    return _collect(name, read_values(path, wanted), folder)


def _rows(found: Found[PairsRecipe]) -> Iterator[Row]:
    recipe = found.recipe
    columns = [recipe.columns.image, recipe.columns.caption]
    columns += [recipe.columns.english] if recipe.columns.english else []
    match recipe.source:
        case HubSource():
            yield from read_hub_images(recipe.source, columns)
        case TableFiles():
            for name in recipe.source.paths:
                yield from read_values(local_path(found, name), columns)
        case TarShards():
            for name in recipe.source.paths:
                yield from read_shard(local_path(found, name), recipe.columns)


def _collect(name: str, rows: Iterator[Row], folder: Path | None) -> Pairs:
    """Numbers the images as they first appear; a cell may hold a list of captions."""
    numbers: dict[ImageFile, int] = {}
    texts: list[str] = []
    english: list[str] = []
    owners: list[int] = []
    for row in rows:
        value, captions, *sides = row.values
        image = value
        if not isinstance(value, PackedImage):
            if folder is None:
                raise DataError(f"{name}: `images` must name the folder of the image files")
            image = inside(folder, check_text(value, f"{row.place}: image"), row.place)
        number = numbers.setdefault(image, len(numbers))
        own = captions if isinstance(captions, list) else [captions]
        beside = [] if not sides else sides[0] if isinstance(sides[0], list) else [sides[0]]
        if not own or (sides and len(beside) != len(own)):
            raise DataError(
                f"{row.place}: {len(own)} captions, {len(beside)} English ones; each needs its own"
            )
        texts += [check_text(text, f"{row.place}: caption") for text in own]
        english += [check_text(text, f"{row.place}: English side") for text in beside]
        owners += [number] * len(own)
    missing = [image for image in numbers if isinstance(image, Path) and not image.is_file()]
    if missing:
        shown = ", ".join(str(path) for path in missing[:_SHOWN])
        raise MissingDataError(
            f"{name}: {len(missing)} of {len(numbers)} image files are missing: {shown}; complete the folder "
            "or name the right one"
        )
    return Pairs(
        name=name,
        images=tuple(numbers),
        texts=tuple(texts),
        image_of_text=np.array(owners, np.int64),
        english=tuple(english) if english else None,
    )
