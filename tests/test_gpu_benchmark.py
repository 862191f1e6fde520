"""Parts of benchmarks/gpu.py on the CPU with tiny models: it runs, and its checks see what they check."""

import argparse
import math
import os
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

sys.path.append(str(Path(__file__).parents[1] / "benchmarks"))


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch) -> Any:
    for name in ("HF_HUB_OFFLINE", "TOKENIZERS_PARALLELISM"):  # the scripts set them for their process
        monkeypatch.setenv(name, os.environ.get(name, "0"))
    import gpu
    import speed_work

    monkeypatch.setattr(speed_work, "TEACHER", gpu.TINY_TEACHER)
    monkeypatch.setitem(speed_work.STUDENTS, "tiny", gpu.TINY)
    return gpu


def test_parts_of_the_gpu_benchmark(gpu: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bench = gpu.Bench(argparse.Namespace(rehearse=True, student="tiny", pairs=0), tmp_path)
    gpu.write_models(tmp_path, "tiny")
    gpu.measure_peak(bench)
    gpu.check_rows(bench)
    gpu.check_ranks(bench)
    assert [facts["ok"] for name, facts in bench.results.items() if name.startswith("check")] == [True, True]
    gpu.measure_towers(bench, "tiny", (gpu.TINY_TEACHER, gpu.TINY))
    gpu.measure_images(bench)
    gpu.measure_scoring(bench)
    assert all(bench.results[name]["per second"] > 0 for name in ("tiny: teacher", "tiny: states", "images"))
    assert bench.results["tiny: states"]["percent of peak"] > 0
    real, other = gpu.positive_ranks, argparse.Namespace(t2i=torch.zeros(4000), i2t=torch.zeros(1000))

    def wrong(*given: Any, device: torch.device | None, **more: Any) -> Any:
        return real(*given, **more) if device is None else other

    monkeypatch.setattr(gpu, "positive_ranks", wrong)
    gpu.check_ranks(bench)
    assert not bench.results["check: ranks"]["ok"], "other ranks are noticed"


def test_recorded_steps_are_checked_against_plain_ones(
    gpu: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a CPU nothing is replayed, which is said; a card that replays nothing fails, as do other weights."""
    bench = gpu.Bench(argparse.Namespace(rehearse=True, student="tiny", pairs=0), tmp_path)
    runs, replaying = dict[str, torch.Tensor](), set[str]()

    def distilled(name: str, *given: Any, **more: Any) -> Path:
        (tmp_path / name).mkdir(exist_ok=True)
        save_file({"a": runs.get(name, torch.ones(4))}, tmp_path / name / "adapter.safetensors")
        if name in replaying:
            gpu.CudaGraphs.record(None, lambda: None)()
        return tmp_path / name

    monkeypatch.setattr(bench, "distilled", distilled)
    monkeypatch.setattr(gpu.CudaGraphs, "record", lambda graphs, step: step)
    for device, replays, other, ok, told in (
        ("cpu", False, 1.0, True, "skipped"),
        ("cpu", False, 1.1, False, "skipped"),
        ("cuda", False, 1.0, False, 0),
        ("cuda", True, 1.0, True, 1),
        ("cuda", True, 1.1, False, 1),
        ("cuda", True, math.nan, False, 1),
    ):
        bench.device, runs["plain"] = torch.device(device), torch.ones(4) * other
        replaying = {"whole"} if replays else set()
        gpu.check_runs(bench)
        found = bench.results["check: recorded and plain steps"]
        assert (found["ok"], found["replayed"]) == (ok, told)
