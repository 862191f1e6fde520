"""Chooses or adds the weights of a tower that learn, and tells afterwards what changed.

Source: the methods of LilT (Khan and Fu, 2023), and LoRA (Hu et al., 2022) through peft.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from peft import LoraConfig, inject_adapter_in_model
from peft.tuners.lora import LoraLayer
from torch import Tensor, nn

from langadapt.errors import ModelError
from langadapt.nn import ExtendedEmbedding
from langadapt.nn.bottleneck import TopLayer
from langadapt.nn.sublayers import TransformerParts, add_bottlenecks, add_top_layer, transformer_layers
from langadapt.recipes import LastLayers, Lora, Method

QUERY_VALUE = {"query", "value", "q_proj", "v_proj", "q_lin", "v_lin", "q", "v", "Wqkv"}
_ROWS, _VALUES = ".changed_rows", ".changed_values"
_NORMS = (nn.LayerNorm, nn.GroupNorm, nn.modules.batchnorm._BatchNorm)


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
    run: Callable[[], object]
    """One forward pass on anything."""
    entrance: nn.Module
    """Called once per forward pass with what `mask` understands."""
    mask: Callable[[tuple[Any, ...], dict[str, Any]], Tensor | None]
    """The entrance's arguments to `[B, T]` bool, True at tokens; None where there is no padding."""


@dataclass(frozen=True, kw_only=True)
class TunedTower:
    """A tower whose methods are in place: names of trained weights and what they were before.

    `added` are new weights, `slow` the pretrained ones that take the lower learning rate.
    """

    tower: Tower
    methods: tuple[Method, ...]
    added: frozenset[str]
    slow: frozenset[str]
    table: str | None
    """Name of the token embeddings, where they train by themselves."""
    start: dict[str, Tensor]

    def trained(self) -> dict[str, nn.Parameter]:
        """Weights that learn, by name."""
        mine = {id(value) for value in tower_weights(self.tower)}
        named = self.tower.module.named_parameters()
        return {name: value for name, value in named if value.requires_grad and id(value) in mine}

    def train(self, mode: bool = True) -> None:
        """Train mode for a tower that learns; statistics of batch norms stay as they are."""
        for part in self.tower.parts:
            part.train(mode and bool(self.start))
            for module in part.modules():
                if isinstance(module, nn.modules.batchnorm._BatchNorm):
                    module.eval()


def tower_weights(tower: Tower) -> list[nn.Parameter]:
    """All weights of a tower, each once."""
    found = {id(value): value for part in tower.parts for value in part.parameters()}
    return list(found.values())


def apply_methods(tower: Tower, methods: Sequence[Method], *, seed: int) -> TunedTower:
    """Puts methods into a tower that is frozen; its answers stay what they were.

    Args:
        tower: all its weights frozen.
        methods: from the recipe.
        seed: of added weights.

    Raises:
        ModelError: the tower has nothing that a method needs (a convolutional network has no Transformer
            layers), or fewer layers than asked for.
    """
    before = {id(value) for value in tower_weights(tower)}
    chosen: dict[int, nn.Parameter] = {}
    slow: set[int] = set()
    needs_layers = any(isinstance(item, LastLayers) or item in ("adapters", "layer") for item in methods)
    layers = transformer_layers(tower.module, tower.run) if needs_layers else []
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        for method in methods:
            weights = list(_weights(tower, method, layers))
            chosen |= {id(value): value for value in weights}
            if method in ("full", "embeddings") or isinstance(method, LastLayers):
                pretrained = {id(value) for value in tower.encoder.parameters()}
                slow |= {id(value) for value in weights} & pretrained & before
    for value in tower_weights(tower):
        value.requires_grad_(id(value) in chosen or id(value) not in before)
    names = {id(value): name for name, value in tower.module.named_parameters()}
    trained = [value for value in tower_weights(tower) if value.requires_grad]
    table = names[id(tower.embeddings.weight)] if "embeddings" in methods and tower.embeddings else None
    return TunedTower(
        tower=tower,
        methods=tuple(methods),
        added=frozenset(names[id(value)] for value in trained if id(value) not in before),
        slow=frozenset(names[number] for number in slow),
        table=table,
        start={names[id(value)]: value.detach().cpu().clone() for value in trained},
    )


def weight_changes(tuned: TunedTower) -> dict[str, Tensor]:
    """What training did: added weights as they are, of all others the difference, of embeddings changed rows.

    A difference keeps its digits in the half precision of an artifact; a norm's gain of 1.0001 would not.
    """
    changes: dict[str, Tensor] = {}
    for name, value in tuned.trained().items():
        now = value.detach().cpu()
        if name in tuned.added:
            changes[name] = now.clone()
            continue
        difference = now - tuned.start[name]
        if name == tuned.table:
            rows = difference.any(dim=1).nonzero()[:, 0]
            changes[name + _ROWS], changes[name + _VALUES] = rows, difference[rows]
        else:
            changes[name] = difference
    return changes


def blend_changes(tuned: TunedTower, share: float) -> None:
    """Takes each trained weight back towards its start; a share of the change stays.

    Source: Wortsman et al., 2022 (WiSE-FT), who interpolate whole fine-tuned models.
    """
    with torch.no_grad():
        for name, value in tuned.trained().items():
            value.lerp_(tuned.start[name].to(value), 1.0 - share)


def restore_changes(tuned: TunedTower, changes: dict[str, Tensor]) -> None:
    """Puts changes on top of the tower's starting weights and freezes it.

    Raises:
        ModelError: names or shapes do not fit the tower.
    """
    trained = tuned.trained()
    expected = {name for name in trained if name != tuned.table}
    if tuned.table:
        expected |= {tuned.table + _ROWS, tuned.table + _VALUES}
    if expected != set(changes):
        wrong = ", ".join(sorted(expected ^ set(changes))[:3])
        raise ModelError(f"the tuned weights do not fit {tuned.tower.label}: {wrong}")
    try:
        with torch.no_grad():
            for name, value in trained.items():
                start = tuned.start[name]
                if name in tuned.added:
                    now = changes[name].reshape(start.shape)
                elif name == tuned.table:
                    now = start.index_add(0, changes[name + _ROWS], changes[name + _VALUES])
                else:
                    now = start + changes[name]
                value.copy_(now.to(value))
    except (RuntimeError, IndexError) as error:
        raise ModelError(f"the tuned weights do not fit {tuned.tower.label}: {error}") from error
    for value in trained.values():
        value.requires_grad_(False)


def merge_lora(module: nn.Module) -> None:
    """Adds LoRA's updates to the weights that they belong to and takes its layers out."""
    for name, layer in list(module.named_modules()):
        if isinstance(layer, LoraLayer):
            layer.merge()
            above, _, own = name.rpartition(".")
            setattr(module.get_submodule(above), own, layer.get_base_layer())


def _weights(tower: Tower, method: Method, layers: list[TransformerParts]) -> Iterator[nn.Parameter]:
    """The weights that one method trains; makes those that it adds."""
    inside = {id(value) for value in tower_weights(tower)}
    match method:
        case "locked":
            return
        case "full":
            yield from tower_weights(tower)
        case "layer_norm" | "bitfit":
            yield from _norms_or_biases(tower, method)
        case "adapters" | "layer":
            own = [parts for parts in layers if id(next(parts.layer.parameters())) in inside]
            if not own:
                raise _unfit(tower, method, "has no Transformer layers")
            added = add_bottlenecks(own) if method == "adapters" else [_top(tower, own[-1])]
            for module in added:
                yield from module.parameters()
        case LastLayers():
            pretrained = {id(value) for value in tower.encoder.parameters()}
            stack = [parts.layer for parts in layers if id(next(parts.layer.parameters())) in pretrained]
            if len(stack) < method.last:
                raise _unfit(tower, f"last: {method.last}", f"has {len(stack)} Transformer layers")
            for layer in stack[-method.last :]:
                yield from layer.parameters()
        case Lora():
            yield from _lora(tower, method)
        case "projection":
            if tower.projection is None:
                raise _unfit(tower, method, "ends without a linear map")
            yield from tower.projection.parameters()
        case "head":
            pretrained = {id(value) for value in tower.encoder.parameters()}
            rest = [value for value in tower_weights(tower) if id(value) not in pretrained]
            if not rest:
                raise _unfit(tower, method, "has nothing behind its encoder")
            yield from rest
        case _:
            if tower.embeddings is None:
                raise _unfit(tower, method, "has no token embeddings")
            yield from tower.embeddings.parameters()


def _norms_or_biases(tower: Tower, method: str) -> list[nn.Parameter]:
    found: dict[int, nn.Parameter] = {}
    for part in tower.parts:
        for module in part.modules():
            is_norm = isinstance(module, _NORMS) or type(module).__name__.endswith("Norm")
            for name, value in module.named_parameters(recurse=False):
                if is_norm if method == "layer_norm" else name.endswith("bias"):
                    found[id(value)] = value
    if not found:
        raise _unfit(
            tower, method, f"has no {'normalisation layers' if method == 'layer_norm' else 'biases'}"
        )
    return list(found.values())


def _top(tower: Tower, last: TransformerParts) -> TopLayer:
    top = add_top_layer(last)

    def see(_: nn.Module, args: tuple[Any, ...], options: dict[str, Any]) -> None:
        top.mask = tower.mask(args, options)

    tower.entrance.register_forward_pre_hook(see, with_kwargs=True)
    return top


def _lora(tower: Tower, method: Lora) -> list[nn.Parameter]:
    named = list(tower.encoder.named_modules())
    targets = {name for name, item in named if name.rsplit(".", 1)[-1] in QUERY_VALUE}
    targets = {name for name, item in named if name in targets and isinstance(item, nn.Linear)}
    if not targets:
        raise _unfit(tower, "lora", "has no query and value projections")
    config = LoraConfig(
        r=method.lora.rank, lora_alpha=method.lora.alpha, target_modules=sorted(targets), lora_dropout=0.0
    )
    inject_adapter_in_model(config, tower.encoder)
    return [value for name, value in tower.encoder.named_parameters() if ".lora_" in name]


def _unfit(tower: Tower, method: object, lacks: str) -> ModelError:
    return ModelError(
        f"{tower.label} {lacks}, so `{method}` cannot train it; full, layer_norm, bitfit and projection can"
    )
