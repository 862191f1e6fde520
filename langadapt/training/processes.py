"""Device, precision and processes that a run has."""

import torch
from accelerate import Accelerator

from langadapt.errors import TrainingError
from langadapt.models.device import uses_bf16
from langadapt.progress import Progress


def share_of_work(device: torch.device, batch_size: int) -> Accelerator:
    """Device, precision and processes of a run.

    Raises:
        TrainingError: the batch cannot be shared evenly.
    """
    if device.type == "cuda" and device.index is not None:
        torch.cuda.set_device(device)
    found = Accelerator(mixed_precision="bf16" if uses_bf16(device) else "no", cpu=device.type == "cpu")
    if batch_size % found.num_processes:
        raise TrainingError(
            f"batch_size {batch_size} cannot be shared by {found.num_processes} processes; make it a "
            "multiple of their number"
        )
    return found


def silent(progress: Progress) -> None:
    """Only the main process reports."""
