"""Precision and memory of the machine."""

import os
import platform
import resource
import subprocess
import sys

import pytest
import torch

from langadapt.errors import ModelError
from langadapt.models.load import take_device, uses_bf16

_FAULTS = """
import resource, sys, torch
from langadapt.models.load import keep_freed_memory
if sys.argv[1] == "keep":
    keep_freed_memory()
def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    held = [torch.ones(5_000_000) for _ in range(6)]
    del held
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
faults()
print(min(faults() for _ in range(5)))
"""


@pytest.mark.slow
@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="asks glibc's allocator")
def test_freed_memory_is_not_cleared_again_by_the_system() -> None:
    # What glibc begins with, and does not adapt: by itself it sometimes happens to keep such memory.
    start = "glibc.malloc.mmap_threshold=131072:glibc.malloc.trim_threshold=131072"
    environment = {**os.environ, "GLIBC_TUNABLES": start}
    found = {}
    for how in ("keep", "plain"):
        command = [sys.executable, "-c", _FAULTS, how]
        done = subprocess.run(command, capture_output=True, text=True, check=True, env=environment)
        found[how] = int(done.stdout)
    pages = 6 * 20_000_000 // resource.getpagesize()
    assert found["keep"] < 0.05 * pages < found["plain"]


def test_precision_is_what_the_variable_says(monkeypatch: pytest.MonkeyPatch) -> None:
    cpu = torch.device("cpu")
    monkeypatch.setenv("LANGADAPT_PRECISION", "bfloat16")
    assert uses_bf16(cpu)
    monkeypatch.setenv("LANGADAPT_PRECISION", "float32")
    assert not uses_bf16(cpu)
    monkeypatch.setenv("LANGADAPT_PRECISION", "fp16")
    with pytest.raises(ModelError, match="LANGADAPT_PRECISION=fp16: expected float32 or bfloat16"):
        uses_bf16(cpu)
    monkeypatch.delenv("LANGADAPT_PRECISION")
    flags = torch.cpu.get_capabilities()
    assert uses_bf16(cpu) == bool(flags.get("avx512_bf16") or flags.get("amx_bf16") or flags.get("bf16"))


def test_more_processes_than_gpus_are_one_clear_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    monkeypatch.setenv("LOCAL_RANK", "0")
    take_device(torch.device("cuda"))
    monkeypatch.setenv("LOCAL_RANK", "1")
    take_device(torch.device("cpu"))
    with pytest.raises(ModelError, match="process 2 has no GPU, 1 are here; start 1, or use --device cpu"):
        take_device(torch.device("cuda"))
