"""What classes are called: a text file or YAML of one's own, or a label list by ImageNet's class numbers."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from langadapt.data.lines import read_lines, unreadable
from langadapt.errors import DataError
from langadapt.recipes import read_yaml

_SYNONYMS = "|"


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


def read_class_names(path: Path) -> tuple[ClassNames, ...]:
    """Reads a user's own list of classes.

    A text file has one class per line, up to three cells divided by tabs: folder, names, English names.
    Synonyms stand in one cell, divided by `|`. A line of one cell is a folder that has the class's name. YAML
    is a mapping from folder to a name, to a list of names, or to `{names: [...], english: [...]}`.

    Raises:
        DataError: unreadable, no class, a class twice, an empty name, some classes with English names and
            some without.
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
        raise DataError(
            f"{path}: class '{without[0]}' has no English name and others have one; give all or none"
        )
    return tuple(classes)


def read_label_list(path: Path, language: str, folders: Sequence[str]) -> tuple[ClassNames, ...]:
    """Reads one language of a label list as Babel-ImageNet distributes it.

    The file maps an upper-case language code to two lists: class numbers and their labels. A class number
    counts the sorted class folders from 0, so all of them must be there, also those that the language lacks.

    Args:
        path: JSON file.
        language: code of the language, in either case.
        folders: names of all class folders, sorted.

    Raises:
        DataError: unreadable, no such language, numbers that do not fit the folders, an empty label.
    """
    lists = _label_lists(path)
    code = language.upper()
    if code not in lists:
        raise DataError(f"{path}: has no language '{code}'; it has {', '.join(sorted(lists))}")
    highest = max((number for numbers, _ in lists.values() for number in numbers), default=-1)
    if len(folders) != highest + 1:
        raise DataError(
            f"{path}: its class numbers run from 0 to {highest}, so {highest + 1} class folders are needed "
            f"to count them, {len(folders)} are there; put the missing ones there, empty if need be"
        )
    english = dict(zip(*lists["EN"], strict=True)) if "EN" in lists else {}
    numbers, labels = lists[code]
    if len(set(numbers)) != len(numbers) or not all(label.strip() for label in labels):
        raise DataError(f"{path}: {code}: a class number is repeated or a label is empty; fetch it again")
    both = all(number in english for number in numbers)
    return tuple(
        ClassNames(folder=folders[number], names=(label,), english=(english[number],) if both else ())
        for number, label in zip(numbers, labels, strict=True)
    )


def _label_lists(path: Path) -> dict[str, tuple[list[int], list[str]]]:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise unreadable(path, error) from error
    except ValueError as error:
        raise DataError(f"{path}: not valid JSON: {error}; fetch it again") from error
    if not isinstance(found, dict) or not found:
        raise DataError(f"{path}: expected a mapping from language to class numbers and labels")
    lists: dict[str, tuple[list[int], list[str]]] = {}
    for code, value in found.items():
        fits = (
            isinstance(value, list)
            and len(value) == 2
            and all(isinstance(part, list) for part in value)
            and len(value[0]) == len(value[1])
            and all(type(number) is int and number >= 0 for number in value[0])
            and all(isinstance(label, str) for label in value[1])
        )
        if not fits:
            raise DataError(f"{path}: {code}: expected a list of class numbers and as long a list of labels")
        lists[code] = (value[0], value[1])
    return lists


def _from_lines(path: Path) -> list[ClassNames]:
    classes = []
    for line in read_lines(path):
        if not line.text.strip():
            continue
        cells = [cell.strip() for cell in line.text.split("\t")]
        if len(cells) > 3:
            raise DataError(
                f"{path}: line {line.number} has {len(cells)} cells; expected folder, names, English names"
            )
        folder, names, english = (*cells, *[""] * (3 - len(cells)))
        classes.append(
            ClassNames(
                folder=folder,
                names=_synonyms(names) if names else (folder.replace("_", " "),),
                english=_synonyms(english) if english else (),
            )
        )
    return classes


def _from_yaml(path: Path) -> list[ClassNames]:
    classes = []
    for folder, value in read_yaml(path).items():
        parts = value if isinstance(value, dict) else {"names": value}
        unknown = set(parts) - {"names", "english"}
        if unknown or "names" not in parts:
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
    return tuple(part.strip() for part in cell.split(_SYNONYMS))
