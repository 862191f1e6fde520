"""A batch of contrastive training."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from langadapt.data.distill_batch import DistillBatch
from langadapt.data.tokens import TextBatch


@dataclass(frozen=True, kw_only=True)
class ContrastBatch:
    """Captions and their images: this process's share of a batch.

    `images` are `[M, D]` float32 unit rows of a locked tower under the key `rows`, or what the image
    processor made of M distinct images; `image_index [B]` int64 leads from each caption to its image.
    `image_ids` and `caption_ids`, `[processes * B]` int64, name images and caption texts of the whole batch,
    one process after the other; `pairs`, in the same order, are its numbers among all pairs. `parallel` are
    sentences of the distillation term.
    """

    text: TextBatch
    images: dict[str, Tensor]
    image_index: Tensor
    image_ids: Tensor
    caption_ids: Tensor
    pairs: NDArray[np.int64]
    parallel: DistillBatch | None = None
