"""Checks langadapt on a GPU, then times it there beside sentence-transformers' recipe: under eight minutes.

    TOKENIZERS_PARALLELISM=false python benchmarks/gpu.py --json gpu.json
    TOKENIZERS_PARALLELISM=false python benchmarks/gpu.py --rehearse

NOT MEASURED ON ANY CARD YET: it was written and rehearsed on a CPU. `--rehearse` runs all of it there with
tiny models, in under a minute.

Real sizes, random weights, random words with the lengths of captions (`speed_work.py`). First the checks:
rows of the device against a CPU's float32, a run that is resumed against one that is not, recorded steps
(CUDA graphs) against plain ones, a loss that breaks, ranks against a CPU's. Then the stages, each with its
share of the peak that a large bfloat16 product reaches here: towers, first and later epochs, states that are
not stored, encoding, images, scoring; the three largest costs of a step; the peer at its best (bfloat16,
sorted by length, teacher's embeddings computed before) with everything trained, and with the backbone frozen.
Shares count the floating-point operations of one pass without padding.
"""

import argparse
import gc
import io
import json
import os
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any
from unittest import mock

os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")  # the peer's trainer forks

import numpy as np
import torch
from PIL import Image
from safetensors.torch import load_file
from torch.nn import functional as F

sys.path.insert(0, str(Path(__file__).parent))
import speed_work
from speed_work import Marks, flops, recipe_of, run_recipe, sentences, write_models

from langadapt.errors import Progress, TrainingError
from langadapt.files.store import fingerprint
from langadapt.metrics.ranks import Positives, positive_ranks
from langadapt.models import Student, Teacher, load_teacher, load_text_model, resolve_model
from langadapt.models.caches import image_embeddings
from langadapt.models.load import best_device, device_name, uses_bf16
from langadapt.recipes import AdapterSpec, ModelRef, TextModelRef, override
from langadapt.training import RunOptions, distill
from langadapt.training.replay import CudaGraphs

TOLERANCE = 0.01
"""Between weights of recorded and plain steps: kernels may add up in another order."""
TINY_TEACHER, TINY = (32, 64, 2, 2, 16004), (32, 64, 2, 2, 16004)


def silent(progress: Progress) -> None:
    """Report to nobody."""


class Bench:
    """What is measured, on which device, at which size."""

    def __init__(self, given: argparse.Namespace, work: Path) -> None:
        self.rehearse, self.work, self.student = given.rehearse, work, given.student
        self.device = torch.device("cpu") if given.rehearse else best_device()
        self.pairs = 300 if given.rehearse else given.pairs
        self.results: dict[str, Any] = {}
        self.peak = 0.0
        """FLOP/s of a large product."""

    def say(self, name: str, /, **facts: Any) -> None:
        """Keep and show what was found."""
        self.results[name] = facts
        shown = ", ".join(f"{k} {v:,.4g}" if isinstance(v, float) else f"{k} {v}" for k, v in facts.items())
        sys.stdout.write(f"{name}: {shown}\n")
        sys.stdout.flush()

    def seconds(self, work: Callable[[], object]) -> float:
        """Wall time of a call, and of what it left to the device."""
        self.wait()
        started = time.perf_counter()
        work()
        self.wait()
        return time.perf_counter() - started

    def wait(self) -> None:
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)

    def rate(self, name: str, count: int, seconds: float, gflop: float | None = None) -> None:
        """Keep a rate, and the share of the peak that its floating-point operations are."""
        facts: dict[str, Any] = {"per second": count / seconds, "seconds": seconds}
        if gflop is not None:
            facts["percent of peak"] = 100 * gflop * 1e9 * count / seconds / self.peak
        self.say(name, **facts)

    def distilled(
        self,
        name: str,
        settings: tuple[str, ...] = (),
        *,
        pairs: int = 0,
        report: Any = silent,
        **options: Any,
    ) -> Path:
        """Run `distill` in a folder of that name; the same name again resumes it."""
        place = self.work / name
        place.mkdir(exist_ok=True)
        os.environ["LANGADAPT_CACHE"] = str(self.work / "cache")
        recipe = override(recipe_of(place, self.work, self.student, pairs or self.pairs), settings)
        distill(recipe, place / "run", report=report, options=RunOptions(device=self.device, **options))
        return place / "run"


def measure_peak(bench: Bench) -> None:
    """FLOP/s of a bfloat16 product, the best of ten."""
    size = 256 if bench.rehearse else 8192
    kind = torch.bfloat16 if uses_bf16(bench.device) else torch.float32
    a, b = (torch.randn(size, size, device=bench.device, dtype=kind) for _ in range(2))
    best = min(bench.seconds(lambda: a @ b) for _ in range(10))
    bench.peak = 2 * size**3 / best
    bench.say(
        "device",
        name=device_name(bench.device),
        torch=torch.__version__,
        peak_tflops=bench.peak / 1e12,
        dtype=str(kind),
    )


def load(bench: Bench, device: torch.device) -> tuple[Teacher, Student]:
    """Both towers of the models in the working folder."""
    teacher = load_teacher(resolve_model(ModelRef(repo=str(bench.work / "teacher"))), device=device)
    ref = TextModelRef(repo=str(bench.work / bench.student))
    encoder = load_text_model(resolve_model(ref), ref, max_tokens=77, device=device)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        spec = AdapterSpec(bottleneck_dim=256, layers=2)
        student = Student(text_model=encoder, spec=spec, target_dim=teacher.dim).eval()
    return teacher, student


def check_rows(bench: Bench) -> None:
    """Lowest cosine of the device's rows to a CPU's float32 ones."""
    texts = sentences(40 if bench.rehearse else 256, seed=3)
    rows = []
    for device, exact in ((torch.device("cpu"), True), (bench.device, False)):
        teacher, student = load(bench, device)
        rows.append((teacher.text.embed(texts, exact=exact), student.encode(texts, exact=exact)))
    cosines = [float((a * b).sum(dim=1).min()) for a, b in zip(*rows, strict=True)]
    bench.say(
        "check: lowest cosine to CPU float32", teacher=cosines[0], student=cosines[1], ok=min(cosines) > 0.999
    )


@contextmanager
def replays() -> Iterator[list[None]]:
    """Collect an entry for each step that is replayed from a CUDA graph inside."""
    real, done = CudaGraphs.record, list[None]()

    def record(graphs: CudaGraphs, step: Callable[[], None]) -> Callable[[], None]:
        replay = real(graphs, step)

        def counted() -> None:
            replay()
            done.append(None)

        return counted

    with mock.patch.object(CudaGraphs, "record", record):
        yield done


def distance(one: Path, other: Path) -> float:
    """Norm of the difference of two runs' weights, as a share of the norm of the first ones."""
    a, b = (load_file(run / "adapter.safetensors") for run in (one, other))
    differences = torch.stack([(a[name].double() - b[name].double()).norm() for name in a])
    return float(differences.norm() / torch.stack([value.double().norm() for value in a.values()]).norm())


def check_runs(bench: Bench) -> None:
    """A resumed run, plain steps, and a loss that breaks."""
    pairs, settings = (300 if bench.rehearse else 4000), ("distill.epochs=2",)
    steps = 2 * (pairs // 128)

    class Stop(Exception):
        pass

    def stop(progress: Progress) -> None:
        if progress.stage == "distil" and progress.done == steps // 2 + 1:
            raise Stop

    with replays() as replayed:
        whole = bench.distilled("whole", settings, pairs=pairs)
    with suppress(Stop):
        bench.distilled("cut", settings, pairs=pairs, report=stop)
    cut = bench.distilled("cut", settings, pairs=pairs)
    os.environ["LANGADAPT_CUDA_GRAPHS"] = "0"
    try:
        plain = bench.distilled("plain", settings, pairs=pairs)
    finally:
        del os.environ["LANGADAPT_CUDA_GRAPHS"]
    found = [(run / "adapter.safetensors").read_bytes() for run in (whole, cut, plain)]
    bench.say("check: resumed run", equal_bytes=found[0] == found[1], ok=found[0] == found[1])
    apart = distance(whole, plain)
    bench.say(
        "check: recorded and plain steps",
        equal_bytes=found[0] == found[2],
        digest=fingerprint(found[0]),
        distance=apart,
        tolerance=TOLERANCE,
        replayed=len(replayed) if bench.device.type == "cuda" else "skipped",
        ok=apart <= TOLERANCE and (len(replayed) > 0 or bench.device.type != "cuda"),
    )
    try:
        bench.distilled("broken", (*settings, "distill.learning_rate=1e30"), pairs=pairs)
        message = "no error"
    except TrainingError as error:
        message = str(error).partition(";")[0]
    bench.say("check: a loss that breaks", message=message, ok=message.startswith("the loss is"))


def check_ranks(bench: Bench) -> None:
    """Ranks on the device, with ties, against a CPU's."""
    generator = torch.Generator().manual_seed(0)
    kinds = torch.randn(200, 64, generator=generator)
    image = kinds[torch.randint(200, (1000,), generator=generator)]
    owner = torch.cat([torch.arange(1000), torch.randint(1000, (3000,), generator=generator)])
    text = image[owner] + 0.5 * torch.randn(4000, 64, generator=generator).round()
    positives = Positives(text=torch.arange(4000), image=owner)
    cpu, there = (positive_ranks(text, image, positives=positives, device=d) for d in (None, bench.device))
    equal = torch.equal(cpu.t2i, there.t2i) and torch.equal(cpu.i2t, there.i2t)
    bench.say("check: ranks", equal=equal, ok=equal)


def measure_towers(bench: Bench, label: str, sizes: tuple[tuple[int, ...], tuple[int, ...]]) -> None:
    """Texts a second through both frozen towers, tokens known, nothing written."""
    texts = sentences(400 if bench.rehearse else 60_000, seed=1)
    teacher, student = load(bench, bench.device)
    for name, tower, size in (
        ("teacher", teacher.text, sizes[0]),
        ("states", student.frozen_states, sizes[1]),
    ):
        tokens, _ = tower.store_order(tower.tokenize(texts))

        def run(first: int) -> None:
            for _ in tower.in_store_order(tokens, first=first):  # noqa: B023
                pass

        run(len(texts) * 3 // 4)  # warms up
        bench.rate(f"{label}: {name}", len(texts), bench.seconds(lambda: run(0)), flops(size, texts))


def measure_epochs(bench: Bench) -> None:
    """First epoch, from raw text on, and later ones, by batch size."""
    for batch in (16, 64) if bench.rehearse else (128, 512, 2048):
        marks = Marks(3)
        settings = (f"distill.batch_size={batch}", "distill.epochs=3")
        bench.distilled(f"batch-{batch}", settings, report=marks)
        found = marks.clock.marks
        seconds = {name: wall for name, (wall, _) in found.items()}
        if batch in (16, 128):  # the others find the teacher's rows in the cache
            bench.rate(f"first epoch, batch {batch}", bench.pairs, seconds["epoch 1"])
        later = (seconds["epoch 3"] - seconds["epoch 1"]) / 2
        bench.rate(f"later epochs, batch {batch}", bench.pairs // batch * batch, later)
    pairs, marks = min(bench.pairs, 8192), Marks(2)
    bench.distilled("not-stored", ("distill.epochs=2",), pairs=pairs, report=marks, state_cache_bytes=0)
    walls = [marks.clock.marks[f"epoch {number}"][0] for number in (1, 2)]
    bench.rate("later epochs, batch 128, states not stored", pairs // 128 * 128, walls[1] - walls[0])


@contextmanager
def profiled(bench: Bench) -> Iterator[None]:
    """The three largest costs of what runs inside."""
    from torch.profiler import ProfilerActivity, profile

    kinds = [ProfilerActivity.CPU] + ([ProfilerActivity.CUDA] if bench.device.type == "cuda" else [])
    with profile(activities=kinds) as profiler:
        yield
        bench.wait()
    key = "self_device_time_total" if bench.device.type == "cuda" else "self_cpu_time_total"
    events = sorted(profiler.key_averages(), key=lambda event: -float(getattr(event, key)))
    total = sum(float(getattr(event, key)) for event in events) or 1.0
    costs = [f"{event.key[:60]} {100 * float(getattr(event, key)) / total:.0f} %" for event in events[:3]]
    bench.say("largest costs of distilling", costs=costs)


def measure_encoding(bench: Bench) -> None:
    """`encode` beside `SentenceTransformer.encode` at its best, of the same text model."""
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.base.modules import Dense, Transformer
    from sentence_transformers.sentence_transformer.modules import Pooling

    texts = sentences(200 if bench.rehearse else 20_000, seed=4)
    _, student = load(bench, bench.device)
    width = student.text_model.state_dim
    body = Transformer(str(bench.work / bench.student), max_seq_length=77)
    modules = [body, Pooling(width, pooling_mode="mean"), Dense(width, 512, activation_function=None)]
    peer = SentenceTransformer(modules=modules, device=str(bench.device))
    half = uses_bf16(bench.device)

    def best() -> None:
        with torch.autocast(bench.device.type, torch.bfloat16, enabled=half):
            peer.encode(texts, batch_size=256)

    for name, work in (("langadapt", lambda: student.encode(texts)), ("sentence-transformers", best)):
        work()
        bench.rate(f"encode: {name}", len(texts), bench.seconds(work))


def measure_images(bench: Bench) -> None:
    """Photos a second from JPEG files in memory; the tower of the working folder, or ViT-B/32 at its size."""
    from transformers import CLIPConfig, CLIPModel

    folder = bench.work / "images"
    if not bench.rehearse:
        with torch.random.fork_rng():
            torch.manual_seed(0)
            CLIPModel(CLIPConfig(projection_dim=512)).save_pretrained(folder)
        from transformers import CLIPImageProcessorPil

        CLIPImageProcessorPil().save_pretrained(folder)
        for path in (bench.work / "teacher").glob("tokenizer*"):
            (folder / path.name).write_bytes(path.read_bytes())
    source = bench.work / "teacher" if bench.rehearse else folder
    teacher = load_teacher(resolve_model(ModelRef(repo=str(source))), device=bench.device)
    draws, count = np.random.default_rng(0), 32 if bench.rehearse else 2048
    files = []
    for _ in range(16):
        raw = io.BytesIO()
        noise = draws.integers(0, 256, (12, 16, 3), dtype=np.uint8)
        Image.fromarray(noise).resize((500, 375)).save(raw, "JPEG")
        files.append(raw.getvalue())
    images = [files[i % 16] for i in range(count)]
    list(image_embeddings(teacher, images[:64]))
    bench.rate("images", count, bench.seconds(lambda: list(image_embeddings(teacher, images))))


def measure_scoring(bench: Bench) -> None:
    """Ranks of 155,000 texts among 31,000 images, and the other way round."""
    images = 50 if bench.rehearse else 31_000
    image = F.normalize(torch.randn(images, 512), dim=1)
    owner = torch.arange(5 * images) % images
    text = F.normalize(image[owner] + 0.1 * torch.randn(5 * images, 512), dim=1)
    positives = Positives(text=torch.arange(len(text)), image=owner)
    spent = bench.seconds(lambda: positive_ranks(text, image, positives=positives, device=bench.device))
    bench.say("scoring", images=images, texts=len(text), seconds=spent)


def measure_peer(bench: Bench) -> None:
    """sentence-transformers' recipe on the same sentences, its teacher apart."""
    for side, batches in (("recipe", (256, 1024)), ("recipe-frozen", (1024,))):
        for batch in (32,) if bench.rehearse else batches:
            pairs = bench.pairs if bench.rehearse else min(bench.pairs, 16 * batch)
            # Two epochs: the second one has no first step, which makes plans and allocates.
            clock = run_recipe(
                bench.work, bench.student, pairs, batch, side, device=bench.device.type, best=True
            )
            walls = {name: wall for name, (wall, _) in clock.marks.items()}
            bench.rate(f"peer {side}, batch {batch}: teacher", pairs, walls["teacher"])
            bench.rate(f"peer {side}, batch {batch}: first epoch", pairs, walls["epoch 1"])
            bench.rate(
                f"peer {side}, batch {batch}: later epochs", pairs, walls["epoch 2"] - walls["epoch 1"]
            )


def run(given: argparse.Namespace, work: Path) -> dict[str, Any]:
    """All of it, in order; what one part needs no longer is freed before the next."""
    if given.rehearse:
        speed_work.TEACHER, speed_work.STUDENTS["tiny"], given.student = TINY_TEACHER, TINY, "tiny"
    bench = Bench(given, work)
    write_models(work, given.student)
    measure_peak(bench)
    for check in (check_rows, check_runs, check_ranks):
        check(bench)
    measure_towers(bench, given.student, (speed_work.TEACHER, speed_work.STUDENTS[given.student]))
    measure_epochs(bench)
    with profiled(bench):
        bench.distilled("profiled", ("distill.epochs=1",), pairs=min(bench.pairs, 8192))
    parts = [measure_encoding, measure_images, measure_scoring]
    for part in parts if given.no_peer else [*parts, measure_peer]:
        gc.collect()
        part(bench)
    if not given.rehearse and given.student == "xlm-roberta-base":
        speed_work.TEACHER, speed_work.STUDENTS["xlm-roberta-large"] = speed_work.LARGE
        large = Bench(argparse.Namespace(**{**vars(given), "student": "xlm-roberta-large"}), work / "large")
        large.work.mkdir()
        large.peak, large.results = bench.peak, bench.results
        write_models(large.work, large.student)
        measure_towers(large, large.student, speed_work.LARGE)
    bench.results["failed"] = [name for name, facts in bench.results.items() if facts.get("ok") is False]
    return bench.results


def main() -> None:
    """Run it, write JSON; the exit status is 1 where a check failed."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rehearse", action="store_true", help="all of it, tiny, on the CPU")
    parser.add_argument("--pairs", type=int, default=59_155)
    parser.add_argument("--student", choices=sorted(speed_work.STUDENTS), default="xlm-roberta-base")
    parser.add_argument("--no-peer", action="store_true", help="leave sentence-transformers out")
    parser.add_argument("--json", type=Path, default=Path("gpu.json"))
    given = parser.parse_args()
    if not given.rehearse and best_device().type != "cuda":
        sys.exit("gpu.py: no CUDA device here; --rehearse runs all of it on the CPU with tiny models")
    started = time.perf_counter()
    with tempfile.TemporaryDirectory(prefix="gpu-") as folder:
        found = run(given, Path(folder))
    found["seconds"] = {"all": round(time.perf_counter() - started, 1)}
    given.json.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    sys.exit(f"gpu.py: failed: {', '.join(found['failed'])}" if found["failed"] else 0)


if __name__ == "__main__":
    main()
