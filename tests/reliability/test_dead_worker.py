"""A worker process that dies is one line, and one whose first process is killed does not stay."""

import multiprocessing
import os
import signal
import subprocess
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path

import pytest

from langadapt.cleaning import chunks as workers
from langadapt.cleaning.chunks import ChunkTask
from langadapt.errors import DataError

pytestmark = pytest.mark.slow

PROGRAM = """
import multiprocessing, os, time
from langadapt.cleaning import chunks as workers
def work():
    workers._start(None)
    time.sleep(600)
if __name__ == "__main__":
    child = multiprocessing.get_context("fork").Process(target=work)
    child.start()
    print(child.pid, flush=True)
    time.sleep(600)
"""


def test_workers_end_with_their_first_process() -> None:
    with subprocess.Popen([sys.executable, "-c", PROGRAM], stdout=subprocess.PIPE, text=True) as first:
        assert first.stdout is not None
        worker = int(first.stdout.readline())
        time.sleep(0.3)
        os.kill(worker, 0)  # it lives
        first.kill()
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline and Path(f"/proc/{worker}/stat").exists():
        if Path(f"/proc/{worker}/stat").read_text().rpartition(")")[2].split()[0] == "Z":
            return
        time.sleep(0.02)
    assert not Path(f"/proc/{worker}").exists()


def test_a_dead_worker_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Dying(ProcessPoolExecutor):
        """Forks, which is quick; its workers kill themselves as the system does."""

        def __init__(self, count: int, **options: object) -> None:
            super().__init__(count, mp_context=multiprocessing.get_context("fork"))

        def submit(self, work, *arguments):  # type: ignore[no-untyped-def]
            return super().submit(_die)

    monkeypatch.setattr(workers, "ProcessPoolExecutor", Dying)
    task = ChunkTask(number=0, source=0, name="x", first=1, english=["a"], target=["b"])
    with pytest.raises(DataError, match=r"one of 2 worker processes died.*fewer --workers") as error:
        list(workers.filter_chunks(iter([task]), None, tmp_path, workers=2))  # type: ignore[arg-type]
    assert isinstance(error.value.__cause__, BrokenProcessPool)


def _die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)
