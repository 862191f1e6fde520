"""Retrieval test sets: a recipe's, or a user's own captions beside images."""

import os
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from operator import attrgetter
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from langadapt.data.images import ImageFile, file_identity
from langadapt.data.own import caption_columns, language_names
from langadapt.data.readers import check_count, check_image_files, file_title, inside
from langadapt.data.retrieval_formats import READERS, Caption, CaptionFiles, inside_images
from langadapt.data.rows import check_same_count, first_of_each
from langadapt.data.sources import fetch_photos, local_path, source_files
from langadapt.errors import DataError
from langadapt.recipes.data import CaptionColumns, RetrievalRecipe, Rows
from langadapt.recipes.find import RecipeFile
from langadapt.recipes.language import LanguageRecipe

_BY_LINE = ("lines", "xtd10", "multi30k")
_WITH_NAMES = (*_BY_LINE, "coco-cn", "flickr-cn")
_COCO_SPLIT = re.compile(r"COCO_((?:train|val|test)20\d\d)_")
_SHOWN = 5


@dataclass(frozen=True, kw_only=True, eq=False)
class RetrievalSet:
    """Texts that look for images, or, without images, for their own English sides."""

    name: str
    language: str
    images: tuple[ImageFile, ...] | None
    """None for an image-free set."""
    texts: tuple[str, ...]
    image_of_text: NDArray[np.int64]
    """int64 `[texts]`, read-only; numbers `images`, without images `english_gallery`."""
    english: tuple[str, ...] | None
    """English side of each text, where it is known."""
    ceiling_texts: tuple[str, ...] | None
    """English captions of the same images: what the teacher alone reaches with them is the ceiling."""
    ceiling_image_of_text: NDArray[np.int64] | None
    which_captions: str
    """`all` or `first` (of each image)."""
    title: str = ""
    """Name for people, of a recipe."""

    def __post_init__(self) -> None:
        if self.english is not None and len(self.english) != len(self.texts):
            raise DataError(f"{self.name}: {len(self.english)} English sides beside {len(self.texts)} texts")
        if self.images is None and self.english is None:
            raise DataError(f"{self.name}: has neither images nor English sides; give one of them")
        _check_owners(self.name, "texts", self.image_of_text, len(self.texts), self.image_count)
        if (self.ceiling_texts is None) != (self.ceiling_image_of_text is None):
            raise DataError(f"{self.name}: the ceiling needs both its texts and their images")
        if self.ceiling_texts is not None and (owners := self.ceiling_image_of_text) is not None:
            _check_owners(self.name, "English captions", owners, len(self.ceiling_texts), self.image_count)

    @cached_property
    def english_gallery(self) -> tuple[str, ...]:
        """The distinct English sides in order; without images they play the images' part."""
        return tuple(dict.fromkeys(self.english or ()))

    @property
    def image_count(self) -> int:
        """Size of the pool: images, or distinct English sides."""
        return len(self.english_gallery if self.images is None else self.images)


def load_retrieval(found: RecipeFile[RetrievalRecipe]) -> RetrievalSet:
    """Read a recipe's captions and look for its images; a DataError says how to get what is missing.

    The ceiling comes from the recipe's `english` files, else from the English side of each caption. One
    caption file and one English file of the same lines also give each caption its English side.
    """
    recipe = found.recipe
    if recipe.image_names is not None and recipe.format not in _WITH_NAMES:
        raise DataError(f"{found.path}: image_names: format {recipe.format} has no such file; remove the key")
    files = _caption_files(found)
    captions = list(READERS[recipe.format](files))
    ceiling = _english_captions(found, files)
    if ceiling is not None and recipe.format in _BY_LINE and len(recipe.captions) == len(recipe.english) == 1:
        check_same_count(files.captions[0], len(captions), recipe.english[0], len(ceiling))
        captions = [replace(own, english=side.text) for own, side in zip(captions, ceiling, strict=True)]
    loaded = _assemble(
        captions,
        ceiling,
        name=recipe.name,
        language=recipe.language,
        folder=_images(found, files, captions),
        which_captions=recipe.which_captions,
    )
    note = f" (which_captions: {recipe.which_captions})"
    check_count(found, "captions", len(loaded.texts), note)
    if loaded.images is not None:
        check_count(found, "images", len(loaded.images), note)
    return replace(loaded, title=recipe.title)


def _images(
    found: RecipeFile[RetrievalRecipe], files: CaptionFiles, captions: Sequence[Caption]
) -> Path | Mapping[str, ImageFile] | None:
    place = found.recipe.images
    if place is None:
        return None
    if files.inside:
        return inside_images(files)
    if not place.startswith(("http://", "https://")):
        return local_path(found, place)
    return fetch_photos(found, place, sorted({_in_split(item.image) for item in captions}))


def _in_split(image: str) -> str:
    """COCO keeps each photo in the folder of its split: `train2014/COCO_train2014_000000000009.jpg`."""
    split = _COCO_SPLIT.match(image)
    return f"{split[1]}/{image}" if split else image


def load_captions(found: RecipeFile[RetrievalRecipe]) -> tuple[list[str], list[str]]:
    """Read all of a recipe's captions, and all English ones, without looking for images."""
    files = _caption_files(found)
    captions = list(READERS[found.recipe.format](files))
    english = [item.text for item in _english_captions(found, files) or ()]
    english += [item.english for item in captions if item.english is not None]
    return [item.text for item in captions], list(dict.fromkeys(english))


def _caption_files(found: RecipeFile[RetrievalRecipe]) -> CaptionFiles:
    recipe = found.recipe
    names = source_files(found, recipe.source, [recipe.image_names]) if recipe.image_names else [None]
    return CaptionFiles(
        captions=tuple(source_files(found, recipe.source, recipe.captions)),
        language=recipe.language,
        image_names=names[0],
        columns=recipe.columns,
        image_free=recipe.images is None,
        inside=recipe.images == "inside",
        rows=recipe.source or Rows(),
    )


def retrieval_from_files(
    captions: Path,
    images: Path | None,
    *,
    language: str,
    which_captions: Literal["all", "first"] = "all",
    image_free: bool = False,
    columns: CaptionColumns | None = None,
) -> RetrievalSet:
    """Read your own test set: a table with columns `image`, `caption` (or lists `captions`), `english`.

    The column `english` may be missing. Image paths start at the folder `images`, or at that of `captions`.
    An image-free set searches the captions' English sides instead. `columns` None are guessed.
    """
    columns = columns or caption_columns(captions, (language,), image_free=image_free)
    files = CaptionFiles(captions=(captions,), language=language, columns=columns, image_free=image_free)
    return _assemble(
        list(READERS["table"](files)),
        None,
        name=file_title(captions),
        language=language,
        folder=None if image_free else (images or captions.parent),
        which_captions=which_captions,
    )


def own_captions(
    recipe: LanguageRecipe,
    captions: Path,
    images: Path | None,
    columns: Mapping[str, str] | None = None,
    *,
    image_free: bool = False,
) -> RetrievalSet:
    """Read your own test set in a recipe's language; `columns` by role, what they do not say is guessed."""
    holds = caption_columns(captions, language_names(recipe), columns, image_free=image_free)
    return retrieval_from_files(captions, images, language=recipe.code, image_free=image_free, columns=holds)


def _english_captions(found: RecipeFile[RetrievalRecipe], files: CaptionFiles) -> list[Caption] | None:
    recipe = found.recipe
    if not recipe.english:
        return None
    paths = tuple(source_files(found, recipe.source, recipe.english))
    columns = recipe.columns.model_copy(update={"english": None})
    # `where` and `max_rows` choose captions; the English ones of other images are left out later.
    whole = replace(files, captions=paths, language="en", columns=columns, rows=Rows())
    return list(READERS[recipe.format](whole))


def _check_owners(name: str, what: str, owners: NDArray[np.int64], texts: int, images: int) -> None:
    if len(owners) != texts:
        raise DataError(f"{name}: {len(owners)} image numbers beside {texts} {what}")
    if not texts or not np.array_equal(np.unique(owners), np.arange(images)):
        raise DataError(f"{name}: each of the {images} images needs a text and each text an image ({what})")


def _assemble(
    captions: list[Caption],
    ceiling: list[Caption] | None,
    *,
    name: str,
    language: str,
    folder: Path | Mapping[str, ImageFile] | None,
    which_captions: Literal["all", "first"],
) -> RetrievalSet:
    """Put captions together with their images, which are numbered as they first appear.

    The images lie in `folder`, flat or in COCO's folders, or are known by name; None makes an image-free set.
    Without a `ceiling` the English side of each caption is taken, where all are known.
    """
    if folder is None:
        if any(item.english is None for item in captions):
            lacks = "without images each caption needs its English side"
            way_out = (
                "name the images' folder, or add a column `english` (an English file where it is by line)"
            )
            raise DataError(f"{name}: {lacks}; {way_out}")
        captions, ceiling = [replace(item, image=item.english or "") for item in captions], None
    elif isinstance(folder, Path):
        captions, ceiling = _with_one_name_each(captions, ceiling, folder, name)
    names = list(dict.fromkeys(item.image for item in captions))
    if which_captions == "first":
        captions = first_of_each(captions, attrgetter("image"))
        ceiling = ceiling and first_of_each(ceiling, attrgetter("image"))
    known = all(item.english is not None for item in captions)
    if folder is not None and ceiling is None and known:
        ceiling = [replace(item, text=item.english or "") for item in captions]
    numbers = {image: number for number, image in enumerate(names)}
    if ceiling is not None:
        ceiling = [item for item in ceiling if item.image in numbers]
        covered = {item.image for item in ceiling}
        if without := [image for image in names if image not in covered]:
            count = f"{len(without)} of {len(names)} images have no English caption"
            shown = ", ".join(without[:_SHOWN])
            raise DataError(f"{name}: {count}: {shown}; complete the English file or leave it out")
    images: tuple[ImageFile, ...] | None = None
    if folder is not None:
        images = tuple(
            _image_path(folder, item) if isinstance(folder, Path) else folder[item] for item in names
        )
        check_image_files(name, images)
    return RetrievalSet(
        name=name,
        language=language,
        images=images,
        texts=tuple(item.text for item in captions),
        image_of_text=_numbered(numbers[item.image] for item in captions),
        english=tuple(item.english or "" for item in captions) if known else None,
        ceiling_texts=None if ceiling is None else tuple(item.text for item in ceiling),
        ceiling_image_of_text=None if ceiling is None else _numbered(numbers[item.image] for item in ceiling),
        which_captions=which_captions,
    )


def _with_one_name_each(
    captions: list[Caption], ceiling: list[Caption] | None, folder: Path, where: str
) -> tuple[list[Caption], list[Caption] | None]:
    """Call each image by one name: `a.jpg` also where it is `./a.jpg`, an absolute path or a link."""
    for image in dict.fromkeys(item.image for item in captions):
        inside(folder, image, where)
    first_names: dict[object, str] = {}
    names: dict[str, str] = {}
    for image in dict.fromkeys(item.image for item in (*captions, *(ceiling or ()))):
        names[image] = first_names.setdefault(file_identity(_image_path(folder, image)), image)
    own = [replace(item, image=names[item.image]) for item in captions]
    return own, ceiling and [replace(item, image=names[item.image]) for item in ceiling]


def _image_path(folder: Path, image: str) -> Path:
    """Return an image's file, which in COCO's own layout lies in the folder of its split."""
    image = os.path.normpath(image)
    path, nested = folder / image, folder / _in_split(image)
    return nested if not os.path.isfile(path) and os.path.isfile(nested) else path


def _numbered(numbers: Iterable[int]) -> NDArray[np.int64]:
    array = np.fromiter(numbers, np.int64)
    array.setflags(write=False)
    return array
