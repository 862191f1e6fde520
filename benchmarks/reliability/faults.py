"""Faults from outside: full disks, read-only folders, damaged files, two at once, clocks, Hub, dead workers.

python benchmarks/reliability/faults.py --times 3

Each fault meets a real stage on tiny models. It survives if it ends in one line of langadapt's own (exit
code 2) or goes on by itself, and if the same command, once the fault is gone, ends with the bytes of an
undisturbed run.
"""

import argparse
import ctypes
import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from bad_hub import bad_hub
from filelock import FileLock
from killed import in_child, made
from stages import STAGES, Stage, prepare
from trials import Trial, show, told

from langadapt.errors import LangadaptError

_NEW_MOUNTS = 0x00020000
_BY_NAME = {stage.name: stage for stage in STAGES}


class Place:
    """A stage in a folder, with what it should make."""

    def __init__(self, stage: Stage, world: Path, folder: Path, wanted: dict[str, str]) -> None:
        self.stage, self.world, self.folder, self.wanted = stage, world, folder, wanted

    def run(self, before: Callable[[], None] = lambda: None) -> tuple[int, str]:
        """Exit code and everything said; `before` runs in the new process, ahead of the stage."""
        log = self.folder.with_suffix(".log")
        log.unlink(missing_ok=True)
        self.folder.mkdir(exist_ok=True)

        def work() -> None:
            os.environ["LANGADAPT_CACHE"] = str(self.folder / "cache")
            before()
            self.stage.work(self.world, self.folder)

        code = in_child(work, log).code
        return code, log.read_text(encoding="utf-8")

    def stop(self, share: float) -> None:
        """Leaves it as a killed run leaves it."""
        busy = 0.4 + share
        in_child(lambda: self._work(), self.folder.with_suffix(".log"), kill_after=busy)

    def _work(self) -> None:
        os.environ["LANGADAPT_CACHE"] = str(self.folder / "cache")
        self.stage.work(self.world, self.folder)

    def goes_on(self) -> str | None:
        """Runs it to its end; None where that is what it should be."""
        if self.stage.finished is None or not (self.folder / self.stage.finished).is_file():
            code, said = self.run()
            if code:
                return f"does not go on ({code}): {said[-300:]!r}"
        got = made(self.stage, self.folder)
        other = [name for name in self.wanted if self.wanted[name] != got.get(name)]
        return f"differs: {other[:3]}" if other else None


def refused(code: int, said: str, *words: str) -> str | None:
    """None where it ended with 2 and one line that has one of the words."""
    lines = [line for line in said.splitlines() if line.startswith("langadapt: ")]
    if code != 2 or "Traceback" in said or not lines:
        return f"ended with {code}: {said[-300:]!r}"
    return None if any(word in lines[-1] for word in words) else f"says {lines[-1]!r}"


def full_disk(place: Place, rng: random.Random) -> str | None:
    """A small disk of its own; it is full at a random moment. Needs the right to mount."""
    size = rng.randrange(30_000, 400_000)
    disk = place.folder
    disk.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", disk], check=True)
    try:
        code, said = place.run()
        fault = None if code == 0 else refused(code, said, "disk is full", "No space left")
        subprocess.run(["mount", "-o", "remount,size=50m", disk], check=True)
        return fault or place.goes_on()
    finally:
        subprocess.run(["umount", disk], check=True)


def small_files(place: Place, rng: random.Random) -> str | None:
    """A limit on the size of files, as on some clusters: a real write stops half-way."""
    most = rng.randrange(200, 30_000)

    def limit() -> None:
        import resource

        resource.setrlimit(resource.RLIMIT_FSIZE, (most, most))

    code, said = place.run(limit)
    fault = None if code == 0 else refused(code, said, "too large", "cannot write", "cannot use the index")
    return fault or place.goes_on()


def read_only(place: Place, rng: random.Random) -> str | None:
    """The folder may not be written to; root may everything, so the disk itself is read-only."""
    place.folder.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=50m", "tmpfs", place.folder], check=True)
    try:
        if rng.random() < 0.5:
            place.stop(rng.random())
        subprocess.run(["mount", "-o", "remount,ro", place.folder], check=True)
        code, said = place.run()
        fault = refused(code, said, "Read-only", "cannot write")
        if place.stage.finished and (place.folder / place.stage.finished).is_file():
            fault = None  # it had finished before
        subprocess.run(["mount", "-o", "remount,rw", place.folder], check=True)
        return fault or place.goes_on()
    finally:
        subprocess.run(["umount", place.folder], check=True)


def damaged_files(place: Place, rng: random.Random) -> str | None:
    """One byte or the end of one file that a stopped or finished run left is not what it was."""
    place.stop(rng.uniform(0.2, 2.0))
    if place.stage.finished and (place.folder / place.stage.finished).is_file():
        return place.goes_on()
    files = [
        path
        for path in sorted(place.folder.rglob("*"))
        if path.is_file() and path.stat().st_size and path.name != "lock" and ".tmp" not in path.name
    ]
    if not files:
        return place.goes_on()
    path = rng.choice(files)
    raw = bytearray(path.read_bytes())
    if rng.random() < 0.5:
        raw[rng.randrange(len(raw))] ^= 1 << rng.randrange(8)
    else:
        del raw[rng.randrange(len(raw)) :]
    path.write_bytes(raw)
    code, said = place.run()
    name = path.relative_to(place.folder)
    if code == 0:
        fault = place.goes_on()
        return f"{name}: {fault}" if fault else None
    fault = refused(code, said, "damaged", "another recipe", "another image model", "newer langadapt")
    return f"{name}: {fault}" if fault else None


def two_at_once(place: Place, rng: random.Random) -> str | None:
    """Another process holds the folder: refused, and untouched."""
    place.stop(0.6)
    if (place.folder / "run" / "artifact.json").is_file():
        return place.goes_on()
    lock = place.folder / "run" / "checkpoint" / "lock"
    lock.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(lock):
        code, said = place.run()
    return refused(code, said, "another process is training in it") or place.goes_on()


def clock_jumps(place: Place, rng: random.Random) -> str | None:
    """The wall clock jumps by years, back and forth, each time somebody looks."""

    def wild() -> None:
        draws = random.Random(rng.random())
        time.time = lambda: draws.uniform(0, 4e9)
        time.time_ns = lambda: int(draws.uniform(0, 4e18))

    code, said = place.run(wild)
    return place.goes_on() if code == 0 else f"ended with {code}: {said[-300:]!r}"


def dead_worker(place: Place, rng: random.Random) -> str | None:
    """One worker process of `data build` is killed; the command ends, and the next one goes on."""
    stage = Stage(
        name="data build",
        command=("data", "build", "--lang", "{world}/es.yaml", "--out", "{place}/clean", "--workers", "2"),
        makes=place.stage.makes,
    )
    workers = Place(stage, place.world, place.folder, place.wanted)

    def kill_one() -> None:
        import threading

        def strike() -> None:
            own, deadline = str(os.getpid()), time.monotonic() + 60
            while time.monotonic() < deadline:
                found = subprocess.run(
                    ["pgrep", "-P", own, "-f", "spawn_main"], capture_output=True, text=True, check=False
                )
                if found.stdout.split():
                    os.kill(int(found.stdout.split()[0]), 9)
                    return
                time.sleep(0.01)

        threading.Thread(target=strike, daemon=True).start()

    code, said = workers.run(kill_one)
    return refused(code, said, "worker processes died") or place.goes_on()


def hub(kind: str, teacher: Path, folder: Path, rng: random.Random) -> str | None:
    """Fetches a model from a Hub that stutters; it must arrive whole, or be refused where it stays wrong."""
    program = (
        "import sys, warnings, langadapt.files.fetch as r; r._FIRST_WAIT_SECONDS = 0.05\n"
        "from langadapt.models.load import resolve_model\n"
        "from langadapt.recipes import ModelRef\n"
        "from langadapt.errors import LangadaptError\n"
        "warnings.simplefilter('ignore')\n"
        "try: print('got', resolve_model(ModelRef(repo='some/teacher')).path)\n"
        "except LangadaptError as error: print('refused', error)\n"
    )
    with bad_hub(teacher, kind, rng) as endpoint:
        keep = {key: value for key, value in os.environ.items() if not key.startswith("HF_")}
        own = {"HF_ENDPOINT": endpoint, "HF_HOME": str(folder), "HF_HUB_DISABLE_XET": "1"}
        done = subprocess.run(
            [sys.executable, "-c", program],
            env={**keep, **own, "LANGADAPT_CACHE": str(folder / "cache")},
            capture_output=True,
            text=True,
            timeout=200,
            check=False,
        )
    if done.returncode or "Traceback" in done.stderr:
        return f"ended with {done.returncode}: {done.stderr[-300:]!r}"
    if kind == "always wrong":
        return None if done.stdout.startswith("refused") else f"took a wrong file: {done.stdout!r}"
    if not done.stdout.startswith("got"):
        return f"gave up: {done.stdout!r}"
    path = Path(done.stdout.split(maxsplit=1)[1].strip())
    wrong = [file.name for file in teacher.iterdir() if file.read_bytes() != (path / file.name).read_bytes()]
    return f"other bytes: {wrong}" if wrong else None


def damaged_artifact(world: Path, folder: Path, rng: random.Random) -> str | None:
    """One byte or the end of one file of an artifact or a base model: never loaded."""
    from langadapt.models import load

    shutil.copytree(world, folder)
    path = rng.choice(
        [item for item in sorted((folder / "run").iterdir()) if item.suffix in (".safetensors", ".yaml")]
    )
    raw = bytearray(path.read_bytes())
    if rng.random() < 0.5:
        raw[rng.randrange(len(raw))] ^= 1 << rng.randrange(8)
    else:
        del raw[rng.randrange(len(raw)) :]
    path.write_bytes(raw)
    try:
        load(folder / "run")
    except LangadaptError:
        return None
    return f"{path.name} was loaded"


def own_mounts() -> bool:
    """Gives this process mounts of its own, which end with it; False where it may not have any."""
    libc = ctypes.CDLL(None, use_errno=True)
    if os.getuid() or libc.unshare(_NEW_MOUNTS):
        return False
    return subprocess.run(["mount", "--make-rprivate", "/"], check=False).returncode == 0


def try_all(*, times: int, seed: int, only: str | None = None) -> list[Trial]:
    """Every fault `times` times, stages in turn."""
    mounts = own_mounts()
    in_folder: dict[str, tuple[Callable[[Place, random.Random], str | None], tuple[str, ...]]] = {
        "files may not grow": (
            small_files,
            ("distill", "stores", "index", "translate", "data build", "tune"),
        ),
        "damaged byte or cut file": (damaged_files, ("distill", "stores", "index", "translate", "tune")),
        "two in one folder": (two_at_once, ("distill", "tune")),
        "clock jumps": (clock_jumps, ("distill", "index")),
        "a worker dies": (dead_worker, ("data build",)),
    }
    if mounts:
        in_folder |= {
            "full disk": (full_disk, ("distill", "index", "translate", "data build", "tune")),
            "read-only folder": (read_only, ("distill", "index", "translate", "tune")),
        }
    found = []
    with tempfile.TemporaryDirectory(prefix="faults-") as base:
        root = Path(base)
        world = root / "world"
        world.mkdir()
        if in_child(lambda: prepare(world), world / "log").code:
            raise AssertionError((world / "log").read_text(encoding="utf-8")[-2000:])
        wanted: dict[str, dict[str, str]] = {}
        for name, (fault, stages) in in_folder.items():
            if only is not None and only not in name:
                continue
            trial, began = Trial(part="faults", name=name, note=", ".join(stages)), time.perf_counter()
            for number in range(times * len(stages)):
                stage = _BY_NAME[stages[number % len(stages)]]
                if stage.name not in wanted:
                    whole = Place(stage, world, root / f"{stage.name}-whole", {})
                    whole.run()
                    wanted[stage.name] = made(stage, whole.folder)
                rng = random.Random(f"{seed} {name} {number}")
                place = Place(stage, world, root / f"{name.replace(' ', '-')}-{number}", wanted[stage.name])
                said = fault(place, rng)
                trial.count(None if said is None else f"{stage.name}, number {number}: {said}")
                shutil.rmtree(place.folder, ignore_errors=True)
            trial.seconds = time.perf_counter() - began
            found.append(told(trial))
        for kind in ("429", "500", "cut", "wrong once", "always wrong"):
            if only is not None and only not in f"Hub: {kind}":
                continue
            trial, began = Trial(part="faults", name=f"Hub: {kind}"), time.perf_counter()
            for number in range(times):
                rng = random.Random(f"{seed} {kind} {number}")
                trial.count(hub(kind, world / "teacher", root / f"hub-{kind}-{number}", rng))
            trial.seconds = time.perf_counter() - began
            found.append(told(trial))
        if only is None or only in "damaged artifact":
            trial, began = Trial(part="faults", name="damaged artifact"), time.perf_counter()
            for number in range(10 * times):
                copy = root / f"artifact-{number}"
                trial.count(damaged_artifact(world, copy, random.Random(f"{seed} artifact {number}")))
                shutil.rmtree(copy)
            trial.seconds = time.perf_counter() - began
            found.append(told(trial))
    if not mounts:
        found.append(
            Trial(part="faults", name="full disk, read-only folder", note="needs root: not tried", tried=0)
        )
    return found


def main() -> None:
    """Tries the faults and prints the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--times", type=int, default=1, help="per fault and stage")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", help="part of a fault's name")
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    trials = try_all(times=arguments.times, seed=arguments.seed, only=arguments.only)
    sys.exit(0 if show(trials, arguments.json) else 1)


if __name__ == "__main__":
    main()
