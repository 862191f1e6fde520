"""Which images are the shots, and which classes are base and novel."""

import numpy as np
from numpy.typing import NDArray

from langadapt.data.classification import ClassificationSet
from langadapt.errors import DataError


def draw_shots(data: ClassificationSet, shots: int, *, seed: int) -> NDArray[np.int64]:
    """Rows of `shots` images of each class, by lot.

    The draws of one seed are nested: the shots of 4 are among those of 8.

    Raises:
        DataError: a class has fewer images.
    """
    chosen = []
    for number, item in enumerate(data.classes):
        own = np.flatnonzero(data.labels == number)
        if len(own) < shots:
            raise DataError(
                f"{data.name}: class '{item.folder}' has {len(own)} images, {shots} shots were asked for; "
                "lower --shots or add images"
            )
        order = np.random.default_rng([seed, number]).permutation(len(own))
        chosen.append(own[order[:shots]])
    return np.concatenate(chosen)


def divided(
    data: ClassificationSet, *, test_fraction: float, seed: int
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Rows to draw shots from, and rows to test on: a share of every class, by lot.

    Raises:
        DataError: a class has a single image.
    """
    train, test = [], []
    for number, item in enumerate(data.classes):
        own = np.flatnonzero(data.labels == number)
        if len(own) < 2:
            raise DataError(f"{data.name}: class '{item.folder}' has one image; two are the least to divide")
        order = own[np.random.default_rng([seed, number]).permutation(len(own))]
        count = min(len(own) - 1, max(1, round(test_fraction * len(own))))
        test.append(order[:count])
        train.append(order[count:])
    return np.concatenate(train), np.concatenate(test)


def base_and_novel(classes: int) -> tuple[list[int], list[int]]:
    """The first half of the classes and the second; of an odd number the base has one more.

    Source: Zhou et al., Conditional Prompt Learning, 2022, section 4.1.
    """
    middle = (classes + 1) // 2
    return list(range(middle)), list(range(middle, classes))
