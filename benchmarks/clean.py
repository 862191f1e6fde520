"""Speed and memory of `langadapt data build` on generated rows: `python benchmarks/clean.py --rows 1000000`.

The rows are sentences of a seeded grammar over 20,000 invented English-like words and their translations, 6
to 24 words long with word frequencies as in natural text, and one row in twenty carries a fault: equal and
near duplicates, swapped sides, copies, blank sides, another script, odd spaces. Wall time on a shared machine
says little, so the CPU seconds of this process and its children stand beside it.
"""

import argparse
import json
import random
import resource
import subprocess
import sys
import tempfile
import threading
import time
from itertools import accumulate
from pathlib import Path

from langadapt.errors import Progress

_ENGLISH = ["an", "ber", "col", "der", "est", "fin", "gra", "hol", "ing", "jus", "ker", "lin", "mon", "per"]
_TARGET = ["ka", "mu", "te", "shi", "ro", "pa", "ndo", "zi", "wa", "le", "ngu", "bi", "yo", "ha", "vu", "kwe"]


def vocabulary(rng: random.Random, parts: list[str], count: int) -> list[str]:
    """Different words, the frequent ones short."""
    words: dict[str, None] = {}
    while len(words) < count:
        size = 1 + (len(words) > 10) + (len(words) > 120) + (rng.random() < 0.5)
        words["".join(rng.choices(parts, k=size))] = None
    return list(words)


def write_rows(path: Path, count: int, seed: int) -> list[tuple[str, str]]:
    """Writes the corpus as TSV; returns 2,000 sentences of the same kind that are not in it."""
    rng = random.Random(seed)
    english, target = vocabulary(rng, _ENGLISH, 20_000), vocabulary(rng, _TARGET, 20_000)
    weights = list(accumulate(1 / (rank + 2.7) for rank in range(len(english))))
    numbers = range(len(english))

    def sentence() -> tuple[str, str]:
        chosen = rng.choices(numbers, cum_weights=weights, k=rng.randrange(6, 25))
        one, other = [english[i] for i in chosen], [target[i] for i in chosen]
        place = rng.randrange(len(other) - 1)
        other[place : place + 2] = other[place + 1], other[place]
        return " ".join(one).capitalize() + ".", " ".join(other).capitalize() + "."

    def faulty(pair: tuple[str, str], earlier: tuple[str, str]) -> tuple[str, str]:
        kind = rng.randrange(8)
        words = earlier[0].split()
        words[rng.randrange(len(words))] = rng.choice(english)
        return (
            earlier,
            (earlier[0].upper(), earlier[1] + " !"),
            (" ".join(words), earlier[1]),
            (pair[1], pair[0]),
            (pair[0], pair[0]),
            (pair[0], ""),
            (pair[0], "это совсем другое письмо"),
            (f"  {pair[0]} ", pair[1].replace(" ", "\u00a0", 2)),
        )[kind]

    tests = [sentence() for _ in range(2000)]
    earlier = sentence()
    with path.open("w", encoding="utf-8") as file:
        file.write("english\ttarget\n")
        for number in range(count):
            pair = sentence()
            if number and rng.random() < 0.05:
                pair = faulty(pair, earlier)
            elif rng.random() < 0.01:
                earlier = pair
            file.write(f"{pair[0]}\t{pair[1]}\n")
    return tests


def main() -> None:
    # Here, because each worker process reads this file again and needs none of them.
    from langadapt.cleaning.build import BuildPlan, build_parallel
    from langadapt.cleaning.chunks import Source
    from langadapt.cleaning.contamination import Captions
    from langadapt.recipes import ParallelRecipe, data_recipe

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--folder", type=Path, default=None, help="where the rows are kept for a second run")
    options = parser.parse_args()
    folder = options.folder or Path(tempfile.mkdtemp())
    folder.mkdir(parents=True, exist_ok=True)
    rows, held = folder / f"bench-{options.rows}.tsv", folder / f"held-{options.rows}.json"
    if not held.exists():
        held.write_text(json.dumps(write_rows(rows, options.rows, seed=1)))
    tests = json.loads(held.read_text())
    name = f"bench-{options.rows}"
    (folder / f"{name}.yaml").write_text(
        f"name: {name}\ntitle: Generated\nlicence: CC0-1.0\nlanguage: xx\n"
        f"source: {{kind: files, paths: [{rows.name}]}}\n"
    )
    plan = BuildPlan(
        sources=[Source(found=data_recipe(ParallelRecipe, str(folder / f"{name}.yaml")))],
        language="xx",
        codes=("xx",),
        scripts=("Latn",),
        tests=[
            Captions(set_name="held", english=True, texts=[a for a, _ in tests]),
            Captions(set_name="held", english=False, texts=[b for _, b in tests]),
        ],
        workers=options.workers,
    )
    stages: dict[str, float] = {}
    started, peak = time.perf_counter(), _Peak()

    def report(progress: Progress) -> None:
        if progress.total and progress.done == progress.total:
            stages[progress.stage] = round(time.perf_counter() - started, 1)

    with peak:
        result = build_parallel(plan, folder / "out", report)
    wall = time.perf_counter() - started
    own, children = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    sys.stdout.write(
        json.dumps(
            {
                "rows": result.rows,
                "kept": result.kept,
                "workers": options.workers,
                "wall_seconds": round(wall, 1),
                "rows_per_second": round(result.rows / wall),
                "cpu_seconds": round(sum(u.ru_utime + u.ru_stime for u in (own, children)), 1),
                "cpu_seconds_parent": round(own.ru_utime + own.ru_stime, 1),
                "peak_rss_mb_parent": round(own.ru_maxrss / 1024),
                "peak_rss_mb_one_child": round(children.ru_maxrss / 1024),
                "peak_rss_mb_together": round(peak.most / 1024),
                "stage_ends": stages,
                "dropped": dict(result.dropped),
                "normalised": dict(result.normalised),
            },
            indent=2,
        )
        + "\n"
    )


class _Peak:
    """Watches the resident memory of this process and its children, added up four times a second, in KiB."""

    def __enter__(self) -> "_Peak":
        self.most, self._stop = 0, threading.Event()
        self._thread = threading.Thread(target=self._watch)
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._stop.set()
        self._thread.join()

    def _watch(self) -> None:
        import os

        own = str(os.getpid())
        while not self._stop.wait(0.25):
            listed = subprocess.run(
                ["ps", "-o", "rss=", "--pid", own, "--ppid", own], capture_output=True, text=True, check=False
            )
            self.most = max(self.most, sum(int(line) for line in listed.stdout.split()))


if __name__ == "__main__":
    main()
