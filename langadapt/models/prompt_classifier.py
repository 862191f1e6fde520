"""Learned prompts at work: images and class names to scores."""

from dataclasses import dataclass, replace

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from langadapt.models.prompted import PromptTexts, TextTower, prompt_texts
from langadapt.nn.prompts import PromptLearner


@dataclass(frozen=True, kw_only=True)
class PromptClassifier:
    """A frozen text tower, class names in a template, and the learned offsets to the template.

    `classes [C]` int64 says which trained class each name is; -1 for one that was not trained.
    """

    tower: TextTower
    learner: PromptLearner
    texts: PromptTexts
    classes: Tensor
    chunk_texts: int
    rescored_classes: int

    @property
    def sees_images(self) -> bool:
        """Whether prompts depend on the image: scoring then costs `rescored_classes` text passes each."""
        return self.learner.instance is not None

    def class_rows(self) -> Tensor:
        """Unit rows `[C, D]` of all classes, without an instance context."""
        slots = self.learner(self.classes, None)
        return self._embed(torch.arange(len(self.classes)), slots)

    def image_rows(self, candidates: Tensor, patches: Tensor) -> Tensor:
        """Unit rows `[B, K, D]` of some classes for each image.

        Args:
            candidates: `[B, K]` int64, places among this classifier's classes.
            patches: `[B, P, V]`.
        """
        slots = self.learner(self.classes[candidates], patches).flatten(0, 1)
        rows = self._embed(candidates.flatten(), slots)
        return rows.view(*candidates.shape, rows.shape[-1])

    @torch.inference_mode()
    def scores(self, images: Tensor, patches: Tensor | None) -> Tensor:
        """Cosines `[N, C]` of images and classes.

        Where prompts depend on the image, its best `rescored_classes` classes are scored with its own
        instance context and the others without one.

        Args:
            images: `[N, D]` float32 unit rows.
            patches: `[N, P, V]`; needed where prompts depend on the image.
        """
        self.learner.eval()
        if not self.sees_images:
            return F.normalize(images, dim=-1) @ self.class_rows().cpu().T
        assert patches is not None
        out = F.normalize(images, dim=-1) @ self.class_rows().cpu().T
        best = out.topk(min(self.rescored_classes, len(self.classes)), dim=1).indices
        at_once = max(1, self.chunk_texts // best.shape[1])
        for start in range(0, len(images), at_once):
            part = slice(start, start + at_once)
            rows = self.image_rows(best[part], patches[part]).cpu()
            out[part] = out[part].scatter(1, best[part], torch.einsum("bd,bkd->bk", images[part], rows))
        return out

    def with_names(self, template: str, labels: list[str], classes: Tensor) -> "PromptClassifier":
        """The same learned contexts for other class names; `classes` as in the class."""
        texts = prompt_texts(self.tower, template, labels)
        texts = replace(texts, slot=_renumbered(texts, self.texts.before))
        return replace(self, texts=texts, classes=classes)

    def _embed(self, rows: Tensor, slots: Tensor) -> Tensor:
        """Unit rows of prompts: `rows [N]` places among the texts, `slots [N, S, H]` their offsets."""
        device = slots.device

        def some(part: Tensor, offsets: Tensor) -> Tensor:
            return self.tower.embed(self.texts.batch.rows(part), self.texts.offsets(part.to(device), offsets))

        chunks = torch.split(rows, self.chunk_texts), torch.split(slots, self.chunk_texts)
        parts = list(zip(*chunks, strict=True))
        if len(parts) == 1 or not torch.is_grad_enabled():
            return torch.cat([some(*part) for part in parts])
        # Only one chunk's activations at a time: the others are computed again on the way back.
        return torch.cat([checkpoint(some, *part, use_reentrant=False) for part in parts])


def _renumbered(texts: PromptTexts, before: int) -> Tensor:
    """Slots counted as where `before` slots stand before the name; what has no place there is left alone."""
    slot = texts.slot
    behind = slot >= texts.before
    moved = torch.where(behind, slot - texts.before + before, slot)
    return torch.where(~behind & (slot >= before), torch.full_like(slot, -1), moved)
