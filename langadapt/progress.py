"""How long work tells its caller where it stands."""

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Progress:
    """One line of progress: `done` of `total` units of a stage; a line without total is a plain message."""

    stage: str
    done: int = 0
    total: int = 0
    note: str = ""


Report = Callable[[Progress], None]
