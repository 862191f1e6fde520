"""Finds the Transformer layers of any encoder by what flows through them, not by their names."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from langadapt.nn.bottleneck import Bottleneck, TopLayer, append


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
