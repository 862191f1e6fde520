"""What the machine offers."""

import os

import torch

from langadapt.errors import ModelError


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
