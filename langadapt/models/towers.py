"""Base models of transformers as plain functions: read their files, states of their layers, unit rows.

Exports carry the text of this file, so it imports nothing of langadapt.
"""

import inspect
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import AutoModel
from transformers.modeling_outputs import BaseModelOutputWithPooling
from transformers.utils import logging as transformers_logging

MODEL_FILES = ["*.json", "*.safetensors", "*.txt", "*.model", "*.spm", "*.tiktoken"]
"""What of a model's repository is needed; pickled weights are not among it."""
Layers = str | int | tuple[int, ...]
"""Whose states: `last`, `all`, how many (see `spread`), or indices; 0: token embeddings, -1: last layer."""


@contextmanager
def quiet_transformers() -> Iterator[None]:
    """Hide progress bars, and the load report, which lists an unused language-model head as a fault."""
    level = transformers_logging.get_verbosity()
    bars = transformers_logging.is_progress_bar_enabled()
    transformers_logging.set_verbosity_error()
    transformers_logging.disable_progress_bar()
    try:
        yield
    finally:
        transformers_logging.set_verbosity(level)
        if bars:
            transformers_logging.enable_progress_bar()


def read_module(
    folder: Path, config: Any, *, auto: Any = AutoModel, pooler: bool = False
) -> tuple[nn.Module, list[str]]:
    """Read a model in float32 from safetensors, frozen and in eval mode; also the names of missing weights.

    A random pooler is never made: where the class can leave it out, it is left out; with `pooler` only where
    the file lacks it. `config` is what `AutoConfig` read from the folder, `auto` the class of transformers
    that knows which class the model has. Files that do not hold a known model raise OSError, ValueError,
    RuntimeError or SafetensorError.
    """
    options: dict[str, Any] = {"dtype": torch.float32, "use_safetensors": True, "config": config}
    if type(config) not in auto._model_mapping:
        raise ValueError(f"transformers has no model for '{config.model_type}'")
    kind = auto._model_mapping[type(config)]
    optional = "add_pooling_layer" in inspect.signature(kind.__init__).parameters
    if optional and not pooler:
        options["add_pooling_layer"] = False
    with quiet_transformers():
        module, info = kind.from_pretrained(folder, output_loading_info=True, **options)
    if optional and pooler and any("pooler" in name for name in info["missing_keys"]):
        return read_module(folder, config, auto=auto)
    return module.eval().requires_grad_(False), sorted(info["missing_keys"])


def layer_states(encoder: nn.Module, input_ids: Tensor, mask: Tensor, layers: Layers) -> Tensor:
    """Hidden states `[B, T, L, H]` of a text encoder for ids and `mask [B, T]`, True at tokens."""
    output = encoder(input_ids=input_ids, attention_mask=mask.long(), output_hidden_states=layers != "last")
    return torch.stack(chosen_states(output, layers), dim=2)


def chosen_states(output: Any, layers: Layers) -> list[Tensor]:
    """States of the layers that are meant, `[B, T, H]` each, out of an encoder's output."""
    # Some families put a final norm behind the last hidden state; the finished one is meant.
    earlier = () if layers == "last" else output.hidden_states[:-1]
    return chosen_layers([*earlier, output.last_hidden_state], layers)


def chosen_layers(states: list[Tensor], layers: Layers) -> list[Tensor]:
    """Those of all layers' states that are meant."""
    if layers == "last":
        return states[-1:]
    return [states[i] for i in state_indices(layers, len(states))]


def state_indices(layers: Layers, states: int) -> tuple[int, ...]:
    """Indices from 0 of the states that are meant, of so many."""
    if isinstance(layers, int):
        return spread(layers, states)
    if isinstance(layers, str):
        return (states - 1,) if layers == "last" else tuple(range(states))
    return tuple(i % states for i in layers)


def spread(count: int, states: int) -> tuple[int, ...]:
    """Indices of so many states at nearly even distances, first and last among them; all if no more exist."""
    if count >= states:
        return tuple(range(states))
    return tuple(round(i * (states - 1) / (count - 1)) for i in range(count))


def image_rows(model: nn.Module, inputs: dict[str, Tensor]) -> Tensor:
    """Embed what an image processor made: `[B, D]` float32 unit rows."""
    return unit_rows(model.get_image_features(**inputs))  # type: ignore[operator]


def unit_rows(output: Any) -> Tensor:
    """An embedding `[B, D]`, or a model's output that holds it, as float32, normalised."""
    return F.normalize(plain_embedding(output), dim=-1)


def plain_embedding(output: Any) -> Tensor:
    """An embedding `[B, D]`, or a model's output that holds it, as float32."""
    # transformers 5 returns an object whose pooler_output is the embedding; a plain tensor stays possible.
    embedding: Tensor = output if isinstance(output, Tensor) else output.pooler_output
    return embedding.float()


class DualEncoder(nn.Module):
    """Two encoders and a linear map behind each into a space of `dim` numbers, with the interface of a CLIP.

    `pooling` makes one row of a text's states: `mean`, `cls` (first token), `last` (token), or `pooler`, the
    encoder's own. Images take the encoder's own pooling, else the class token or the mean of a feature map.
    """

    def __init__(
        self,
        vision_model: nn.Module,
        text_model: nn.Module,
        *,
        widths: tuple[int, int],
        dim: int,
        pooling: str,
    ) -> None:
        super().__init__()
        self.vision_model, self.text_model, self.pooling = vision_model, text_model, pooling
        self.visual_projection = nn.Linear(widths[0], dim, bias=False)
        self.text_projection = nn.Linear(widths[1], dim, bias=False)
        self.config: Any = text_model.config

    @property
    def dtype(self) -> torch.dtype:
        """Of the weights."""
        return self.visual_projection.weight.dtype

    def get_text_features(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """Ids and mask `[B, T]` to `[B, D]`."""
        output = self.text_model(input_ids=input_ids, attention_mask=attention_mask)
        rows: Tensor = self.text_projection(pooled_texts(output, attention_mask, self.pooling))
        return rows

    def get_image_features(self, **pixels: Tensor) -> BaseModelOutputWithPooling:
        """What an image processor made to `pooler_output [B, D]`, beside the encoder's last states."""
        output = self.vision_model(**pixels)
        rows = self.visual_projection(pooled_images(output))
        return BaseModelOutputWithPooling(last_hidden_state=output.last_hidden_state, pooler_output=rows)


def pooled_texts(output: Any, mask: Tensor, pooling: str) -> Tensor:
    """One row `[B, H]` of a text encoder's output; `mask [B, T]`, padding on the right."""
    if pooling == "pooler":
        rows: Tensor = output.pooler_output
        return rows
    states: Tensor = output.last_hidden_state
    if pooling == "mean":
        kept = mask[..., None].to(states.dtype)
        return (states * kept).sum(dim=1) / kept.sum(dim=1)
    index = mask.sum(dim=1) - 1 if pooling == "last" else torch.zeros_like(mask[:, 0])
    return states.take_along_dim(index.long()[:, None, None], dim=1)[:, 0]


def pooled_images(output: Any) -> Tensor:
    """One row `[B, H]` of a vision encoder's output."""
    pooled: Tensor | None = getattr(output, "pooler_output", None)
    if pooled is None:
        states: Tensor = output.last_hidden_state
        return states[:, 0] if states.dim() == 3 else states.mean(dim=(2, 3))
    return pooled.flatten(1)
