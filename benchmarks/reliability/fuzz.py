"""Feeds every reader with damaged input; each must end in success or in one of langadapt's own errors.

A time bound stops a reader that hangs, a memory bound one that swells, and after each input the folder holds
what it held before, so nothing was written.

python benchmarks/reliability/fuzz.py --inputs 100000 --seed 1
"""

import argparse
import math
import os
import random
import resource
import signal
import sys
import tempfile
import time
import traceback
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType

from mutate import mutated
from trials import Trial, show

from langadapt.errors import LangadaptError

_SECONDS = 5.0
_MEMORY_BYTES = 2_000_000_000
_SWAPPED, _ODD = 0.01, 0.01


@dataclass(frozen=True, kw_only=True)
class Reader:
    """A reader with good input: files by name, and what reads them."""

    name: str
    files: dict[str, bytes]
    read: Callable[[Path], object]
    share: float = 1.0
    """Of the inputs; slow readers get fewer."""


class TooLong(BaseException):
    """A reader took longer than it may; no Exception, so that nothing takes it for a fault of the input."""


def fuzz(reader: Reader, *, inputs: int, seed: int) -> Trial:
    """Feeds one reader."""
    trial = Trial(part="fuzz", name=reader.name)
    rng = random.Random(f"{seed} {reader.name}")
    accepted, began = 0, time.perf_counter()
    with tempfile.TemporaryDirectory(prefix="fuzz-") as place:
        root = Path(place)
        folder = root / "in"
        folder.mkdir()
        for name, content in reader.files.items():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_bytes(content)
        if (fault := _fault(reader, folder)) is not None:
            raise AssertionError(f"{reader.name}: good input is refused: {fault}")
        for number in range(inputs):
            name = rng.choice(list(reader.files))
            bad = reader.files[rng.choice(list(reader.files))]  # swapped, or itself
            if rng.random() > _SWAPPED:
                bad = mutated(reader.files[name], rng)
            (folder / name).write_bytes(bad)
            if rng.random() < _ODD:
                _make_odd(folder / name, rng)
            before = _listing(root)
            fault = _fault(reader, folder)
            accepted += fault is None
            if fault is not None and fault.startswith("refused"):
                fault = None
            if fault is None and _listing(root) != before:
                fault = "it wrote into the folder"
            trial.count(None if fault is None else f"input {number} ({name}, seed {seed}): {fault}")
            if fault is not None and os.environ.get("FUZZ_KEEP"):
                kept = (
                    Path(os.environ["FUZZ_KEEP"])
                    / f"{reader.name.replace(' ', '-')}-{number}-{Path(name).name}"
                )
                kept.parent.mkdir(parents=True, exist_ok=True)
                kept.write_bytes(bad)
            if (folder / name).is_dir():
                (folder / name).rmdir()
            (folder / name).unlink(missing_ok=True)
            (folder / name).write_bytes(reader.files[name])
    trial.seconds = time.perf_counter() - began
    trial.note = f"{accepted:,} accepted"
    return trial


def _make_odd(path: Path, rng: random.Random) -> None:
    """Puts something else in place of a file: a pipe, a device, a folder, or six gigabytes of nothing."""
    path.unlink()
    match rng.randrange(5):
        case 0:
            os.mkfifo(path)
        case 1:
            path.symlink_to("/dev/zero")
        case 2:
            path.symlink_to(path.name)
        case 3:
            path.mkdir()
        case _:
            with path.open("wb") as file:  # weights are mapped, which counts as memory
                file.truncate(1_500_000_000 if path.suffix == ".safetensors" else 6_000_000_000)


def _fault(reader: Reader, folder: Path) -> str | None:
    """None where the input was accepted, `refused: ...` where it was refused well, else what happened."""
    try:
        with _at_most(_SECONDS):
            reader.read(folder)
    except LangadaptError as error:
        lines = str(error).splitlines()
        if not lines or not lines[0].strip():
            return "an error without a word"
        return f"refused: {lines[0]}"
    except TooLong:
        return f"took more than {_SECONDS} s of the processor, or hung"
    except MemoryError:
        return "swelled beyond the memory bound"
    except BaseException as error:  # noqa: BLE001 - a fault of any kind is what is looked for
        last = traceback.extract_tb(error.__traceback__)[-1]
        return f"{type(error).__name__}: {str(error)[:150]!r} at {Path(last.filename).name}:{last.lineno}"
    return None


@contextmanager
def _at_most(seconds: float) -> Iterator[None]:
    """Bounds the processor time, and much more loosely the time on the clock: others use the machine, too."""

    def stop(number: int, frame: FrameType | None) -> None:
        raise TooLong

    timers = {
        signal.SIGPROF: (signal.ITIMER_PROF, seconds),
        signal.SIGALRM: (signal.ITIMER_REAL, 40 * seconds),
    }
    before = {number: signal.signal(number, stop) for number in timers}
    for timer, limit in timers.values():
        signal.setitimer(timer, limit)
    try:
        yield
    finally:
        for number, (timer, _) in timers.items():
            signal.setitimer(timer, 0)
            signal.signal(number, before[number])


def _listing(folder: Path) -> dict[str, tuple[int, int]]:
    return {
        str(path.relative_to(folder)): (path.stat().st_size, path.stat().st_mtime_ns)
        for path in folder.rglob("*")
        if path.is_file()
    }


def fuzz_all(*, inputs: int, seed: int, only: str | None = None, bounded: bool = False) -> list[Trial]:
    """Feeds all readers; together they get at least `inputs` inputs."""
    from fuzz_readers import readers

    with warnings.catch_warnings(), tempfile.TemporaryDirectory(prefix="fuzz-models-") as models:
        warnings.simplefilter("ignore")
        chosen = [item for item in readers(Path(models)) if only is None or only in item.name]
        if bounded:  # libraries and models are loaded, and no part of it
            _bound_memory()
        whole = sum(item.share for item in chosen)
        return [fuzz(item, inputs=math.ceil(inputs * item.share / whole), seed=seed) for item in chosen]


def _bound_memory() -> None:
    """No more memory than what the process has now and the bound: a reader that swells gets a MemoryError."""
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    limit = pages * os.sysconf("SC_PAGE_SIZE") + _MEMORY_BYTES
    resource.setrlimit(resource.RLIMIT_AS, (limit, resource.getrlimit(resource.RLIMIT_AS)[1]))


def main() -> None:
    """Feeds the readers and prints the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--inputs", type=int, default=5_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", help="part of a reader's name")
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    trials = fuzz_all(inputs=arguments.inputs, seed=arguments.seed, only=arguments.only, bounded=True)
    survived = show(trials, arguments.json)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    sys.stdout.write(f"at most {peak / 1e6:.2f} GB of memory, libraries and models included\n")
    sys.exit(0 if survived else 1)


if __name__ == "__main__":
    main()
