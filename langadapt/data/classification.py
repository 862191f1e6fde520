"""Classification sets: a folder of pictures per class or labelled tables, and the names of the classes."""

import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import ConfigDict, NonNegativeInt, TypeAdapter, ValidationError

from langadapt.data.images import ImageFile, file_identity, list_images
from langadapt.data.readers import read_source
from langadapt.data.rows import first_of_each, label_names, read_lines
from langadapt.data.sources import local_path, source_files, unreadable
from langadapt.errors import DataError
from langadapt.files.json import read_bytes
from langadapt.files.paths import real_path
from langadapt.recipes import read_yaml
from langadapt.recipes.data import ClassificationRecipe, Rows
from langadapt.recipes.find import RecipeFile

Split = Literal["train", "test"]
_LABEL_LISTS = TypeAdapter(dict[str, tuple[list[NonNegativeInt], list[str]]], config=ConfigDict(strict=True))
_EXPECTED = "expected, for each language, a list of class numbers and as long a list of labels"
_SPLIT_FOLDERS: dict[Split, tuple[str, ...]] = {"train": ("train",), "test": ("test", "val")}


@dataclass(frozen=True, kw_only=True)
class ClassNames:
    """One class: its folder, its names in the language, and its English names where they are known."""

    folder: str
    names: tuple[str, ...]
    """At least one; several are synonyms and are averaged."""
    english: tuple[str, ...] = ()

    @property
    def shown(self) -> str:
        """The first name, for tables."""
        return self.names[0]


@dataclass(frozen=True, kw_only=True, eq=False)
class ClassificationSet:
    """Images, each of one class."""

    name: str
    language: str
    images: tuple[ImageFile, ...]
    labels: NDArray[np.int64]
    """int64 `[images]`, numbers `classes`."""
    classes: tuple[ClassNames, ...]

    def __post_init__(self) -> None:
        if not self.images or len(self.labels) != len(self.images):
            raise DataError(f"{self.name}: {len(self.labels)} labels beside {len(self.images)} images")
        if len(self.classes) < 2:
            raise DataError(f"{self.name}: has {len(self.classes)} class; there is nothing to choose from")

    def rows(self, chosen: NDArray[np.int64]) -> "ClassificationSet":
        """Return some of the images; the classes stay."""
        images = tuple(self.images[row] for row in chosen.tolist())
        return replace(self, images=images, labels=self.labels[chosen])

    def only(self, classes: Sequence[int]) -> "ClassificationSet":
        """Return the images of some classes, which are numbered anew in the order given."""
        number = np.full(len(self.classes), -1)
        number[list(classes)] = np.arange(len(classes))
        part = self.rows(np.flatnonzero(number[self.labels] >= 0))
        return replace(part, labels=number[part.labels], classes=tuple(self.classes[i] for i in classes))


def load_classification(found: RecipeFile[ClassificationRecipe], *, language: str) -> ClassificationSet:
    """Read a recipe's set in one language; a DataError says how to get what is not there."""
    recipe = found.recipe
    if recipe.language not in (None, language):
        raise DataError(f"{recipe.name}: is in '{recipe.language}', the model's language is '{language}'")
    classes = source_files(found, recipe.source, [recipe.classes])[0] if recipe.classes else None
    if classes is not None and not isinstance(classes, Path):
        raise DataError(f"{classes}: class names are not read from archives; name the file itself")
    if recipe.images != "inside":
        folder = local_path(found, recipe.images)
        return classification_from_folder(folder, classes, language=language, name=recipe.name)
    groups: dict[str, list[ImageFile]] = {}
    files, columns, names_in = source_files(found, recipe.source), recipe.columns, cache(label_names)
    for row in read_source(files, [columns.label], recipe.source or Rows(), image=columns.image):
        image, label = row.values
        names = names_in(image.path, columns.label)
        known = type(label) is int and 0 <= label < len(names)
        groups.setdefault(names[label] if known else str(label), []).append(image)
    listed = _listed(sorted(groups), classes, language, recipe.name)
    return _set(recipe.name, language, listed, [groups[item.folder] for item in listed])


def classification_from_folder(
    folder: Path, classes: Path | None, *, language: str, split: Split = "test", name: str | None = None
) -> ClassificationSet:
    """Read your own set: one folder of images per class, perhaps inside `train/` and `test/` (or `val/`).

    `classes` is a file for `read_class_names`, or `.json` for `read_label_list`; None takes the folders'
    names. `split` says which part to read where the folder has both. The set's `name` is the folder's.
    """
    place = folder
    if has_splits(folder):
        place = next(folder / name for name in _SPLIT_FOLDERS[split] if (folder / name).is_dir())
    listed = _listed(_class_folders(place), classes, language, str(place))
    # A photo under two names could be in both training and test.
    groups = [first_of_each(list_images(place / item.folder), file_identity) for item in listed]
    return _set(name or real_path(folder).name, language, listed, groups)


def _listed(
    folders: Sequence[str], classes: Path | None, language: str, place: str
) -> tuple[ClassNames, ...]:
    """Return the classes that have folders, or labels, as a list of names calls them."""
    if classes is None:
        listed = tuple(ClassNames(folder=name, names=(name.replace("_", " "),)) for name in folders)
    elif classes.suffix.lower() == ".json":
        listed = read_label_list(classes, language, folders)
    else:
        listed = read_class_names(classes)
    names = [item.folder for item in listed]
    if missing := [name for name in names if name not in folders]:
        lost = f"no folder for class '{missing[0]}' ({len(missing)} of {len(listed)} lack one)"
        raise DataError(f"{place}: {lost}; each class that {classes} names needs a folder of images")
    unnamed = sorted(set(folders) - set(names))
    if unnamed and (classes is None or classes.suffix.lower() != ".json"):
        what = f"folder '{unnamed[0]}' is no class of {classes} ({len(unnamed)} are not)"
        raise DataError(f"{place}: {what}; add it there or remove it")
    return listed


def _set(
    name: str, language: str, classes: tuple[ClassNames, ...], groups: Sequence[Sequence[ImageFile]]
) -> ClassificationSet:
    return ClassificationSet(
        name=name,
        language=language,
        images=tuple(image for group in groups for image in group),
        labels=np.repeat(np.arange(len(groups)), [len(group) for group in groups]),
        classes=classes,
    )


def has_splits(folder: Path) -> bool:
    """Return whether a folder is divided into `train/` and `test/` (or `val/`) itself."""
    return all(any((folder / name).is_dir() for name in names) for names in _SPLIT_FOLDERS.values())


def _class_folders(place: Path) -> list[str]:
    if not place.is_dir():
        problem = "is not a folder" if place.exists() else "no such folder"
        raise DataError(f"{place}: {problem}; name the folder that holds one folder of images per class")
    found = sorted(item.name for item in os.scandir(place) if item.is_dir() and not item.name.startswith("."))
    if not found:
        raise DataError(f"{place}: holds no class folders; put the images of each class into its own folder")
    return found


def read_class_names(path: Path) -> tuple[ClassNames, ...]:
    """Read a user's own list of classes; refuse one without classes, a class twice, and empty names.

    A text file has one class per line: folder, names and English names, divided by tabs; synonyms are divided
    by `|`, and a folder alone is the name. YAML maps a folder to a name, to a list of names, or to
    `{names: [...], english: [...]}`. English names are given for all classes or for none.
    """
    kind = path.suffix.lower()
    classes = _from_yaml(path) if kind in (".yaml", ".yml") else _from_lines(path)
    if not classes:
        raise DataError(f"{path}: names no class; write one per line")
    seen: set[str] = set()
    for item in classes:
        if item.folder in seen:
            raise DataError(f"{path}: class '{item.folder}' stands there twice; remove one")
        seen.add(item.folder)
        if not item.names or not all(name.strip() for name in (item.folder, *item.names, *item.english)):
            raise DataError(f"{path}: class '{item.folder}' has an empty name; write or remove it")
    without = [item.folder for item in classes if not item.english]
    if without and len(without) < len(classes):
        raise DataError(f"{path}: class '{without[0]}' has no English name, others do; give all or none")
    return tuple(classes)


def read_label_list(path: Path, language: str, folders: Sequence[str]) -> tuple[ClassNames, ...]:
    """Read one language of a label list as Babel-ImageNet distributes it.

    The JSON file maps an upper-case code to two lists: class numbers and their labels. A class number
    counts the sorted `folders` from 0, so all of them must be there, also those that the language lacks.
    """
    lists = _read_label_lists(path)
    code = language.upper()
    if code not in lists:
        raise DataError(f"{path}: has no language '{code}'; it has {', '.join(sorted(lists))}")
    highest = max((number for numbers, _ in lists.values() for number in numbers), default=-1)
    if len(folders) != highest + 1:
        needed = f"from 0 to {highest}, so {highest + 1} class folders are needed to count them"
        there = f"{len(folders)} are there; add the missing ones, empty if need be"
        raise DataError(f"{path}: its class numbers run {needed}, {there}")
    english = dict(zip(*lists["EN"], strict=True)) if "EN" in lists else {}
    numbers, labels = lists[code]
    if len(set(numbers)) != len(numbers) or not all(label.strip() for label in labels):
        raise DataError(f"{path}: {code}: a class number is repeated or a label is empty; fetch it again")
    both = all(number in english for number in numbers)
    return tuple(
        ClassNames(folder=folders[number], names=(label,), english=(english[number],) if both else ())
        for number, label in zip(numbers, labels, strict=True)
    )


def _read_label_lists(path: Path) -> dict[str, tuple[list[int], list[str]]]:
    try:
        lists = _LABEL_LISTS.validate_json(read_bytes(path))
    except OSError as error:
        raise unreadable(path, error) from error
    except ValidationError as error:
        fault = error.errors()[0]
        where = "".join(f"{part}: " for part in fault["loc"][:1])
        raise DataError(f"{path}: {where}{fault['msg']}; {_EXPECTED}") from error
    for code, (numbers, labels) in lists.items():
        if len(numbers) != len(labels):
            raise DataError(f"{path}: {code}: {_EXPECTED}")
    if not lists:
        raise DataError(f"{path}: {_EXPECTED}")
    return lists


def _from_lines(path: Path) -> list[ClassNames]:
    classes = []
    for number, line in read_lines(path):
        if not line.strip():
            continue
        cells = [cell.strip() for cell in line.split("\t")]
        if len(cells) > 3:
            raise DataError(f"{path}: line {number} has {len(cells)} cells; three are the most")
        folder, names, english = (*cells, *[""] * (3 - len(cells)))
        own = _synonyms(names) if names else (folder.replace("_", " "),)
        classes.append(ClassNames(folder=folder, names=own, english=_synonyms(english) if english else ()))
    return classes


def _from_yaml(path: Path) -> list[ClassNames]:
    classes = []
    for folder, value in read_yaml(path).items():
        parts = value if isinstance(value, dict) else {"names": value}
        if "names" not in parts or set(parts) - {"names", "english"}:
            got = ", ".join(map(str, parts))
            raise DataError(f"{path}: {folder}: expected names and perhaps english, got {got}")
        names, english = (_texts(path, folder, parts.get(key, [])) for key in ("names", "english"))
        classes.append(ClassNames(folder=str(folder), names=names, english=english))
    return classes


def _texts(path: Path, folder: object, value: Any) -> tuple[str, ...]:
    items = value if isinstance(value, list) else [value]
    if not all(isinstance(item, str) for item in items):
        raise DataError(f"{path}: {folder}: expected a text or a list of texts, got {value!r}")
    return tuple(item.strip() for item in items)


def _synonyms(cell: str) -> tuple[str, ...]:
    return tuple(part.strip() for part in cell.split("|"))


def draw_shots(data: ClassificationSet, shots: int, *, seed: int) -> NDArray[np.int64]:
    """Draw `shots` images of each class; return their rows; of one seed 4 shots are among 8."""
    rows = _shuffled_classes(data, seed)
    for item, own in zip(data.classes, rows, strict=True):
        if len(own) < shots:
            counts = f"class '{item.folder}' has {len(own)} images, {shots} shots were asked for"
            raise DataError(f"{data.name}: {counts}; lower --shots or add images")
    return np.concatenate([own[:shots] for own in rows])


def divided(
    data: ClassificationSet, *, test_fraction: float, seed: int
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Draw a share of every class to test on; return the other rows, for shots, and the drawn ones."""
    train, test = [], []
    for item, own in zip(data.classes, _shuffled_classes(data, seed), strict=True):
        if len(own) < 2:
            raise DataError(f"{data.name}: class '{item.folder}' has one image; two are the least to divide")
        count = min(len(own) - 1, max(1, round(test_fraction * len(own))))
        test.append(own[:count])
        train.append(own[count:])
    return np.concatenate(train), np.concatenate(test)


def _shuffled_classes(data: ClassificationSet, seed: int) -> list[NDArray[np.int64]]:
    rows = [np.flatnonzero(data.labels == number) for number in range(len(data.classes))]
    return [np.random.default_rng([seed, number]).permutation(own) for number, own in enumerate(rows)]


def base_and_novel(classes: int) -> tuple[list[int], list[int]]:
    """Return the two halves of the classes, base first: it may have one more (CoCoOp, section 4.1)."""
    middle = (classes + 1) // 2
    return list(range(middle)), list(range(middle, classes))
