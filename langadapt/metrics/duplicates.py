"""Positives for a score that forgives a benchmark its repeated captions and images."""

from collections import defaultdict

import torch
from torch import Tensor

from langadapt.metrics.ranks import Positives


def duplicate_positives(image_of_text: Tensor, *, text_ids: Tensor, image_ids: Tensor) -> Positives:
    """Widen the strict positives: a caption fits every image whose content was paired with its words.

    Args:
        image_of_text: `[T]` int64 in [0, I).
        text_ids: `[T]` int64, equal for equal captions.
        image_ids: `[I]` int64, equal for equal images.

    Returns:
        All pairs of a text and an image whose contents were paired anywhere in the set.
    """
    texts_of, images_of = _rows_by_id(text_ids), _rows_by_id(image_ids)
    contents = dict.fromkeys(zip(text_ids.tolist(), image_ids[image_of_text].tolist(), strict=True))
    pairs = torch.tensor([(t, i) for a, b in contents for t in texts_of[a] for i in images_of[b]])
    return Positives(text=pairs[:, 0].contiguous(), image=pairs[:, 1].contiguous())


def _rows_by_id(ids: Tensor) -> dict[int, list[int]]:
    rows = defaultdict(list)
    for row, content in enumerate(ids.tolist()):
        rows[content].append(row)
    return rows
