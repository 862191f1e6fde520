"""Small trained modules that are put into a frozen encoder and change nothing until they have learned.

Exports carry the text of this file, so it imports only what they carry, too.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from inspect import signature
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from langadapt.nn.adapter import TransformerLayer


class Bottleneck(nn.Module):
    """Linear to a fraction of the width, GELU, linear back, residual; starts as the identity.

    Source: Houlsby et al., 2019; width d/4 as in LilT (Khan and Fu, 2023), whose bottlenecks do not start as
        the identity.
    """

    added_by_tuning = True

    def __init__(self, *, dim: int) -> None:
        super().__init__()
        self.down = nn.Linear(dim, max(1, dim // 4))
        self.up = nn.Linear(self.down.out_features, dim)
        nn.init.normal_(self.down.weight, std=dim**-0.5)
        nn.init.zeros_(self.down.bias)
        nn.init.zeros_(self.up.weight)
        nn.init.zeros_(self.up.bias)

    def forward(self, x: Tensor) -> Tensor:
        """Map `x [..., dim]` to `[..., dim]`."""
        out: Tensor = x + self.up(F.gelu(self.down(x)))
        return out


class TopLayer(nn.Module):
    """One more Transformer layer behind a tower's last one; starts as the identity.

    Heads are as many as divide the width `dim` with 32 values or more each.
    """

    added_by_tuning = True

    def __init__(self, *, dim: int) -> None:
        super().__init__()
        heads = max(h for h in range(1, max(1, dim // 32) + 1) if dim % h == 0)
        self.inner = TransformerLayer(dim=dim, heads=heads, feedforward_dim=4 * dim, dropout=0.0)
        for linear in (self.inner.attention_out, self.inner.feedforward_out):
            nn.init.zeros_(linear.weight)
            nn.init.zeros_(linear.bias)

    def forward(self, x: Tensor, mask: Tensor | None) -> Tensor:
        """Map hidden states `x [B, T, dim]` to `[B, T, dim]`.

        `mask` is that of the layer in front, as transformers or this package passes it: bool or added to
        scores, `[B, T]`, `[B, T, T]`, or `[B, 1, T, T]` with dimensions of 1 for what is the same everywhere.
        None: every token counts.
        """
        if mask is None:
            mask = torch.ones(x.shape[:2], dtype=torch.bool, device=x.device)
        if mask.is_floating_point():
            mask = mask >= 0  # added to scores: minus infinity, or a number near it, hides a token
        if mask.dim() == 4:
            mask = mask[:, 0].expand(x.shape[0], -1, -1)
        out: Tensor = self.inner(x, mask.bool())
        return out


def append(module: nn.Module, name: str, added: nn.Module) -> None:
    """Pass a module's output through another one, which becomes its submodule of that name."""
    module.add_module(name, added)

    def through(host: nn.Module, args: tuple[Any, ...], options: dict[str, Any], output: Any) -> Any:
        last = host.get_submodule(name)
        masks = (_mask_given(host, args, options),) if isinstance(last, TopLayer) else ()
        return (last(output[0], *masks), *output[1:]) if isinstance(output, tuple) else last(output, *masks)

    module.register_forward_hook(through, with_kwargs=True)


def _mask_given(layer: nn.Module, args: tuple[Any, ...], options: dict[str, Any]) -> Tensor | None:
    """The attention mask that a layer was called with."""
    given = signature(layer.forward).bind(*args, **options).arguments
    mask: Tensor | None = given.get("mask", given.get("attention_mask"))
    return mask


@dataclass(frozen=True, kw_only=True)
class TransformerParts:
    """A Transformer layer and the last linear maps of its two halves, both in front of the residual sum."""

    layer: nn.Module
    attention_out: nn.Linear
    feedforward_out: nn.Linear


def transformer_layers(tower: nn.Module, run: Callable[[], object]) -> list[TransformerParts]:
    """The Transformer layers of a tower in the order in which they run; an empty list where there are none.

    A layer is a member of a `ModuleList` whose linear maps read exactly four different tensors: queries, keys
    and values read the first one, the attention's output the second, the feed-forward part (gated or not) the
    third, its output the fourth. So BERT, RoBERTa, ViT, CLIP, SigLIP, ModernBERT, M2M100 and this package's
    own layers are all found, and a convolutional network has none.

    The tower stays as it is; `run` is one forward pass of it on anything.
    """
    members = [item for stack in tower.modules() if isinstance(stack, nn.ModuleList) for item in stack]
    calls: dict[nn.Module, list[tuple[nn.Module, Tensor]]] = {item: [] for item in members}
    order: list[nn.Module] = []
    handles = []
    for member in members:
        handles.append(member.register_forward_pre_hook(lambda module, given: order.append(module)))
        for linear in _own_modules(member):
            if isinstance(linear, nn.Linear):
                handles.append(linear.register_forward_pre_hook(partial(_note_call, calls[member])))
    was_training = tower.training
    tower.eval()
    try:
        with torch.no_grad():
            run()
    finally:
        tower.train(was_training)
        for handle in handles:
            handle.remove()
    return [parts for member in dict.fromkeys(order) if (parts := _parts(member, calls[member]))]


def _note_call(calls: list[tuple[nn.Module, Tensor]], linear: nn.Module, given: tuple[Tensor]) -> None:
    calls.append((linear, given[0]))


def _own_modules(module: nn.Module) -> Iterator[nn.Module]:
    """All modules inside but those that tuning has added."""
    yield module
    for child in module.children():
        if not getattr(child, "added_by_tuning", False):
            yield from _own_modules(child)


def _parts(layer: nn.Module, calls: list[tuple[nn.Module, Tensor]]) -> TransformerParts | None:
    steps: list[list[Any]] = []
    before: Tensor | None = None
    for linear, given in calls:
        if given is not before:
            steps.append([])
        steps[-1].append(linear)
        before = given
    if len(steps) != 4 or len(steps[1]) != 1 or len(steps[3]) != 1:
        return None
    return TransformerParts(layer=layer, attention_out=steps[1][0], feedforward_out=steps[3][0])


def convolutional_blocks(encoder: nn.Module) -> list[list[nn.Parameter]]:
    """Weights of the blocks of an encoder without Transformer layers, in order; an empty list without any.

    Its blocks are the members of its largest stack of one class: those of a MobileNet, the stages of a ResNet
    or ConvNeXt. What follows them in the encoder belongs to the last one.
    """
    lists = [[*item] for item in encoder.modules() if isinstance(item, nn.ModuleList | nn.Sequential)]
    stacks = [item for item in lists if len(item) > 1 and len({*map(type, item)}) == 1]
    alike = [[[*member.parameters()] for member in item] for item in stacks]
    blocks = max(alike, key=lambda stack: sum(value.numel() for own in stack for value in own), default=[])
    if blocks and blocks[-1]:
        weights = [*encoder.parameters()]
        end = next(number for number, value in enumerate(weights) if value is blocks[-1][-1])
        blocks[-1] += weights[end + 1 :]
    return blocks


def add_bottlenecks(layers: list[TransformerParts]) -> list[nn.Module]:
    """Put a bottleneck behind attention and feed-forward of each layer, in front of the residual sum.

    It becomes the linear map's own submodule `bottleneck`, so that no pretrained weight changes its name; one
    of a later stage stands behind it and is `bottleneck_2`.
    """
    added: list[nn.Module] = []
    for parts in layers:
        for linear in (parts.attention_out, parts.feedforward_out):
            bottleneck = Bottleneck(dim=linear.out_features).to(linear.weight)
            append(linear, _unused(linear, "bottleneck"), bottleneck)
            added.append(bottleneck)
    return added


def add_top_layer(last: TransformerParts) -> TopLayer:
    """Put a layer behind a tower's last one, as its submodule `top`; one of a later stage is `top_2`."""
    top = TopLayer(dim=last.feedforward_out.out_features).to(last.feedforward_out.weight)
    append(last.layer, _unused(last.layer, "top"), top)
    return top


def _unused(place: nn.Module, name: str) -> str:
    earlier = sum(child == name or child.startswith(f"{name}_") for child, _ in place.named_children())
    return f"{name}_{earlier + 1}" if earlier else name


CHANGED_ROWS, CHANGED_VALUES, LORA_A, LORA_B = ".changed_rows", ".changed_values", ".lora_A", ".lora_B"

_ADDED: dict[str, tuple[Any, str]] = {
    "bottleneck": (Bottleneck, ".up.bias"),
    "top": (TopLayer, ".inner.attention_out.bias"),
}
"""By the name as a submodule: the class, and a weight of it that is as long as it is wide."""


@torch.no_grad()
def put_changes(model: nn.Module, changes: dict[str, Tensor]) -> None:
    """Add what training changed to a tower's weights, and make the modules that it added.

    `changes` are differences by the weights' names, and whole weights of modules that the model lacks. Of a
    table they are `NAME.changed_rows` and `NAME.changed_values`; of a linear map `NAME.lora_A [rank, in]` and
    `NAME.lora_B [out, rank]`, whose product is the difference. A weight that the model lacks, or of another
    shape, is a KeyError, AttributeError, RuntimeError or IndexError.
    """
    _add_modules(model, changes)
    weights = dict(model.named_parameters())
    for name in sorted(changes):  # one order for all who call: sums must round alike
        stem, _, kind = name.rpartition(".")
        if f".{kind}" == CHANGED_ROWS:
            table, values = weights[stem], changes[stem + CHANGED_VALUES]
            table.index_add_(0, changes[name].to(table.device), values.to(table))
        elif f".{kind}" == LORA_A:
            weight = weights[f"{stem}.weight"]
            weight.add_(changes[stem + LORA_B].to(weight) @ changes[name].to(weight))
        elif f".{kind}" not in (CHANGED_VALUES, LORA_B):
            weights[name].add_(changes[name].to(weights[name]).view_as(weights[name]))


def _add_modules(model: nn.Module, changes: dict[str, Tensor]) -> None:
    """Make the modules that changes belong to and the model lacks, with weights of zero."""
    # A place's later one has the longer name, and must come behind the earlier one.
    for name in sorted(changes, key=lambda name: (len(name), name)):
        for kind, (added, wide) in _ADDED.items():
            path, _, own = name.removesuffix(wide).rpartition(".")
            if not name.endswith(wide) or own.split("_")[0] != kind:
                continue
            host = model.get_submodule(path)
            if not hasattr(host, own):
                with torch.random.fork_rng(devices=[]):  # what it draws is replaced
                    made = added(dim=len(changes[name])).eval().requires_grad_(False)
                append(host, own, made.to(next(host.parameters())))
                for weight in made.parameters():
                    weight.zero_()


def added_weights(model: nn.Module) -> dict[str, Tensor]:
    """The weights of modules that training added, by name."""
    heads = tuple(f"{n}." for n, part in model.named_modules() if getattr(part, "added_by_tuning", False))
    return {name: value for name, value in model.state_dict().items() if heads and name.startswith(heads)}


class ExtendedEmbedding(nn.Module):
    """Looks old ids up in the model's own table, new ones, from `first_id` on, in `rows [pieces, H]` float32.

    The table is called, not copied: what it does besides looking up (a scale, padding) goes on as it was.
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
        """Embed ids `[...]` int64 as `[..., H]`."""
        new = ids >= self.first_id
        known: Tensor = self.table(ids.masked_fill(new, 0))
        # Some families scale their embeddings inside the table (M2M100: by the root of H).
        scale = getattr(self.table, "embed_scale", 1.0)
        added = nn.functional.embedding((ids - self.first_id).clamp(min=0), self.rows) * scale
        return torch.where(new.unsqueeze(-1), added.to(known), known)
