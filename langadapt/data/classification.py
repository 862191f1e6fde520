"""Classification sets: a folder of pictures per class, and what the classes are called."""

import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from langadapt.data.class_names import ClassNames, read_class_names, read_label_list
from langadapt.data.images import list_images
from langadapt.data.local_files import local_path
from langadapt.errors import DataError
from langadapt.recipes.data import ClassificationRecipe
from langadapt.recipes.find import Found

Split = Literal["train", "test"]
_SPLIT_FOLDERS: dict[Split, tuple[str, ...]] = {"train": ("train",), "test": ("test", "val")}


@dataclass(frozen=True, kw_only=True, eq=False)
class ClassificationSet:
    """Images, each of one class."""

    name: str
    language: str
    images: tuple[Path, ...]
    labels: NDArray[np.int64]
    """int64 `[images]`, numbers `classes`."""
    classes: tuple[ClassNames, ...]

    def __post_init__(self) -> None:
        if not self.images or len(self.labels) != len(self.images):
            raise DataError(f"{self.name}: {len(self.labels)} labels beside {len(self.images)} images")
        if len(self.classes) < 2:
            raise DataError(f"{self.name}: has {len(self.classes)} class; there is nothing to choose from")

    def rows(self, chosen: NDArray[np.int64]) -> "ClassificationSet":
        """Some of the images; the classes stay."""
        images = tuple(self.images[row] for row in chosen.tolist())
        return replace(self, images=images, labels=self.labels[chosen])

    def only(self, classes: Sequence[int]) -> "ClassificationSet":
        """The images of some classes, which are numbered anew in the order given."""
        place = np.full(len(self.classes), -1)
        place[list(classes)] = np.arange(len(classes))
        kept = np.flatnonzero(place[self.labels] >= 0)
        part = self.rows(kept)
        return replace(part, labels=place[part.labels], classes=tuple(self.classes[i] for i in classes))


def load_classification(found: Found[ClassificationRecipe], *, language: str) -> ClassificationSet:
    """Reads a recipe's set in one language.

    Raises:
        DataError: data not there (says how to get them), unreadable, or they do not fit each other.
    """
    recipe = found.recipe
    if recipe.language not in (None, language):
        raise DataError(f"{recipe.name}: is in '{recipe.language}', the model's language is '{language}'")
    classes = local_path(found, recipe.classes) if recipe.classes else None
    return classification_from_folder(
        local_path(found, recipe.images), classes, language=language, name=recipe.name
    )


def classification_from_folder(
    folder: Path,
    classes: Path | None,
    *,
    language: str,
    split: Split = "test",
    name: str | None = None,
) -> ClassificationSet:
    """A set of your own: one folder of images per class.

    Args:
        folder: the class folders, or `train/` and `test/` (or `val/`) with the class folders inside.
        classes: `.txt` or YAML, see `read_class_names`; `.json` is a label list by class number, see
            `read_label_list`; None takes the folders' names.
        language: code of the class names' language.
        split: which one of `train/` and `test/`, where there are both.
        name: of the set; None is the folder's name.

    Raises:
        DataError: no class folders, a class without folder or images, a folder that is no class.
    """
    place = split_folder(folder, split)
    folders = _class_folders(place)
    listed = _class_list(folders, classes, language)
    missing = [item.folder for item in listed if item.folder not in folders]
    if missing:
        raise DataError(
            f"{place}: no folder for class '{missing[0]}' ({len(missing)} of {len(listed)} lack one); each "
            f"class that {classes} names needs a folder of images"
        )
    unnamed = sorted(set(folders) - {item.folder for item in listed})
    if unnamed and (classes is None or classes.suffix.lower() != ".json"):
        raise DataError(
            f"{place}: folder '{unnamed[0]}' is no class of {classes} ({len(unnamed)} are not); add it there "
            "or take it away"
        )
    files = [list_images(place / item.folder) for item in listed]
    return ClassificationSet(
        name=name or folder.resolve().name,
        language=language,
        images=tuple(path for group in files for path in group),
        labels=np.repeat(np.arange(len(files)), [len(group) for group in files]),
        classes=listed,
    )


def has_splits(folder: Path) -> bool:
    """Whether a folder is divided into `train/` and `test/` (or `val/`) itself."""
    return all(any((folder / name).is_dir() for name in names) for names in _SPLIT_FOLDERS.values())


def split_folder(folder: Path, split: Split) -> Path:
    """The folder that holds a split's class folders: `folder` itself where it is not divided."""
    if not has_splits(folder):
        return folder
    return next(folder / name for name in _SPLIT_FOLDERS[split] if (folder / name).is_dir())


def _class_folders(place: Path) -> list[str]:
    if not place.is_dir():
        problem = "is not a folder" if place.exists() else "no such folder"
        raise DataError(f"{place}: {problem}; name the folder that holds one folder of images per class")
    found = sorted(item.name for item in os.scandir(place) if item.is_dir() and not item.name.startswith("."))
    if not found:
        raise DataError(f"{place}: holds no class folders; put the images of each class into its own folder")
    return found


def _class_list(folders: list[str], classes: Path | None, language: str) -> tuple[ClassNames, ...]:
    if classes is None:
        return tuple(ClassNames(folder=name, names=(name.replace("_", " "),)) for name in folders)
    if classes.suffix.lower() == ".json":
        return read_label_list(classes, language, folders)
    return read_class_names(classes)
