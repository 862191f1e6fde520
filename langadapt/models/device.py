"""What the machine offers."""

import ctypes
import functools
import os
import platform

import torch

from langadapt.errors import ModelError

# Of mallopt(3).
_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3


@functools.cache
def keep_freed_memory() -> None:
    """Lets the C library keep what is freed, up to 512 MB, for what is asked for next.

    By itself it gives such memory back after each forward pass, and the system clears every page of it anew:
    a third of an adapter's step. Only glibc is told, and not where a `MALLOC_` variable says something else.
    """
    told = any(name.startswith("MALLOC_") for name in os.environ)
    if platform.libc_ver()[0] == "glibc" and not told:
        library = ctypes.CDLL(None)
        library.mallopt(_MMAP_THRESHOLD, 32 << 20)
        library.mallopt(_TRIM_THRESHOLD, 512 << 20)


def chosen_device(name: str | None) -> torch.device:
    """The device of that name, or the best one.

    Raises:
        ModelError: no such device on this machine.
    """
    if name is None:
        return best_device()
    try:
        device = torch.device(name)
        torch.zeros(1, device=device)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        raise ModelError(
            f"--device {name}: not on this machine; leave it out to take {best_device()}"
        ) from error
    return device


def best_device() -> torch.device:
    """A CUDA device if there is one, else Apple's, else the CPU."""
    if torch.cuda.is_available():
        return torch.device("cuda")
    if torch.backends.mps.is_available():
        return torch.device("mps")
    return torch.device("cpu")


def device_name(device: torch.device) -> str:
    """The device with the name that its maker gave it."""
    return f"{device} ({torch.cuda.get_device_name(device)})" if device.type == "cuda" else str(device)


def uses_bf16(device: torch.device) -> bool:
    """Whether models compute in bfloat16 there: where it runs in hardware; elsewhere float32 is faster.

    `LANGADAPT_PRECISION`, `float32` or `bfloat16`, decides instead where it is set.

    Raises:
        ModelError: the variable says something else.
    """
    chosen = os.environ.get("LANGADAPT_PRECISION")
    if chosen:
        if chosen not in ("float32", "bfloat16"):
            raise ModelError(f"LANGADAPT_PRECISION={chosen}: expected float32 or bfloat16")
        return chosen == "bfloat16"
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    if device.type == "cpu":
        flags = torch.cpu.get_capabilities()
        return bool(flags.get("avx512_bf16") or flags.get("amx_bf16") or flags.get("bf16"))
    return False
