"""Errors that a user can mend, progress, and signals. Everything else is a bug and shows its traceback."""

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from types import FrameType


class LangadaptError(Exception):
    """One clear line: what is wrong, where, and the way out. The command line prints it and exits with 2."""


class RecipeError(LangadaptError):
    """A recipe is missing, unreadable or says something that it may not say."""


class DataError(LangadaptError):
    """A data file or a row of it cannot be used."""


class MissingDataError(DataError):
    """Data that a recipe names are not on this machine; the line says how to get them."""


class ModelError(LangadaptError):
    """A base model or an artifact cannot be loaded or does not fit."""


class TrainingError(LangadaptError):
    """A run cannot go on: a loss that is not finite, a changed recipe in a run folder."""


class PublishError(LangadaptError):
    """A run may not be published, or the Hub does not take it."""


class LangadaptWarning(UserWarning):
    """A fault that was worked around: one line says what, and what was done."""


@dataclass(frozen=True, kw_only=True)
class Progress:
    """One line of progress: `done` of `total` units of a stage; a line without total is a plain message."""

    stage: str
    done: int = 0
    total: int = 0
    note: str = ""


Report = Callable[[Progress], None]


def counted(report: Report, stage: str) -> Callable[[int, int], None]:
    """Return a function that reports how many of how many units of a stage are done."""
    return lambda done, total: report(Progress(stage=stage, done=done, total=total))


_SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Stopped(BaseException):
    """A signal asked the process to stop; `note` says what was saved. No `Exception`: nobody handles it."""

    def __init__(self, number: int, note: str = "") -> None:
        super().__init__(number, note)
        self.number = number
        self.note = note

    @property
    def name(self) -> str:
        """SIGINT or SIGTERM."""
        return signal.Signals(self.number).name


def stops_at_once() -> AbstractContextManager[None]:
    """Make SIGINT and SIGTERM raise `Stopped` while inside."""

    def stop(number: int, frame: FrameType | None) -> None:
        raise Stopped(number)

    return _handled(stop)


@contextmanager
def stops_between_steps() -> Iterator[Callable[[], int]]:
    """Note a first signal while inside, a second raises `Stopped`; yield what returns the noted one, or 0."""
    noted = 0

    def note(number: int, frame: FrameType | None) -> None:
        nonlocal noted
        if noted:
            raise Stopped(number)
        noted = number

    with _handled(note):
        yield lambda: noted


@contextmanager
def _handled(handler: Callable[[int, FrameType | None], None]) -> Iterator[None]:
    if threading.current_thread() is not threading.main_thread():
        yield  # Python hands signals to the main thread alone
        return
    before = {number: signal.signal(number, handler) for number in _SIGNALS}
    try:
        yield
    finally:
        if threading.current_thread() is threading.main_thread():
            for number, old in before.items():
                signal.signal(number, old)
