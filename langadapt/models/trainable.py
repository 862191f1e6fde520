"""Which weights of a tower train: choose or add them, and tell afterwards what training changed.

Used by every stage. What training changed is kept as differences (`weight_changes`), and put back by
`nn.peft_modules.put_changes`, in a loaded artifact and in its exports alike.

Source: the methods of LilT (Khan and Fu, 2023), and LoRA (Hu et al., 2022) through peft.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from peft import LoraConfig, inject_adapter_in_model
from peft.tuners.lora import LoraLayer
from torch import Tensor, nn

from langadapt.errors import ModelError
from langadapt.models.families import LORA_TARGETS
from langadapt.nn.peft_modules import (
    CHANGED_ROWS,
    CHANGED_VALUES,
    LORA_A,
    LORA_B,
    ExtendedEmbedding,
    TransformerParts,
    add_bottlenecks,
    add_top_layer,
    convolutional_blocks,
    put_changes,
    transformer_layers,
)
from langadapt.recipes import LastLayers, Lora, Method

_NORMS = (nn.LayerNorm, nn.GroupNorm, nn.modules.batchnorm._BatchNorm)

PROBE_IDS = [[5, 6]]
"""Two token ids that every vocabulary has."""


@dataclass(frozen=True, kw_only=True)
class Tower:
    """A tower as the methods see it.

    `module` is where the names of weights start, `parts` are what of it belongs to the tower, `encoder` is
    the pretrained part of them, `projection` the last linear map into the shared space.
    """

    label: str
    """For errors: `org/name (image tower)`."""
    module: nn.Module
    parts: tuple[nn.Module, ...]
    encoder: nn.Module
    projection: nn.Module | None
    embeddings: nn.Embedding | ExtendedEmbedding | None
    """Token embeddings; an image tower has none."""
    embed: Callable[[Any], Tensor]
    """A text batch, or what the image processor made, to `[B, D]` float32, not normalised."""
    probe: Any
    """Anything that `embed` takes."""

    def weights(self) -> dict[int, nn.Parameter]:
        """All weights of the tower, each once, by identity."""
        return {id(value): value for part in self.parts for value in part.parameters()}

    def refuse(self, method: object, lacks: str) -> ModelError:
        """The error for a method that the tower has nothing for."""
        return ModelError(
            f"{self.label} {lacks}, so `{method}` cannot train it; full, last, layer_norm, bitfit and "
            "projection can"
        )


@dataclass(frozen=True, kw_only=True)
class TrainableTower:
    """A tower whose methods are in place: names of trained weights and what they were before."""

    tower: Tower
    methods: tuple[Method, ...]
    added: frozenset[str]
    """New weights, which are kept whole."""
    slow: frozenset[str]
    """Pretrained weights that take the lower learning rate."""
    table: str | None
    """Name of the token embeddings, where they train by themselves."""
    start: dict[str, Tensor]

    def trained(self) -> dict[str, nn.Parameter]:
        """Weights that learn, by name."""
        mine, named = self.tower.weights(), self.tower.module.named_parameters()
        return {name: value for name, value in named if value.requires_grad and id(value) in mine}

    @cached_property
    def only_projects(self) -> bool:
        """Whether nothing but the projection learns: the encoder in front of it needs no gradients."""
        projection = self.tower.projection
        behind = set() if projection is None else {id(value) for value in projection.parameters()}
        return all(id(self.tower.module.get_parameter(name)) in behind for name in self.start)

    def train(self, mode: bool = True) -> None:
        """Set train mode for a tower that learns, its encoder with it unless only the projection does.

        Statistics of batch norms stay as they are.
        """
        for part in self.tower.parts:
            part.train(mode and bool(self.start))
            for module in part.modules():
                if isinstance(module, nn.modules.batchnorm._BatchNorm):
                    module.eval()
        if self.only_projects:
            self.tower.encoder.eval()


def make_trainable(
    tower: Tower, methods: Sequence[Method], *, seed: int, new: Iterable[nn.Parameter] = ()
) -> TrainableTower:
    """Put methods into a frozen tower; its outputs do not change.

    `new` weights, which no file had, train whatever the methods are, and are kept whole; all others are
    frozen before. `seed` draws the added weights. Raise a ModelError where the tower has nothing that a
    method needs: a convolutional network has no Transformer layers.
    """
    untrained = {id(value) for value in new}
    before = tower.weights().keys() - untrained
    chosen: dict[int, nn.Parameter] = {}
    slow: set[int] = set()
    needs_layers = any(isinstance(item, LastLayers) or item in ("adapters", "layer") for item in methods)
    layers = transformer_layers(tower.module, lambda: tower.embed(tower.probe)) if needs_layers else []
    layers = [parts for parts in layers if id(next(parts.layer.parameters())) in before]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        for method in methods:
            weights = {id(value): value for value in _weights(tower, method, layers)}
            chosen |= weights
            if method in ("full", "embeddings") or isinstance(method, LastLayers):
                slow |= weights.keys() & {id(value) for value in tower.encoder.parameters()} & before
    for number, value in tower.weights().items():
        value.requires_grad_(number in chosen or number not in before)
    names = {id(value): name for name, value in tower.module.named_parameters()}
    trained = [value for value in tower.weights().values() if value.requires_grad]
    table = names[id(tower.embeddings.weight)] if "embeddings" in methods and tower.embeddings else None
    return TrainableTower(
        tower=tower,
        methods=tuple(methods),
        added=frozenset(names[id(value)] for value in trained if id(value) not in before),
        slow=frozenset(names[number] for number in slow),
        table=table,
        start={names[id(value)]: value.detach().cpu().clone() for value in trained},
    )


def weight_changes(trainable: TrainableTower) -> dict[str, Tensor]:
    """What training did, as `put_changes` takes it: new weights whole, of all others the difference.

    A difference keeps its digits in the half precision of an artifact; a norm's gain of 1.0001 would not.
    """
    changes: dict[str, Tensor] = {}
    scale = next((m.lora.alpha / m.lora.rank for m in trainable.methods if isinstance(m, Lora)), 1.0)
    for name, value in trainable.trained().items():
        now, kept = value.detach().cpu(), _plain_name(name)
        if name in trainable.added:
            changes[kept] = now * scale if kept.endswith(LORA_B) else now.clone()
            continue
        difference = now - trainable.start[name]
        if name == trainable.table:
            rows = difference.any(dim=1).nonzero()[:, 0]
            changes[kept + CHANGED_ROWS], changes[kept + CHANGED_VALUES] = rows, difference[rows]
        else:
            changes[kept] = difference
    return changes


def blend_changes(trainable: TrainableTower, share: float) -> None:
    """Take each trained weight back towards its start; a share of the change stays.

    Source: Wortsman et al., 2022 (WiSE-FT), who interpolate whole fine-tuned models.
    """
    with torch.no_grad():
        for name, value in trainable.trained().items():
            value.lerp_(trainable.start[name].to(value), 1.0 - share)


def finish_training(trainable: TrainableTower) -> dict[str, Tensor]:
    """Freeze a trained tower as a loaded artifact will have it, and return the changes, rounded likewise."""
    found = weight_changes(trainable).items()
    changes = {name: v.half().float() if v.is_floating_point() else v for name, v in found}
    restore_changes(trainable, changes)
    return changes


def restore_changes(trainable: TrainableTower, changes: dict[str, Tensor]) -> None:
    """Put fitting changes on top of the tower's starting weights and freeze it; LoRA becomes part of them."""
    trained, label = trainable.trained(), trainable.tower.label
    expected = {_plain_name(name) for name in trained if name != trainable.table}
    if trainable.table:
        table = _plain_name(trainable.table)
        expected |= {table + CHANGED_ROWS, table + CHANGED_VALUES}
    if wrong := sorted(expected ^ set(changes)):
        raise ModelError(f"the trained weights do not fit {label}: {', '.join(wrong[:3])}")
    with torch.no_grad():
        for name, value in trained.items():
            if name in trainable.added:
                value.zero_()
            else:
                value.copy_(trainable.start[name])
    merge_lora(trainable.tower.encoder)
    try:
        put_changes(trainable.tower.module, changes)
    except (RuntimeError, IndexError) as error:
        raise ModelError(f"the trained weights do not fit {label}: {str(error).splitlines()[0]}") from error
    for value in trained.values():
        value.requires_grad_(False)


def parameter_counts(weights: Iterable[nn.Parameter]) -> dict[str, int]:
    """`trained` and `total` number of values in weights."""
    sizes = [(value.numel(), value.requires_grad) for value in weights]
    return {"trained": sum(size for size, trains in sizes if trains), "total": sum(size for size, _ in sizes)}


def merge_lora(module: nn.Module) -> None:
    """Add LoRA's updates to the weights that they belong to and take its layers out."""
    for name, layer in list(module.named_modules()):
        if isinstance(layer, LoraLayer):
            layer.merge()
            above, _, own = name.rpartition(".")
            setattr(module.get_submodule(above), own, layer.get_base_layer())
    if hasattr(module, "peft_config"):  # a later stage starts anew
        del module.peft_config


def _plain_name(name: str) -> str:
    """A weight's name without what peft puts into it."""
    for kind in (LORA_A, LORA_B):
        name = name.replace(f"{kind}.default.weight", kind)
    return name.replace(".base_layer.", ".")


def _weights(tower: Tower, method: Method, layers: list[TransformerParts]) -> Iterator[nn.Parameter]:
    """The weights that one method trains; makes those that it adds."""
    pretrained = {id(value) for value in tower.encoder.parameters()}
    match method:
        case "locked":
            return
        case "full":
            yield from tower.weights().values()
        case "layer_norm" | "bitfit":
            yield from _norms_or_biases(tower, method)
        case "adapters" | "layer":
            own = [parts for parts in layers if id(next(parts.layer.parameters())) in tower.weights()]
            if not own:
                raise tower.refuse(method, "has no Transformer layers")
            for module in add_bottlenecks(own) if method == "adapters" else [add_top_layer(own[-1])]:
                yield from module.parameters()
        case LastLayers():
            found = ([*parts.layer.parameters()] for parts in layers)
            stack = [own for own in found if id(own[0]) in pretrained] or convolutional_blocks(tower.encoder)
            if len(stack) < method.last:
                raise tower.refuse(f"last: {method.last}", f"has {len(stack)} layers")
            for weights in stack[-method.last :]:
                yield from weights
        case Lora():
            yield from _lora(tower, method)
        case "projection":
            if tower.projection is None:
                raise tower.refuse(method, "ends without a linear map")
            yield from tower.projection.parameters()
        case "head":
            rest = [value for number, value in tower.weights().items() if number not in pretrained]
            if not rest:
                raise tower.refuse(method, "has nothing behind its encoder")
            yield from rest
        case "embeddings":
            if tower.embeddings is None:
                raise tower.refuse(method, "has no token embeddings")
            yield from tower.embeddings.parameters()
        case _:
            raise ModelError(f"{tower.label}: no way of training is called `{method}`")


def _norms_or_biases(tower: Tower, method: str) -> list[nn.Parameter]:
    found: dict[int, nn.Parameter] = {}
    for module in (module for part in tower.parts for module in part.modules()):
        is_norm = isinstance(module, _NORMS) or type(module).__name__.endswith("Norm")
        for name, value in module.named_parameters(recurse=False):
            if is_norm if method == "layer_norm" else name.endswith("bias"):
                found[id(value)] = value
    if not found:
        kind = "normalisation layers" if method == "layer_norm" else "biases"
        raise tower.refuse(method, f"has no {kind}")
    return list(found.values())


def _lora(tower: Tower, method: Lora) -> list[nn.Parameter]:
    linear = (name for name, item in tower.encoder.named_modules() if isinstance(item, nn.Linear))
    targets = [name for name in linear if name.rsplit(".", 1)[-1] in LORA_TARGETS]
    if not targets:
        raise tower.refuse("lora", "has no query and value projections")
    size = method.lora
    config = LoraConfig(r=size.rank, lora_alpha=size.alpha, target_modules=sorted(targets), lora_dropout=0.0)
    inject_adapter_in_model(config, tower.encoder)
    return [value for name, value in tower.encoder.named_parameters() if ".lora_" in name]


def embedding_table(encoder: nn.Module) -> nn.Embedding | ExtendedEmbedding | None:
    """The token embeddings of a text encoder."""
    table = encoder.get_input_embeddings()  # type: ignore[operator]
    return table if isinstance(table, nn.Embedding | ExtendedEmbedding) else None
