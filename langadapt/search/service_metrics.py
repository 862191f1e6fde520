"""Counts of a running service as Prometheus reads them."""

import resource
import threading
import time
from bisect import bisect_left
from pathlib import Path

_BOUNDS_SECONDS = (0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0)


class ServiceMetrics:
    """Requests by path and status, their times, and the texts that were encoded."""

    def __init__(self) -> None:
        self.waiting = 0
        """Requests that are accepted and not answered."""
        self.refused = 0
        """Requests that the full queue turned away."""
        self.texts = 0
        self._lock = threading.Lock()
        self._answers: dict[tuple[str, int], int] = {}
        self._buckets = [0] * (len(_BOUNDS_SECONDS) + 1)
        self._seconds = 0.0
        self._started = time.time()

    def answered(self, path: str, status: int, seconds: float) -> None:
        """Counts an answer; an unknown path is counted as `other`, so that nobody makes names here."""
        with self._lock:
            self._answers[path, status] = self._answers.get((path, status), 0) + 1
            self._buckets[bisect_left(_BOUNDS_SECONDS, seconds)] += 1
            self._seconds += seconds

    def text(self) -> str:
        """The text format of Prometheus, version 0.0.4."""
        with self._lock:
            answers, buckets, seconds = dict(self._answers), list(self._buckets), self._seconds
        lines = ["# TYPE langadapt_requests_total counter"]
        lines += [
            f'langadapt_requests_total{{path="{path}",status="{status}"}} {count}'
            for (path, status), count in sorted(answers.items())
        ]
        lines.append("# TYPE langadapt_request_seconds histogram")
        total = 0
        for bound, count in zip((*_BOUNDS_SECONDS, "+Inf"), buckets, strict=True):
            total += count
            lines.append(f'langadapt_request_seconds_bucket{{le="{bound}"}} {total}')
        lines += [f"langadapt_request_seconds_sum {seconds:.6f}", f"langadapt_request_seconds_count {total}"]
        for name, kind, value in (
            ("texts_total", "counter", self.texts),
            ("refused_total", "counter", self.refused),
            ("waiting_requests", "gauge", self.waiting),
            ("resident_memory_bytes", "gauge", resident_bytes()),
            ("start_time_seconds", "gauge", round(self._started, 3)),
        ):
            lines += [f"# TYPE langadapt_{name} {kind}", f"langadapt_{name} {value}"]
        return "\n".join(lines) + "\n"


def resident_bytes() -> int:
    """Memory of this process; where the system does not say, the most it ever had."""
    try:
        return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()
    except OSError:
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
