"""Both towers and the temperature as one module that trains."""

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from langadapt.data.batches import ContrastBatch
from langadapt.data.tokens import TextBatch
from langadapt.models.student import Student
from langadapt.models.trainable import TunedTower, tower_weights
from langadapt.nn.losses import Temperature


class Embedded(NamedTuple):
    """Unit rows `[B, D]` of captions and of their images; of parallel sentences plain ones, or None."""

    text: Tensor
    image: Tensor
    parallel: Tensor | None


class ContrastModel(nn.Module):
    """What contrastive training runs and saves.

    An unlocked tower runs in chunks whose activations are thrown away and computed again when their gradients
    are due (gradient caching): the loss sees the whole batch, the memory one chunk.

    Args:
        text: the text tower with its methods.
        image: the image tower with its methods.
        temperature: learned beside them.
        chunk_size: rows per chunk.
        image_head: what stored rows of a locked image encoder still go through; None: they are finished.

    Source: Gao et al., 2021 (GradCache), through PyTorch's checkpoints, which also repeat the dropout.
    """

    def __init__(
        self,
        *,
        text: TunedTower,
        image: TunedTower,
        temperature: Temperature,
        chunk_size: int,
        image_head: nn.Module | None = None,
    ) -> None:
        super().__init__()
        self.text_module = text.tower.module
        self.image_module = image.tower.module
        self.temperature = temperature
        self.text, self.image = text, image
        self.chunk_size = chunk_size
        self.image_head = image_head

    def train(self, mode: bool = True) -> "ContrastModel":
        """Train mode for the towers that learn."""
        super().train(False)
        self.training = mode
        self.text.train(mode)
        self.image.train(mode)
        return self

    def forward(self, batch: ContrastBatch) -> Embedded:
        """Embeds a batch; an image with several captions runs once."""
        text = self.text_rows(batch.text)
        images = self.image_rows(batch.images)[batch.image_index.to(text.device)]
        parallel = None if batch.parallel is None else self._run_text(batch.parallel.text)
        return Embedded(F.normalize(text, dim=-1), F.normalize(images.float(), dim=-1), parallel)

    def parameter_counts(self) -> dict[str, int]:
        """`trained` and `total` number of weights of both towers and the temperature."""
        both = {id(value): value for side in (self.text, self.image) for value in tower_weights(side.tower)}
        trained = [value for value in both.values() if value.requires_grad]
        own = sum(value.numel() for value in self.temperature.parameters())
        return {
            "trained": sum(value.numel() for value in trained) + own,
            "total": sum(value.numel() for value in both.values()) + own,
        }

    def text_rows(self, batch: TextBatch) -> Tensor:
        """Captions to `[B, D]` float32, not normalised."""
        ids, mask = batch.input_ids, batch.mask

        def run(start: int) -> Tensor:
            part = slice(start, start + self.chunk_size)
            longest = int(mask[part].sum(dim=1).max())
            if bool(mask[part, longest:].any()):  # padded on the left
                longest = mask.shape[1]
            return self._run_text(TextBatch(input_ids=ids[part, :longest], mask=mask[part, :longest]))

        return self._in_chunks(run, rows=len(ids), learns=bool(self.text.start))

    def image_rows(self, pixels: dict[str, Tensor]) -> Tensor:
        """Stored rows, or what the image processor made, to `[M, D]` float32, not normalised."""
        device = next(self.parameters()).device
        if "rows" in pixels:
            rows = pixels["rows"].to(device)
            return rows if self.image_head is None else self.image_head(rows).float()

        def run(start: int) -> Tensor:
            part = {key: value[start : start + self.chunk_size].to(device) for key, value in pixels.items()}
            return _plain(self.image_module.get_image_features(**part))  # type: ignore[operator]

        count = len(next(iter(pixels.values())))
        return self._in_chunks(run, rows=count, learns=bool(self.image.start))

    def _in_chunks(self, run: Callable[[int], Tensor], *, rows: int, learns: bool) -> Tensor:
        starts = range(0, rows, self.chunk_size)
        if not learns:
            with torch.no_grad():
                return torch.cat([run(start) for start in starts])
        if len(starts) == 1 or not torch.is_grad_enabled():
            return torch.cat([run(start) for start in starts])
        return torch.cat([checkpoint(run, start, use_reentrant=False) for start in starts])

    def _run_text(self, batch: TextBatch) -> Tensor:
        if isinstance(self.text_module, Student):
            rows: Tensor = self.text_module(batch)
            return rows.float()
        given = batch.to(next(self.parameters()).device)
        return _plain(
            self.text_module.get_text_features(  # type: ignore[operator]
                input_ids=given.input_ids, attention_mask=given.mask.long()
            )
        )


def _plain(output: Any) -> Tensor:
    embedding: Tensor = output if isinstance(output, Tensor) else output.pooler_output
    return embedding.float()
