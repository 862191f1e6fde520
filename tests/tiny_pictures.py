"""Pictures of noise that are the same in every run; Pillow's own go on where another test has stopped."""

import numpy as np
from PIL import Image


def noise(size: tuple[int, int], strength: float, *, seed: int) -> Image.Image:
    """Grey noise around the middle: `size` as Pillow says it, `strength` its standard deviation."""
    grey = np.random.default_rng(seed).normal(128, strength, size[::-1])
    return Image.fromarray(grey.clip(0, 255).astype(np.uint8)).convert("RGB")
