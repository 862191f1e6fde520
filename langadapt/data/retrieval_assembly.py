"""From captions to a retrieval set: images numbered and looked for, the ceiling chosen."""

import os
import re
from collections.abc import Hashable, Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from langadapt.data.local_files import inside
from langadapt.data.retrieval_formats import Caption
from langadapt.data.retrieval_set import RetrievalSet
from langadapt.errors import DataError

_COCO_SPLIT = re.compile(r"COCO_((?:train|val|test)20\d\d)_")
_SHOWN = 5


def assemble(
    captions: Sequence[Caption],
    ceiling: Sequence[Caption] | None,
    *,
    name: str,
    language: str,
    folder: Path | None,
    which_captions: Literal["all", "first"],
) -> RetrievalSet:
    """Puts captions together with their images.

    Args:
        captions: of the set, in order; images are numbered as they first appear.
        ceiling: English captions; those of images outside the set are left out. None takes the English side
            of each caption, where all are known.
        name: of the set.
        language: code of the captions' language.
        folder: of the images, flat or with COCO's `train2014/` and `val2014/` inside; None makes an
            image-free set.
        which_captions: all, or the first one of each image, on both sides.

    Raises:
        DataError: image files missing, an image without an English caption, no English sides without images.
    """
    if folder is None:
        return _image_free(captions, name=name, language=language, which_captions=which_captions)
    captions = _with_plain_names(captions)
    ceiling = None if ceiling is None else _with_plain_names(ceiling)
    names = list(dict.fromkeys(item.image for item in captions))
    if which_captions == "first":
        captions = _first_of_each(captions, [item.image for item in captions])
        ceiling = None if ceiling is None else _first_of_each(ceiling, [item.image for item in ceiling])
    english = tuple(item.english for item in captions if item.english is not None)
    known = len(english) == len(captions)
    if ceiling is None and known:
        ceiling = [Caption(item.image, text) for item, text in zip(captions, english, strict=True)]
    numbers = {image: number for number, image in enumerate(names)}
    if ceiling is not None:
        ceiling = [item for item in ceiling if item.image in numbers]
        _check_covered(name, names, ceiling)
    return RetrievalSet(
        name=name,
        language=language,
        images=_image_files(name, folder, names),
        texts=tuple(item.text for item in captions),
        image_of_text=_numbered(numbers[item.image] for item in captions),
        english=english if known else None,
        ceiling_texts=None if ceiling is None else tuple(item.text for item in ceiling),
        ceiling_image_of_text=None if ceiling is None else _numbered(numbers[item.image] for item in ceiling),
        which_captions=which_captions,
    )


def _image_free(
    captions: Sequence[Caption], *, name: str, language: str, which_captions: Literal["all", "first"]
) -> RetrievalSet:
    if any(item.english is None for item in captions):
        raise DataError(
            f"{name}: without images each caption needs its English side; name the images' folder, an "
            "English column (table) or the English file of the same lines (lines, xtd10, multi30k)"
        )
    if which_captions == "first":
        captions = _first_of_each(captions, [item.english for item in captions])
    english = tuple(item.english for item in captions if item.english is not None)
    numbers = {text: number for number, text in enumerate(dict.fromkeys(english))}
    return RetrievalSet(
        name=name,
        language=language,
        images=None,
        texts=tuple(item.text for item in captions),
        image_of_text=_numbered(numbers[text] for text in english),
        english=english,
        ceiling_texts=None,
        ceiling_image_of_text=None,
        which_captions=which_captions,
    )


def _with_plain_names(captions: Sequence[Caption]) -> list[Caption]:
    """`./a.jpg` and `a.jpg` are one image."""
    return [replace(item, image=os.path.normpath(item.image)) for item in captions]


def _first_of_each(captions: Sequence[Caption], owners: Sequence[Hashable]) -> list[Caption]:
    seen: dict[Hashable, Caption] = {}
    for item, owner in zip(captions, owners, strict=True):
        seen.setdefault(owner, item)
    return list(seen.values())


def _check_covered(name: str, names: Sequence[str], ceiling: Sequence[Caption]) -> None:
    covered = {item.image for item in ceiling}
    without = [image for image in names if image not in covered]
    if without:
        raise DataError(
            f"{name}: {len(without)} of {len(names)} images have no English caption: "
            f"{', '.join(without[:_SHOWN])}; complete the English file or leave it out"
        )


def _image_files(name: str, folder: Path, names: Sequence[str]) -> tuple[Path, ...]:
    paths = [_image_file(name, folder, image) for image in names]
    missing = [path for path in paths if not path.is_file()]
    if missing:
        shown = ", ".join(str(path) for path in missing[:_SHOWN])
        raise DataError(
            f"{name}: {len(missing)} of {len(paths)} image files are missing: {shown}; complete the folder "
            "or name the right one (a smaller pool would score too high)"
        )
    return tuple(paths)


def _image_file(set_name: str, folder: Path, name: str) -> Path:
    path = inside(folder, name, set_name)
    split = _COCO_SPLIT.match(name)
    nested = folder / split[1] / name if split else path
    return nested if not path.is_file() and nested.is_file() else path


def _numbered(numbers: Iterable[int]) -> NDArray[np.int64]:
    array = np.fromiter(numbers, np.int64)
    array.setflags(write=False)
    return array
