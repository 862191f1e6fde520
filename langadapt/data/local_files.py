"""Where a recipe's files lie: beside a user's recipe, in LANGADAPT_DATA for a shipped one."""

import os
from pathlib import Path
from typing import TypeVar

from langadapt.errors import MissingDataError
from langadapt.recipes.data import DataCard
from langadapt.recipes.find import Found

D = TypeVar("D", bound=DataCard)

VARIABLE = "LANGADAPT_DATA"


def local_path(found: Found[D], name: str) -> Path:
    """The file or folder that a recipe names.

    Args:
        found: the recipe and where it lies.
        name: as written in the recipe. A relative name starts at the recipe's folder, for a shipped recipe at
            `$LANGADAPT_DATA/<recipe name>`; `../other/file` shares the files of another recipe.

    Raises:
        MissingDataError: it is not there; says how to get it.
    """
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


def _way_in(card: DataCard, place: str) -> str:
    if card.access == "request":
        return f"{card.title} must be requested at {card.homepage}; put its folder into {place}"
    if card.access == "gated":
        return (
            f"accept the terms of {card.title} at {card.homepage}, fetch it and put its folder into {place}"
        )
    source = f"fetch {card.title} from {card.homepage}" if card.homepage else f"fetch {card.title}"
    return f"{source} and put its folder into {place}"
