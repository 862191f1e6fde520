"""Flat pictures, and an image tower that computes their colour."""

import os
from pathlib import Path

import torch
from PIL import Image

from langadapt.errors import Progress
from langadapt.search.update import ImageTower, Update, update_index

LONG_AGO_NS = 1_600_000_000_000_000_000


class Colour:
    """An image tower of three dimensions that records its inputs and can stop like a killed process."""

    def __init__(self, fingerprint: str = "colour", *, stop_after: int | None = None) -> None:
        self.asked: list[tuple[int, ...]] = []
        self.stop_after = stop_after
        self.tower = ImageTower(fingerprint=fingerprint, label="colour@1", dim=3, encode=self._encode)

    def _encode(self, images: list[Image.Image]) -> torch.Tensor:
        if self.stop_after is not None and len(self.asked) >= self.stop_after:
            raise KeyboardInterrupt
        pixels = [image.getpixel((0, 0)) for image in images]
        self.asked += pixels  # type: ignore[arg-type]
        return torch.nn.functional.normalize(torch.tensor(pixels, dtype=torch.float32), dim=1)


def paint(path: Path, colour: tuple[int, int, int], *, time_ns: int = LONG_AGO_NS) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (8, 8), colour).save(path)
    os.utime(path, ns=(time_ns, time_ns))


def update(folder: Path, index: Path, colour: Colour, **options: bool) -> Update:
    messages: list[Progress] = []
    return update_index(folder, colour.tower, index=index, report=messages.append, **options)
