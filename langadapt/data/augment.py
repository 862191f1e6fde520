"""Random views of a training image."""

import math

import torch
from PIL import Image, ImageOps

_LEAST_AREA = 0.5
_RATIO = math.log(4 / 3)


def random_view(image: Image.Image, *, flip: bool, generator: torch.Generator) -> Image.Image:
    """A random part of an image, at least half of it, sometimes mirrored.

    The part's sides differ by at most a third more than the image's own; what the model's image processor
    does (resize, crop, normalise) comes after it.

    Args:
        image: RGB.
        flip: mirror with probability one half.
        generator: decides.
    """
    draws = torch.rand(5, generator=generator).tolist()
    area = (_LEAST_AREA + (1 - _LEAST_AREA) * draws[0]) * image.width * image.height
    ratio = image.width / image.height * math.exp(_RATIO * (2 * draws[1] - 1))
    width = max(1, min(image.width, round(math.sqrt(area * ratio))))
    height = max(1, min(image.height, round(math.sqrt(area / ratio))))
    left = int(draws[2] * (image.width - width + 1))
    top = int(draws[3] * (image.height - height + 1))
    part = image.crop((left, top, left + width, top + height))
    return ImageOps.mirror(part) if flip and draws[4] < 0.5 else part
