"""How the held-out pairs are found: what chooses the checkpoint."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from langadapt.data.tokens import by_length
from langadapt.errors import TrainingError
from langadapt.metrics.ranks import Positives, positive_ranks
from langadapt.metrics.retrieval import CUTOFFS
from langadapt.models.tuning import ContrastModel
from langadapt.nn.losses import duplicates, sigmoid_contrast, softmax_contrast
from langadapt.training.contrast_data import ContrastData

_IMAGES_PER_CHUNK = 64
_LOSS_PAIRS = 1024


@dataclass(frozen=True, kw_only=True)
class HeldOut:
    """Unit rows on the CPU: `text [T, D]` of all held-out captions, `image [I, D]` of the distinct images.

    `own [T]` int64 is each caption's image.
    """

    text: Tensor
    image: Tensor
    own: Tensor


@torch.inference_mode()
def held_out(model: nn.Module, data: ContrastData, *, step: int) -> HeldOut:
    """Embeds the held-out pairs; the model is left in eval mode.

    Args:
        model: the `ContrastModel`.
        data: pairs, split.
        step: for the error.

    Raises:
        TrainingError: an embedding is not finite.
    """
    assert isinstance(model, ContrastModel)
    model.eval()
    rows = data.split.held_out
    numbers, owners = np.unique(data.image_ids[rows], return_inverse=True)
    # Copies of an image are one candidate: the first file stands for all.
    first = {
        int(number): int(row) for row, number in reversed(list(zip(rows, data.image_ids[rows], strict=True)))
    }
    images = data.pairs.image_of_text[[first[int(number)] for number in numbers]]
    parts = []
    for start in range(0, len(images), _IMAGES_PER_CHUNK):
        given = data.images(images[start : start + _IMAGES_PER_CHUNK], epoch=None)
        parts.append(model.image_rows(given).cpu())
    image = F.normalize(torch.cat(parts).float(), dim=-1)
    text = torch.zeros(len(rows), image.shape[1])
    for places in by_length(data.tokens.lengths[rows], batch_tokens=8192):
        text[torch.from_numpy(places.copy())] = model.text_rows(data.tokens.batch(rows[places])).cpu()
    text = F.normalize(text, dim=-1)
    if not (torch.isfinite(text).all() and torch.isfinite(image).all()):
        raise TrainingError(
            f"embeddings are not finite after step {step}; the last checkpoint is kept: lower the "
            "stage's learning rates"
        )
    return HeldOut(text=text, image=image, own=torch.from_numpy(owners))


def held_out_recall(model: nn.Module, data: ContrastData, *, step: int) -> tuple[float, float]:
    """mR6 in percent of the held-out captions and images, and their contrastive loss."""
    found = held_out(model, data, step=step)
    ranks = positive_ranks(
        found.text, found.image, positives=Positives(text=torch.arange(len(found.text)), image=found.own)
    )
    cutoffs = torch.tensor(CUTOFFS)
    recalls = [100.0 * (side[:, None] <= cutoffs).double().mean().item() for side in (ranks.t2i, ranks.i2t)]
    return sum(recalls) / 2, _loss(model, found, data)


def caption_ranks(found: HeldOut) -> NDArray[np.int64]:
    """At which place each held-out caption finds its image, int64 `[T]`, 1 is the best."""
    positives = Positives(text=torch.arange(len(found.text)), image=found.own)
    ranks: NDArray[np.int64] = positive_ranks(found.text, found.image, positives=positives).t2i.numpy()
    return ranks


@torch.inference_mode()
def _loss(model: Any, found: HeldOut, data: ContrastData) -> float:
    rows = data.split.held_out[:_LOSS_PAIRS]  # the loss only breaks ties: a part is enough
    ids, captions = data.image_ids[rows], data.caption_ids[rows]
    ignored = duplicates(torch.from_numpy(ids), torch.from_numpy(captions))
    device = model.temperature.log_scale.device
    similarity = found.text[: len(rows)] @ found.image[found.own][: len(rows)].T
    logits = model.temperature(similarity.to(device)).cpu()
    contrast = softmax_contrast if data.stage.loss == "softmax" else sigmoid_contrast
    return float(contrast(logits, ignored))
