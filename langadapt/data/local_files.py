"""Where a recipe's files lie: beside a user's recipe, in LANGADAPT_DATA for a shipped one."""

import os
from pathlib import Path
from typing import TypeVar

from langadapt.errors import DataError, MissingDataError
from langadapt.recipes.data import DataCard
from langadapt.recipes.find import Found

D = TypeVar("D", bound=DataCard)

VARIABLE = "LANGADAPT_DATA"
_LONGEST_NAME = 255


def local_path(found: Found[D], name: str) -> Path:
    """The file or folder that a recipe names.

    Args:
        found: the recipe and where it lies.
        name: as written in the recipe. A relative name starts at the recipe's folder, for a shipped recipe at
            `$LANGADAPT_DATA/<recipe name>`; `../other/file` shares the files of another recipe.

    Raises:
        MissingDataError: it is not there; says how to get it.
    """
    try:
        return _local_path(found, name)
    except (OSError, ValueError, RuntimeError) as error:  # too long, a zero byte, nobody's home
        raise DataError(f"{found.path}: '{name:.80}' cannot be a file's name: {error}; correct it") from error


def _local_path(found: Found[D], name: str) -> Path:
    written = Path(name).expanduser()
    if not found.shipped or written.is_absolute():
        path = found.folder / written
        if not path.exists():
            way_in = _way_in(found.recipe, str(found.folder))
            raise MissingDataError(f"{path}: no such file or folder; {way_in}")
        return path
    wanted = Path(os.path.normpath(Path(found.recipe.name) / written))
    way_in = _way_in(found.recipe, f"{VARIABLE} as {wanted.parts[0]}/")
    root = os.environ.get(VARIABLE)
    if not root:
        hint = f"`export {VARIABLE}=/folder/of/your/data` sets it"
        raise MissingDataError(f"{found.recipe.name}: {VARIABLE} is not set; {hint}; {way_in}")
    path = Path(root).expanduser() / wanted
    if not path.exists():
        raise MissingDataError(f"{path}: no such file or folder; {way_in}")
    return path


def inside(folder: Path, name: str, place: str) -> Path:
    """A file that a data file names: below its folder, whatever the name says.

    Args:
        folder: where names start.
        name: from the data file; it may come from a stranger.
        place: starts the error line.

    Raises:
        DataError: it leads out of the folder, or no file system has such a name.
    """
    path = folder / name
    if "\0" in name or max(len(os.fsencode(part)) for part in path.parts) > _LONGEST_NAME:
        raise DataError(f"{place}: '{name:.80}' cannot be a file's name; correct it")
    root = os.path.abspath(folder)
    if os.path.commonpath([root, os.path.abspath(path)]) != root:
        raise DataError(
            f"{place}: '{name:.80}' leads out of {folder}; name the folder that holds all images, or correct "
            "the name"
        )
    return path


def _way_in(card: DataCard, place: str) -> str:
    if card.access == "request":
        return f"{card.title} must be requested at {card.homepage}; put its folder into {place}"
    if card.access == "gated":
        return (
            f"accept the terms of {card.title} at {card.homepage}, fetch it and put its folder into {place}"
        )
    source = f"fetch {card.title} from {card.homepage}" if card.homepage else f"fetch {card.title}"
    return f"{source} and put its folder into {place}"
