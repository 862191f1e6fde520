"""Ends every stage at each of its numbered file-system events, by a kill or a power cut, and runs it again.

python benchmarks/reliability/numbered.py --every 5 --only distill,translate

An event is a file opened for writing, a rename, a removal, a new folder, or a sync, below the stage's place.
A power cut is a model of the worst that a disk may do: what was not synced is empty, and a rename in a folder
that was not synced since never happened. The same command must then end with the bytes of an undisturbed
run, and with no other files.
"""

import argparse
import os
import random
import shutil
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from killed import in_child, made
from stages import STAGES, Stage, prepare
from trials import Trial, show, told

_WRITING = os.O_WRONLY | os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_TRUNC
_CHANGES = ("os.rename", "os.remove", "os.rmdir", "os.mkdir", "os.truncate", "os.link", "os.symlink")
_BY_ITSELF = (".sqlite", "-journal", ".lock", "lock")
"""SQLite syncs its files by itself, where Python does not see it; locks have no content."""

_COMPLETE = ("holds a finished run", "holds learned prompts", "is there already", "is not empty")


class Disk:
    """Counts the events of this process below a folder, and ends it at one of them."""

    def __init__(self, place: Path, *, end_at: int, power_cut: bool) -> None:
        self.place, self.end_at, self.power_cut = str(place), end_at, power_cut
        self.count = 0
        self.unsynced: set[str] = set()
        self.renames: list[tuple[str, str, bytes | None]] = []
        self._ending = False

    def start(self) -> None:
        """Watches from now on; it cannot be undone."""
        sys.addaudithook(self._hear)
        self._wrap("fsync", self._fsync)
        self._wrap("replace", self._rename)
        self._wrap("rename", self._rename)

    def _wrap(self, name: str, wrapper: Callable[..., Any]) -> None:
        original = getattr(os, name)
        setattr(os, name, lambda *given, **more: wrapper(original, *given, **more))

    def _hear(self, event: str, given: tuple[Any, ...]) -> None:
        if self._ending:
            return
        if event == "open" and isinstance(given[0], str | bytes) and (given[2] or 0) & _WRITING:
            if self._event(given[0]) and not str(given[0]).endswith(_BY_ITSELF):
                self.unsynced.add(os.path.realpath(os.fsdecode(given[0])))
        elif event in _CHANGES:
            self._event(given[0])

    def _event(self, path: Any) -> bool:
        """Counts what happens below the place; True if it does."""
        if not isinstance(path, str | bytes | os.PathLike):
            return False
        full = os.path.realpath(os.fsdecode(path))
        if not full.startswith(self.place) or full.startswith(f"{self.place}/log"):
            return False
        self.count += 1
        if self.count == self.end_at:
            self._end()
        return True

    def _fsync(self, original: Callable[[int], None], number: int) -> None:
        path = os.readlink(f"/proc/self/fd/{number}")
        self._event(path)
        original(number)
        self.unsynced.discard(path)
        self.renames = [item for item in self.renames if os.path.dirname(item[1]) != path]

    def _rename(self, original: Callable[..., None], source: Any, target: Any, **more: Any) -> None:
        old, new = (os.path.realpath(os.fsdecode(path)) for path in (source, target))
        before = Path(new).read_bytes() if os.path.isfile(new) else None
        original(source, target, **more)
        if old in self.unsynced:
            self.unsynced.discard(old)
            self.unsynced.add(new)
        if os.path.isfile(new):
            self.renames.append((old, new, before))

    def _end(self) -> None:
        self._ending = True
        for path in self.unsynced if self.power_cut else ():
            if os.path.isfile(path):
                os.truncate(path, 0)
        for old, new, before in reversed(self.renames) if self.power_cut else ():
            if os.path.isfile(new):
                os.replace(new, old)
            if before is not None:
                Path(new).write_bytes(before)
        os._exit(77)


def _run(stage: Stage, world: Path, place: Path, *, end_at: int, power_cut: bool = False) -> tuple[int, str]:
    """Exit code, 77 where it was ended, and all that was said; the number of events is in `log-count`."""
    place.mkdir(exist_ok=True)
    log = place / "log"
    log.unlink(missing_ok=True)

    def work() -> None:
        os.environ["LANGADAPT_CACHE"] = str(place / "cache")
        os.chdir(place)
        disk = Disk(place, end_at=end_at, power_cut=power_cut)
        disk.start()
        try:
            stage.work(world, place)
        finally:
            disk.end_at = 0
            (place / "log-count").write_text(str(disk.count), encoding="utf-8")

    code = in_child(work, log).code
    return code, log.read_text(encoding="utf-8") if log.is_file() else ""


def files(place: Path) -> set[str]:
    """Names of all that a stage leaves outside of the cache."""
    found = (str(path.relative_to(place)) for path in place.rglob("*"))
    return {name for name in found if name.split("/")[0] not in ("cache", "log", "log-count")}


def end_everywhere(stage: Stage, world: Path, root: Path, *, every: int, power_cut: bool, seed: int) -> Trial:
    """Ends one stage at each event, or at each `every`-th one, and runs it again."""
    trial = Trial(part="power cut" if power_cut else "kill", name=stage.name)
    began = time.perf_counter()
    whole = root / "whole"
    code, said = _run(stage, world, whole, end_at=-1)
    assert code == 0, said[-2000:]
    count = int((whole / "log-count").read_text(encoding="utf-8"))
    wanted, names = made(stage, whole), files(whole)
    first = random.Random(f"{seed} {stage.name}").randrange(every)
    for number in range(1 + first, count + 1, every):
        place = root / "place"
        code, said = _run(stage, world, place, end_at=number, power_cut=power_cut)
        fault = None if code == 77 else f"was not ended ({code}): {said[-300:]!r}"
        trial.count(fault or _fault(stage, world, place, number, wanted=wanted, names=names))
        shutil.rmtree(place)
    trial.note = f"of {count} events"
    trial.seconds = time.perf_counter() - began
    shutil.rmtree(whole)
    return trial


def _fault(
    stage: Stage, world: Path, place: Path, number: int, *, wanted: dict[str, str], names: set[str]
) -> str | None:
    code, said = _run(stage, world, place, end_at=-1)
    refused = code == 2 and any(words in said for words in _COMPLETE)
    if code and not refused:
        return f"event {number}: does not go on ({code}): {said[-300:]!r}"
    got, left = made(stage, place), files(place)
    if other := sorted(name for name in wanted.keys() | got.keys() if wanted.get(name) != got.get(name)):
        return f"event {number}: differs: {other[:4]}"
    if other := sorted(left ^ names):
        return f"event {number}: other files: {other[:4]}"
    return None


def main() -> None:
    """Ends the stages and prints the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--every", type=int, default=1, help="only each so many-th event")
    parser.add_argument("--only", help="names of stages, divided by commas")
    parser.add_argument("--seed", type=int, default=0, help="where it begins to count")
    parser.add_argument("--kind", choices=["kill", "power cut"], help="one of the two")
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    names = arguments.only.split(",") if arguments.only else ()
    trials = []
    with tempfile.TemporaryDirectory(prefix="numbered-") as folder:
        root = Path(folder).resolve()
        world = root / "world"
        world.mkdir()
        if in_child(lambda: prepare(world, names), world / "log").code:
            raise AssertionError((world / "log").read_text(encoding="utf-8")[-3000:])
        for stage in STAGES:
            for cut in (False, True):
                if (names and stage.name not in names) or arguments.kind == ("kill" if cut else "power cut"):
                    continue
                found = end_everywhere(
                    stage, world, root, every=arguments.every, power_cut=cut, seed=arguments.seed
                )
                trials.append(told(found))
    sys.exit(0 if show(trials, arguments.json) else 1)


if __name__ == "__main__":
    main()
