"""Asks `langadapt serve` without pause from many clients: no wrong answer, no error, memory that stays flat.

python benchmarks/reliability/load.py --seconds 600 --clients 16

Beside honest clients there are bad ones: too large bodies, too many texts, broken JSON, clients that hang up.
A second server with a queue of two must turn clients away (503 with Retry-After) and serve those that come
back. At the end SIGTERM arrives amid requests: what was begun is answered.
"""

import argparse
import http.client
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path

from killed import in_child
from stages import prepare
from tiny_language import sentences
from trials import Trial, show

_TEXTS = [text for _, text in sentences()]
_MOST_GROWTH_BYTES = 30_000_000


@dataclass
class Tally:
    """What clients saw; shared by threads."""

    answers: dict[str, int] = field(default_factory=dict)
    faults: list[str] = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def note(self, kind: str, fault: str | None) -> None:
        """Counts one request."""
        with self.lock:
            self.answers[kind] = self.answers.get(kind, 0) + 1
            if fault:
                self.faults.append(f"{kind}: {fault}")


class Server:
    """`langadapt serve` in a process of its own."""

    def __init__(self, world: Path, *options: str) -> None:
        environment = {**os.environ, "LANGADAPT_CACHE": str(world / "serve-cache"), "OMP_NUM_THREADS": "1"}
        environment["LANGADAPT_PRECISION"] = "float32"  # in bfloat16 a text's rounding depends on its batch
        root = str(Path(__file__).parents[2])
        environment["PYTHONPATH"] = os.pathsep.join([root, environment.get("PYTHONPATH", "")])
        words = [
            "serve",
            str(world / "pictures"),
            "--model",
            str(world / "run"),
            "--port",
            "0",
            "--device",
            "cpu",
        ]
        self.process = subprocess.Popen(
            [sys.executable, "-c", "from langadapt.cli import main; main()", *words, *options],
            stderr=subprocess.PIPE,
            text=True,
            env={**environment, "COLUMNS": "300"},
        )
        self.said = ""
        assert self.process.stderr is not None
        for line in self.process.stderr:
            self.said += line
            if " at http://" in line:
                self.port = int(line.partition("http://")[2].partition("/")[0].rpartition(":")[2])
                break
        else:
            raise AssertionError(f"the server does not start: {self.said}")
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            try:
                self.ask("GET", "/health")
                return
            except OSError:
                time.sleep(0.05)
        raise AssertionError("the server does not answer")

    def ask(self, method: str, path: str, body: bytes | None = None) -> tuple[int, dict[str, str], bytes]:
        """Status, headers and body of an answer."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        try:
            connection.request(method, path, body, {"Content-Type": "application/json"} if body else {})
            answer = connection.getresponse()
            return answer.status, dict(answer.getheaders()), answer.read()
        finally:
            connection.close()

    def resident(self) -> int:
        """Memory, from /metrics."""
        text = self.ask("GET", "/metrics")[2].decode()
        (line,) = [item for item in text.splitlines() if item.startswith("process_resident_memory_bytes ")]
        return int(float(line.split()[1]))

    def stop(self) -> int:
        """Sends SIGTERM and returns the exit code."""
        self.process.send_signal(signal.SIGTERM)
        _, rest = self.process.communicate(timeout=60)
        self.said += rest
        return self.process.returncode


def _ask_texts(server: Server, tally: Tally, rng: random.Random, wanted: dict[str, list[float]]) -> None:
    texts = rng.choices(_TEXTS, k=rng.choice([1, 1, 2, 8]))
    if rng.random() < 0.5:
        status, _, body = server.ask("POST", "/encode", json.dumps({"texts": texts}).encode())
        fault = None if status in (200, 503) else f"{status} {body[:100]!r}"
        if status == 200:
            for text, row in zip(texts, json.loads(body)["embeddings"], strict=True):
                if max(abs(a - b) for a, b in zip(row, wanted[text], strict=True)) > 1e-4:
                    fault = f"another embedding of '{text}'"
        tally.note("encode" if status == 200 else "turned away", fault)
    else:
        status, _, body = server.ask("POST", "/search", json.dumps({"texts": texts, "count": 3}).encode())
        fault = None if status in (200, 503) else f"{status} {body[:100]!r}"
        if status == 200:
            results = json.loads(body)["results"]
            if len(results) != len(texts) or any(len(hits) != 3 for hits in results):
                fault = "another number of results"
        tally.note("search" if status == 200 else "turned away", fault)


def _ask_badly(server: Server, tally: Tally, rng: random.Random) -> None:
    kind, body, expected = rng.choice(
        [
            ("too large", b'{"texts": ["' + b"x" * 1_100_000 + b'"]}', 413),
            ("too many", json.dumps({"texts": ["gato"] * 65}).encode(), 413),
            ("too long", json.dumps({"texts": ["g" * 1001]}).encode(), 413),
            ("empty text", b'{"texts": ["  "]}', 400),
            ("no texts", b'{"texts": []}', 422),
            ("broken", b'{"texts": [', 422),
            ("deep", b"[" * 20_000, 400),
            ("other type", b'{"texts": [1]}', 422),
            ("unknown key", b'{"texts": ["gato"], "code": 1}', 422),
        ]
    )
    if rng.random() < 0.2:
        connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=60)
        connection.putrequest("POST", "/encode")
        connection.putheader("Content-Length", "500")
        connection.endheaders()
        connection.send(b'{"te')
        connection.close()
        tally.note("hung up", None)
        return
    try:
        status, _, answer = server.ask("POST", "/encode", body)
    except (BrokenPipeError, ConnectionResetError):
        # The server may close before it has read all of a body that is too large.
        tally.note(kind, None if kind == "too large" else "the connection was cut")
        return
    line = json.loads(answer).get("error", "")
    fault = None if status == expected and line and "Traceback" not in line else f"{status} {answer[:100]!r}"
    tally.note(kind, fault)


def load(*, seconds: float, clients: int, seed: int) -> list[Trial]:
    """Loads a server and returns what was tried."""
    steady = Trial(part="load", name=f"{clients} clients for {seconds:.0f} s")
    crowded = Trial(part="load", name="a queue of two")
    graceful = Trial(part="load", name="SIGTERM amid requests")
    with tempfile.TemporaryDirectory(prefix="load-") as folder:
        world = Path(folder)
        if in_child(lambda: prepare(world), world / "log").code:
            raise AssertionError((world / "log").read_text(encoding="utf-8")[-2000:])
        _steady(world, steady, seconds=seconds, clients=clients, seed=seed)
        _crowded(world, crowded)
        _graceful(world, graceful)
    return [steady, crowded, graceful]


def _steady(world: Path, trial: Trial, *, seconds: float, clients: int, seed: int) -> None:
    began = time.perf_counter()
    server, tally = Server(world, "--queue", str(2 * clients)), Tally()
    status, _, body = server.ask("POST", "/encode", json.dumps({"texts": _TEXTS[:60]}).encode())
    assert status == 200, body
    rows: list[list[float]] = []
    for start in range(0, len(_TEXTS), 60):
        part = json.dumps({"texts": _TEXTS[start : start + 60]}).encode()
        rows += json.loads(server.ask("POST", "/encode", part)[2])["embeddings"]
    wanted = dict(zip(_TEXTS, rows, strict=True))
    end = time.monotonic() + seconds

    def client(number: int) -> None:
        rng = random.Random(f"{seed} {number}")
        while time.monotonic() < end:
            try:
                if rng.random() < 0.1:
                    _ask_badly(server, tally, rng)
                else:
                    _ask_texts(server, tally, rng, wanted)
            except (OSError, http.client.HTTPException, ValueError) as error:
                tally.note("request", f"{type(error).__name__}: {error}")

    threads = [threading.Thread(target=client, args=(number,)) for number in range(clients)]
    for thread in threads:
        thread.start()
    memory: list[int] = []
    while time.monotonic() < end:
        time.sleep(max(0.0, min(seconds / 40, end - time.monotonic())))
        memory.append(server.resident())
    for thread in threads:
        thread.join()
    code = server.stop()
    trial.tried, trial.failures = sum(tally.answers.values()), tally.faults
    # The first quarter fills caches; afterwards nothing may grow.
    settled = memory[len(memory) // 4 :]
    growth = max(settled[len(settled) // 2 :]) - max(settled[: len(settled) // 2])
    trial.count(f"memory grew by {growth:,} bytes" if growth > _MOST_GROWTH_BYTES else None)
    trial.count(f"ended with {code}: {server.said[-200:]!r}" if code else None)
    good = tally.answers.get("encode", 0) + tally.answers.get("search", 0)
    trial.note = (
        f"{good / seconds:.0f} answers/s, {tally.answers.get('turned away', 0)} turned away, memory "
        f"{max(settled) / 1e6:.0f} MB, growth {growth / 1e6:.1f} MB"
    )
    trial.seconds = time.perf_counter() - began


def _crowded(world: Path, trial: Trial) -> None:
    """Forty clients at a queue of two: each is served, or told when to come again."""
    began = time.perf_counter()
    server = Server(world, "--queue", "2")
    body = json.dumps({"texts": _TEXTS[:64]}).encode()
    turned_away = 0
    lock = threading.Lock()

    def client() -> None:
        nonlocal turned_away
        for _ in range(200):
            status, headers, answer = server.ask("POST", "/encode", body)
            if status == 200:
                trial.count(None)
                return
            with lock:
                turned_away += 1
            if status != 503 or not {key.lower(): key for key in headers}.get("retry-after"):
                trial.count(f"{status} without Retry-After: {answer[:100]!r}")
                return
            time.sleep(0.05)
        trial.count("never served")

    threads = [threading.Thread(target=client) for _ in range(40)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    trial.count(None if turned_away else "nobody was turned away: the queue was never full")
    server.stop()
    trial.note = f"{turned_away} times turned away"
    trial.seconds = time.perf_counter() - began


def _graceful(world: Path, trial: Trial) -> None:
    began = time.perf_counter()
    server = Server(world, "--queue", "64")
    body = json.dumps({"texts": _TEXTS[:64]}).encode()
    sent = threading.Semaphore(0)

    def client() -> None:
        connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=60)
        connection.request("POST", "/encode", body, {"Content-Type": "application/json"})
        sent.release()
        status = connection.getresponse().status
        trial.count(None if status == 200 else f"a running request got {status}")

    threads = [threading.Thread(target=client) for _ in range(8)]
    for thread in threads:
        thread.start()
    for _ in threads:
        sent.acquire()
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:  # all of them have arrived
        if b"langadapt_waiting_requests 0.0\n" not in server.ask("GET", "/metrics")[2]:
            break
    time.sleep(0.2)
    code = server.stop()
    for thread in threads:
        thread.join()
    trial.count(None if code == 0 else f"ended with {code}: {server.said[-200:]!r}")
    trial.seconds = time.perf_counter() - began


def main() -> None:
    """Loads a server and prints the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=20.0)
    parser.add_argument("--clients", type=int, default=12)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    trials = load(seconds=arguments.seconds, clients=arguments.clients, seed=arguments.seed)
    sys.exit(0 if show(trials, arguments.json) else 1)


if __name__ == "__main__":
    main()
