"""Loads retrieval test sets: a recipe's, or a user's own captions beside images."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from langadapt.data.local_files import local_path
from langadapt.data.retrieval_assembly import assemble
from langadapt.data.retrieval_formats import READERS, Caption, CaptionFiles
from langadapt.data.retrieval_set import RetrievalSet
from langadapt.data.tables import column_names
from langadapt.errors import DataError
from langadapt.recipes.data import CaptionColumns, RetrievalRecipe
from langadapt.recipes.find import Found


@dataclass(frozen=True, kw_only=True)
class RetrievalCaptions:
    """All captions of a test set, in the language and in English, where it has them."""

    name: str
    texts: tuple[str, ...]
    english: tuple[str, ...]


_BY_LINE = ("lines", "xtd10", "multi30k")
_WITH_NAMES = (*_BY_LINE, "coco-cn", "flickr-cn")


def load_retrieval(found: Found[RetrievalRecipe]) -> RetrievalSet:
    """Reads a recipe's captions and looks for its images.

    The ceiling comes from the recipe's `english` files, else from the English side of each caption. Where a
    format has one caption file and one English file of the same lines (XTD10, Multi30k task 1), the English
    line is the caption's English side, so that the set also works without images.

    Raises:
        DataError: data not there (says how to get them), unreadable, images missing, or other numbers than
            the recipe's `expected_images` and `expected_captions`, which count what is scored.
    """
    recipe = found.recipe
    if recipe.image_names is not None and recipe.format not in _WITH_NAMES:
        raise DataError(f"{found.path}: image_names: format {recipe.format} has no such file; remove the key")
    files = _caption_files(found)
    captions = list(READERS[recipe.format](files))
    ceiling = _english_captions(found, files)
    if ceiling is not None and recipe.format in _BY_LINE and len(recipe.captions) == len(recipe.english) == 1:
        if len(captions) != len(ceiling):
            raise DataError(
                f"{files.captions[0]} has {len(captions)} lines, {recipe.english[0]} has {len(ceiling)}: "
                "they do not correspond; take both from one release"
            )
        captions = [replace(own, english=side.text) for own, side in zip(captions, ceiling, strict=True)]
    folder = None if recipe.images is None else local_path(found, recipe.images)
    made = assemble(
        captions,
        ceiling,
        name=recipe.name,
        language=recipe.language,
        folder=folder,
        which_captions=recipe.which_captions,
    )
    expected = {"expected_captions": (recipe.expected_captions, len(made.texts))}
    if made.images is not None:
        expected["expected_images"] = (recipe.expected_images, len(made.images))
    for key, (wanted, got) in expected.items():
        if wanted is not None and wanted != got:
            raise DataError(
                f"{found.path}: {key} is {wanted}, the data hold {got} (which_captions: "
                f"{recipe.which_captions}); fetch the release that the recipe names or correct {key}"
            )
    return made


def load_captions(found: Found[RetrievalRecipe]) -> RetrievalCaptions:
    """Reads a recipe's captions on both sides, all of them, without looking for images.

    Raises:
        DataError: data not there (says how to get them) or unreadable.
    """
    recipe = found.recipe
    files = _caption_files(found)
    captions = list(READERS[recipe.format](files))
    english = [item.text for item in _english_captions(found, files) or ()]
    english += [item.english for item in captions if item.english is not None]
    return RetrievalCaptions(
        name=recipe.name, texts=tuple(item.text for item in captions), english=tuple(dict.fromkeys(english))
    )


def _caption_files(found: Found[RetrievalRecipe]) -> CaptionFiles:
    recipe = found.recipe
    return CaptionFiles(
        captions=tuple(local_path(found, name) for name in recipe.captions),
        language=recipe.language,
        image_names=None if recipe.image_names is None else local_path(found, recipe.image_names),
        columns=recipe.columns,
        image_free=recipe.images is None,
    )


def retrieval_from_files(
    captions: Path,
    images: Path | None,
    *,
    language: str,
    columns: CaptionColumns | None = None,
    which_captions: Literal["all", "first"] = "all",
    image_free: bool = False,
) -> RetrievalSet:
    """A test set of your own: a TSV, CSV, JSON Lines or Parquet file with image paths and captions.

    Args:
        captions: the table. In JSON Lines a row holds `caption`, a text, or `captions`, a list of texts.
        images: folder at which the image paths start; None is the folder of `captions`.
        language: code of the captions' language.
        columns: names of the columns; None is `image` and `caption`, and `english` where there is one.
        which_captions: all, or each image's first one.
        image_free: look for the captions' English sides instead of images.

    Raises:
        DataError: unreadable file, wrong column, images missing.
    """
    if columns is None:
        names = column_names(captions)
        plural = "caption" not in names and "captions" in names
        columns = CaptionColumns(
            caption="captions" if plural else "caption", english="english" if "english" in names else None
        )
    if image_free and columns.english is None:
        raise DataError(
            f"{captions}: without images each caption needs its English side; add a column `english`"
        )
    files = CaptionFiles(captions=(captions,), language=language, columns=columns, image_free=image_free)
    found = list(READERS["table"](files))
    folder = None if image_free else (images or captions.parent)
    name = captions.name.removesuffix(".gz").removesuffix(".zst").rpartition(".")[0]
    return assemble(found, None, name=name, language=language, folder=folder, which_captions=which_captions)


def _english_captions(found: Found[RetrievalRecipe], files: CaptionFiles) -> list[Caption] | None:
    recipe = found.recipe
    if not recipe.english:
        return None
    paths = tuple(local_path(found, name) for name in recipe.english)
    columns = recipe.columns.model_copy(update={"english": None})
    return list(READERS[recipe.format](replace(files, captions=paths, language="en", columns=columns)))
