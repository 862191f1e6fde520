"""The command that goes on with what was stopped."""

import shlex
from collections.abc import Sequence

_RESUMABLE = ("distill", "tune", "align", "domain", "index", "quickstart", "data build", "data translate")
_FROM_THE_START = ("prompts",)
_BEGINS_ANEW = ("--overwrite", "--rebuild")


def way_on(arguments: Sequence[str]) -> str:
    """What to say of a stopped command: how to go on, or nothing where nothing is left of it.

    Args:
        arguments: of the command line, without the program.

    Example:
        >>> way_on(["distill", "--lang", "zh", "--overwrite"])
        'go on with: langadapt distill --lang zh'
    """
    words = " ".join(arguments[:2])
    again = shlex.join(["langadapt", *(word for word in arguments if word not in _BEGINS_ANEW)])
    if words.startswith(_RESUMABLE):
        return f"go on with: {again}"
    if words.startswith(_FROM_THE_START):
        return f"nothing was written; start again with: {again}"
    return ""
