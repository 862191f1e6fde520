"""Pairs whose images are test images: left out, or kept and told of."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from langadapt.data.cleaning.images import LeakedImage, leaked_images
from langadapt.data.pairs import Pairs
from langadapt.data.retrieval import load_retrieval
from langadapt.data.retrieval_set import RetrievalSet
from langadapt.errors import DataError, MissingDataError
from langadapt.progress import Progress, Report
from langadapt.recipes import RetrievalRecipe, data_recipe


@dataclass(frozen=True, kw_only=True, eq=False)
class CheckedPairs:
    """Pairs and what is known of test images among them: `unchecked`, `dropped` or `kept(n)`, n captions."""

    pairs: Pairs
    contamination: str


def local_test_sets(names: Sequence[str], report: Report) -> list[RetrievalSet]:
    """The retrieval test sets of some names that are on this machine with their images; others are named."""
    found = []
    for name in names:
        try:
            test = load_retrieval(data_recipe(RetrievalRecipe, name))
        except MissingDataError:
            report(Progress(stage=f"{name} is not here: training images were not compared with its images"))
        else:
            found += [] if test.images is None else [test]
    return found


def leaks(pairs: Pairs, tests: Sequence[RetrievalSet], report: Report) -> list[LeakedImage]:
    """Images of the pairs that are a test set's, by their number; numbers mean nothing across sets."""
    test = {f"{found.name}: {path.name}": path for found in tests for path in found.images or ()}
    train = {str(number): image for number, image in enumerate(pairs.images)}
    return leaked_images(train, test, report)


def without_test_images(
    pairs: Pairs, tests: Sequence[RetrievalSet], *, keep: bool, report: Report
) -> CheckedPairs:
    """Compares the images of pairs with those of test sets.

    Args:
        pairs: as they were read.
        tests: sets with images; none: nothing is compared.
        keep: keep the pairs, and say how many.
        report: told what is done and found.

    Raises:
        DataError: every image is a test image.
    """
    if not tests:
        return CheckedPairs(pairs=pairs, contamination="unchecked")
    found = [int(leak.train) for leak in leaks(pairs, tests, report)]
    rows = int(np.isin(pairs.image_of_text, found).sum())
    if not found:
        return CheckedPairs(pairs=pairs, contamination="dropped")
    done = "kept, and every score says so" if keep else "left out"
    report(Progress(stage=f"{pairs.name}: {len(found)} images are test images; {rows} captions {done}"))
    if keep:
        return CheckedPairs(pairs=pairs, contamination=f"kept({rows})")
    if len(found) == len(pairs.images):
        raise DataError(f"{pairs.name}: every image is an image of {tests[0].name}, on which it is scored")
    return CheckedPairs(pairs=pairs.without(found), contamination="dropped")
