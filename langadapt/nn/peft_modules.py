"""Small trained modules that are put into a frozen encoder and change nothing until they have learned.

Exports carry the text of this file (`export/module_source.py`), so it imports only what they carry, too.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from langadapt.nn.adapter import TransformerLayer


class Bottleneck(nn.Module):
    """Linear to a fraction of the width, GELU, linear back, residual; starts as the identity.

    Args:
        dim: width of what it stands behind.
        reduction: divides the width; at least one unit stays.

    Source: Houlsby et al., 2019; width d/4 as in LilT (Khan and Fu, 2023), whose bottlenecks do not start as
        the identity.
    """

    added_by_tuning = True

    def __init__(self, *, dim: int, reduction: int = 4) -> None:
        super().__init__()
        self.down = nn.Linear(dim, max(1, dim // reduction))
        self.up = nn.Linear(self.down.out_features, dim)
        nn.init.normal_(self.down.weight, std=dim**-0.5)
        nn.init.zeros_(self.down.bias)
        nn.init.zeros_(self.up.weight)
        nn.init.zeros_(self.up.bias)

    def forward(self, x: Tensor) -> Tensor:
        """Maps `x [..., dim]` to `[..., dim]`."""
        out: Tensor = x + self.up(F.gelu(self.down(x)))
        return out


class TopLayer(nn.Module):
    """One more Transformer layer on a tower's last states; starts as the identity.

    Args:
        dim: width of the states; heads are as many as divide it with 32 values or more each.
    """

    added_by_tuning = True

    def __init__(self, *, dim: int) -> None:
        super().__init__()
        heads = max(h for h in range(1, max(1, dim // 32) + 1) if dim % h == 0)
        self.inner = TransformerLayer(dim=dim, heads=heads, feedforward_dim=4 * dim, dropout=0.0)
        self.mask: Tensor | None = None
        """`[B, T]` bool of the batch that comes next; None where every token counts. The tower sets it."""
        for linear in (self.inner.attention_out, self.inner.feedforward_out):
            nn.init.zeros_(linear.weight)
            nn.init.zeros_(linear.bias)

    def forward(self, x: Tensor) -> Tensor:
        """Maps `x [B, T, dim]` to `[B, T, dim]`."""
        mask = self.mask
        if mask is None:
            mask = torch.ones(x.shape[:2], dtype=torch.bool, device=x.device)
        out: Tensor = self.inner(x, mask.to(x.device))
        return out


def append(place: nn.Module, name: str, added: nn.Module) -> None:
    """Makes a module what the output of another one goes through, as its submodule of a name yet unused."""
    place.add_module(name, added)

    def through(module: nn.Module, _: object, output: Any) -> Any:
        last = module.get_submodule(name)
        return (last(output[0]), *output[1:]) if isinstance(output, tuple) else last(output)

    place.register_forward_hook(through)


@dataclass(frozen=True, kw_only=True)
class TransformerParts:
    """A Transformer layer and the last linear maps of its two halves, both in front of the residual sum."""

    layer: nn.Module
    attention_out: nn.Linear
    feedforward_out: nn.Linear


def transformer_layers(tower: nn.Module, run: Callable[[], object]) -> list[TransformerParts]:
    """The Transformer layers of a tower in the order in which they run.

    A layer is a member of a `ModuleList` whose linear maps read exactly four different tensors: queries, keys
    and values read the first one, the attention's output the second, the feed-forward part (gated or not) the
    third, its output the fourth. So BERT, RoBERTa, ViT, CLIP, SigLIP, ModernBERT, M2M100 and this package's
    own layers are all found, and a convolutional network has none.

    Args:
        tower: what to look through; it stays as it is.
        run: one forward pass of the tower on anything.

    Returns:
        All layers; an empty list where there are none.
    """
    members = [item for stack in tower.modules() if isinstance(stack, nn.ModuleList) for item in stack]
    calls: dict[nn.Module, list[tuple[nn.Linear, Tensor]]] = {item: [] for item in members}
    order: list[nn.Module] = []
    handles = []
    for member in members:

        def begin(module: nn.Module, _: object) -> None:
            order.append(module)

        handles.append(member.register_forward_pre_hook(begin))
        for linear in _own_modules(member):
            if isinstance(linear, nn.Linear):

                def note(module: nn.Module, given: tuple[Tensor], *, own: nn.Module = member) -> None:
                    assert isinstance(module, nn.Linear)
                    calls[own].append((module, given[0]))

                handles.append(linear.register_forward_pre_hook(note))
    was_training = tower.training
    tower.eval()
    try:
        with torch.no_grad():
            run()
    finally:
        tower.train(was_training)
        for handle in handles:
            handle.remove()
    found = [parts for member in dict.fromkeys(order) if (parts := _parts(member, calls[member]))]
    return found


def _own_modules(module: nn.Module) -> Iterator[nn.Module]:
    """All modules inside but those that tuning has added."""
    yield module
    for child in module.children():
        if not getattr(child, "added_by_tuning", False):
            yield from _own_modules(child)


def _parts(layer: nn.Module, calls: list[tuple[nn.Linear, Tensor]]) -> TransformerParts | None:
    steps: list[list[nn.Linear]] = []
    before: Tensor | None = None
    for linear, given in calls:
        if given is not before:
            steps.append([])
        steps[-1].append(linear)
        before = given
    if len(steps) != 4 or len(steps[1]) != 1 or len(steps[3]) != 1:
        return None
    return TransformerParts(layer=layer, attention_out=steps[1][0], feedforward_out=steps[3][0])


def add_bottlenecks(layers: list[TransformerParts]) -> list[nn.Module]:
    """Puts a bottleneck behind attention and feed-forward of each layer, in front of the residual sum.

    It becomes the linear map's own submodule `bottleneck`, so that no pretrained weight changes its name; one
    of a later stage stands behind it and is `bottleneck_2`.

    Returns:
        The bottlenecks.
    """
    added: list[nn.Module] = []
    for parts in layers:
        for linear in (parts.attention_out, parts.feedforward_out):
            bottleneck = Bottleneck(dim=linear.out_features).to(linear.weight)
            append(linear, _unused(linear, "bottleneck"), bottleneck)
            added.append(bottleneck)
    return added


def add_top_layer(last: TransformerParts) -> TopLayer:
    """Puts a layer behind a tower's last one, as its submodule `top`; one of a later stage is `top_2`."""
    top = TopLayer(dim=last.feedforward_out.out_features).to(last.feedforward_out.weight)
    append(last.layer, _unused(last.layer, "top"), top)
    return top


def _unused(place: nn.Module, name: str) -> str:
    earlier = sum(child == name or child.startswith(f"{name}_") for child, _ in place.named_children())
    return f"{name}_{earlier + 1}" if earlier else name


class ExtendedEmbedding(nn.Module):
    """Looks old ids up in the table that was there, new ones in rows of its own.

    The table is called, not copied: what it does besides looking up (a scale, padding) goes on as it was.

    Args:
        table: the model's own embeddings.
        first_id: the first new id; all new ones follow it.
        rows: `[pieces, H]` float32, the start of the new rows.
    """

    def __init__(self, *, table: nn.Embedding, first_id: int, rows: Tensor) -> None:
        super().__init__()
        self.table = table
        self.first_id = first_id
        self.rows = nn.Parameter(rows)
        self.padding_idx = table.padding_idx
        self.embedding_dim = table.embedding_dim

    @property
    def weight(self) -> Tensor:
        """The old table alone: transformers asks it for device and type."""
        return self.table.weight

    def forward(self, ids: Tensor) -> Tensor:
        """Embeds ids `[...]` int64 as `[..., H]`."""
        new = ids >= self.first_id
        known: Tensor = self.table(ids.masked_fill(new, 0))
        # Some families scale their embeddings inside the table (M2M100: by the root of H).
        scale = getattr(self.table, "embed_scale", 1.0)
        added = nn.functional.embedding((ids - self.first_id).clamp(min=0), self.rows) * scale
        return torch.where(new.unsqueeze(-1), added.to(known), known)
