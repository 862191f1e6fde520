"""Being asked to stop by Ctrl-C or by the system: at once, or while something learns, between two steps."""

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

_SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Stopped(BaseException):
    """The process was asked to stop. No `Exception`: what handles faults on the way must not take it.

    Args:
        number: of the signal.
        said: what was kept, where something had to be saved first.
    """

    def __init__(self, number: int, said: str = "") -> None:
        super().__init__(number, said)
        self.number = number
        self.said = said

    @property
    def name(self) -> str:
        """SIGINT or SIGTERM."""
        return signal.Signals(self.number).name


@contextmanager
def stops_at_once() -> Iterator[None]:
    """While inside, SIGINT and SIGTERM raise `Stopped`."""

    def stop(number: int, frame: FrameType | None) -> None:
        raise Stopped(number)

    with _handled(stop):
        yield


@contextmanager
def stops_between_steps() -> Iterator[Callable[[], int]]:
    """While inside, a first signal is only noted; a second one raises `Stopped`.

    Yields:
        A function that gives the number of the noted signal, 0 for none.
    """
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
