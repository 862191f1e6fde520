"""Kills every resumable stage at random moments, resumes it, and compares it with an undisturbed run.

python benchmarks/reliability/killed.py --kills 20

Each stage runs in a process of its own. It is killed (SIGKILL) after a random share of the processor time
that the undisturbed run took, some of them again while they resume, and must end with the same bytes. With
`--signals` it gets SIGINT or SIGTERM instead, must say how to go on, and what it says must work.
"""

import argparse
import hashlib
import os
import random
import shutil
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from stages import STAGES, Stage, prepare
from trials import Trial, show, told

_LONGEST_SECONDS = 300.0
_TWICE = 0.4


@dataclass(frozen=True)
class Ended:
    """How a process ended: exit code (negative: signal), and its processor time."""

    code: int
    busy_seconds: float


def in_child(
    work: Callable[[], None], log: Path, *, kill_after: float | None = None, by: int = signal.SIGKILL
) -> Ended:
    """Runs something in a process of its own; perhaps sends a signal after some seconds of processor time."""
    sys.stdout.flush()
    process = os.fork()
    if process == 0:
        _become_child(work, log)
    began, sent = time.monotonic(), False
    while True:
        done, status, used = os.wait4(process, os.WNOHANG)
        if done:
            return Ended(os.waitstatus_to_exitcode(status), used.ru_utime + used.ru_stime)
        if kill_after is not None and not sent and _busy_seconds(process) >= kill_after:
            os.kill(process, by)
            sent = True
        if time.monotonic() - began > _LONGEST_SECONDS:
            os.kill(process, signal.SIGKILL)
            os.wait4(process, 0)
            return Ended(1000, 0.0)
        time.sleep(0.002)


def _become_child(work: Callable[[], None], log: Path) -> None:
    code = 1
    try:
        file = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        os.dup2(file, 1)
        os.dup2(file, 2)
        signal.signal(signal.SIGINT, signal.default_int_handler)
        work()
        code = 0
    except SystemExit as stop:
        code = int(stop.code or 0)
    except BaseException:  # noqa: BLE001 - whatever it is, the parent must see it in the log
        traceback.print_exc()
    finally:
        sys.stderr.flush()
        os._exit(code)


def _busy_seconds(process: int) -> float:
    try:
        tasks = list(Path(f"/proc/{process}/task").iterdir())
        return sum(int((task / "schedstat").read_text().split()[0]) for task in tasks) / 1e9
    except (FileNotFoundError, ProcessLookupError, IndexError):
        return 0.0


def kill_and_resume(stage: Stage, world: Path, root: Path, *, kills: int, seed: int) -> Trial:
    """Kills one stage `kills` times, each time in a fresh place."""
    trial = Trial(part="kill -9", name=stage.name)
    began = time.perf_counter()
    whole = root / f"{stage.name}-whole"
    end = _run(stage, world, whole)
    if end.code:
        raise AssertionError(f"{stage.name} does not run: {(whole / 'log').read_text()[-2000:]}")
    wanted = made(stage, whole)
    assert wanted, f"{stage.name} makes nothing"
    rng = random.Random(f"{seed} {stage.name}")
    hits = 0
    for number in range(kills):
        place = root / f"{stage.name}-{number}"
        moments = [rng.uniform(0, end.busy_seconds)]
        if rng.random() < _TWICE:
            moments.append(rng.uniform(0, end.busy_seconds))
        for moment in moments:
            hits += _run(stage, world, place, kill_after=moment).code == -signal.SIGKILL
        trial.count(_resumed(stage, world, place, wanted))
        shutil.rmtree(place)
    trial.note = f"{hits} kills hit it at work"
    trial.seconds = time.perf_counter() - began
    return trial


def signal_and_resume(stage: Stage, world: Path, root: Path, *, times: int, seed: int) -> Trial:
    """Sends SIGINT and SIGTERM in turn; the stage must end with 128 and the signal's number, and resume."""
    trial = Trial(part="SIGINT, SIGTERM", name=stage.name)
    began = time.perf_counter()
    whole = root / f"{stage.name}-whole"
    busy = 0.0
    if not whole.is_dir():
        busy = _run(stage, world, whole).busy_seconds
    wanted = made(stage, whole)
    rng = random.Random(f"{seed} signals {stage.name}")
    hits = 0
    for number in range(times):
        place = root / f"{stage.name}-signal-{number}"
        by = (signal.SIGINT, signal.SIGTERM)[number % 2]
        busy = busy or _run(stage, world, root / f"{stage.name}-again").busy_seconds
        end = _run(stage, world, place, kill_after=rng.uniform(0.02, 0.95) * busy, by=by)
        said = (place / "log").read_text(encoding="utf-8")
        hits += end.code != 0
        fault = None
        if end.code not in (0, 128 + by):
            fault = f"ended with {end.code} instead of {128 + by}: {said[-300:]!r}"
        elif end.code and (f"stopped by {signal.Signals(by).name}" not in said or "Traceback" in said):
            fault = f"does not say that it was stopped: {said[-300:]!r}"
        trial.count(fault or _resumed(stage, world, place, wanted))
        shutil.rmtree(place)
    trial.note = f"{hits} came in time"
    trial.seconds = time.perf_counter() - began
    return trial


def _resumed(stage: Stage, world: Path, place: Path, wanted: dict[str, str]) -> str | None:
    if _finished(stage, place):
        return _difference(wanted, made(stage, place))
    end = _run(stage, world, place)
    if end.code:
        return f"does not resume ({end.code}): {(place / 'log').read_text(encoding='utf-8')[-400:]!r}"
    return _difference(wanted, made(stage, place))


def _finished(stage: Stage, place: Path) -> bool:
    """A finished stage refuses to be started again; that is no fault."""
    return stage.finished is not None and (place / stage.finished).is_file()


def _run(
    stage: Stage, world: Path, place: Path, *, kill_after: float | None = None, by: int = signal.SIGKILL
) -> Ended:
    place.mkdir(exist_ok=True)

    def work() -> None:
        os.environ["LANGADAPT_CACHE"] = str(place / "cache")
        os.chdir(place)
        stage.work(world, place)

    return in_child(work, place / "log", kill_after=kill_after, by=by)


def made(stage: Stage, place: Path) -> dict[str, str]:
    """SHA-256 of everything that a stage leaves whatever the time, without the name of the place."""
    here = str(place).encode()
    return {
        str(path.relative_to(place)): hashlib.sha256(path.read_bytes().replace(here, b"")).hexdigest()
        for pattern in stage.makes
        for path in sorted(place.glob(pattern))
    }


def _difference(wanted: dict[str, str], got: dict[str, str]) -> str | None:
    other = sorted(name for name in wanted.keys() | got.keys() if wanted.get(name) != got.get(name))
    return f"differs from the undisturbed run: {', '.join(other[:4])}" if other else None


def kill_all(*, kills: int, signals: int, seed: int, only: str | None = None) -> list[Trial]:
    """All stages, one after the other."""
    found = []
    with tempfile.TemporaryDirectory(prefix="killed-") as folder:
        root = Path(folder)
        world = root / "world"
        world.mkdir()
        names = only.split(",") if only else ()
        end = in_child(lambda: prepare(world, names), world / "log")
        if end.code:
            raise AssertionError((world / "log").read_text(encoding="utf-8")[-3000:])
        for stage in STAGES:
            if names and stage.name not in names:
                continue
            if kills:
                found.append(told(kill_and_resume(stage, world, root, kills=kills, seed=seed)))
            if signals and stage.command:
                found.append(told(signal_and_resume(stage, world, root, times=signals, seed=seed)))
    return found


def main() -> None:
    """Kills the stages and prints the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=5, help="per stage")
    parser.add_argument("--signals", type=int, default=2, help="per stage that is a command")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", help="names of stages, divided by commas")
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    trials = kill_all(
        kills=arguments.kills, signals=arguments.signals, seed=arguments.seed, only=arguments.only
    )
    sys.exit(0 if show(trials, arguments.json) else 1)


if __name__ == "__main__":
    main()
