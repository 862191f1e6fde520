"""Chooses or adds the weights of a tower that learn, and tells afterwards what changed.

Source: the methods of LilT (Khan and Fu, 2023), and LoRA (Hu et al., 2022) through peft.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from peft import LoraConfig, get_peft_model_state_dict, inject_adapter_in_model, set_peft_model_state_dict
from peft.tuners.lora import LoraLayer
from torch import Tensor, nn

from langadapt.errors import ModelError
from langadapt.models.text_model import TextModel
from langadapt.models.vocabulary import new_rows
from langadapt.nn import ExtendedEmbedding
from langadapt.nn.peft_modules import (
    TopLayer,
    TransformerParts,
    add_bottlenecks,
    add_top_layer,
    transformer_layers,
)
from langadapt.recipes import LastLayers, Lora, Method
from langadapt.recipes.language import Trains

QUERY_VALUE = {"query", "value", "q_proj", "v_proj", "q_lin", "v_lin", "q", "v", "Wqkv"}

_CHANGED_ROWS, _CHANGED_VALUES = ".changed_rows", ".changed_values"

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
            changes[name + _CHANGED_ROWS], changes[name + _CHANGED_VALUES] = rows, difference[rows]
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
        expected |= {tuned.table + _CHANGED_ROWS, tuned.table + _CHANGED_VALUES}
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
                    now = start.index_add(0, changes[name + _CHANGED_ROWS], changes[name + _CHANGED_VALUES])
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


_EMBEDDING_ROWS, _EMBEDDING_VALUES, _NEW = "embeddings.rows", "embeddings.values", "new_pieces"

_QUERY_VALUE = {"query", "value", "q_proj", "v_proj", "q_lin", "v_lin", "q", "v", "Wqkv"}


def choose_trained(text_model: TextModel, trains: Trains) -> None:
    """Sets which weights of a frozen text model learn; the rows of new pieces stay as they are.

    Args:
        text_model: as loaded, all frozen.
        trains: the recipe's choice; `lora` adds peft's layers in place.

    Raises:
        ModelError: the model has fewer layers than asked for, or no attention projections that LoRA knows.
    """
    encoder, new = text_model.encoder, new_rows(text_model)
    new_learn = new is not None and new.requires_grad
    if trains == "full":
        encoder.requires_grad_(True)
    elif trains == "embeddings":
        table = _token_embeddings(encoder).weight.requires_grad_(True)
        text_model.untrained_embeddings = table.detach().cpu().clone()
    elif isinstance(trains, LastLayers):
        layers = _layer_stack(text_model)
        if trains.last > len(layers):
            raise ModelError(
                f"{text_model.source.repo} has {len(layers)} layers, trains.last asks for {trains.last}"
            )
        for layer in list(layers)[-trains.last :]:
            layer.requires_grad_(True)
    elif isinstance(trains, Lora):
        targets = {name.rsplit(".", 1)[-1] for name, _ in encoder.named_modules()} & _QUERY_VALUE
        if not targets:
            raise ModelError(f"{text_model.source.repo}: LoRA finds no query and value projections in it")
        config = LoraConfig(r=trains.lora.rank, lora_alpha=trains.lora.alpha, target_modules=sorted(targets))
        inject_adapter_in_model(config, encoder)
    if new is not None:
        new.requires_grad_(new_learn)  # peft freezes all but its own


def trained_weights(text_model: TextModel, trains: Trains) -> dict[str, Tensor]:
    """The weights that training may have changed, by name; of token embeddings the rows that did change."""
    encoder = text_model.encoder
    new = new_rows(text_model)
    kept = {} if new is None else {_NEW: new.detach()}
    if isinstance(trains, Lora):
        return {**get_peft_model_state_dict(encoder), **kept}
    if trains != "embeddings":
        old = {n: p.detach() for n, p in encoder.named_parameters() if p.requires_grad and p is not new}
        return {**old, **kept}
    now = _token_embeddings(encoder).weight.detach().cpu()
    assert text_model.untrained_embeddings is not None
    rows = (now != text_model.untrained_embeddings).any(dim=1).nonzero()[:, 0]
    return {_EMBEDDING_ROWS: rows, _EMBEDDING_VALUES: now[rows].clone(), **kept}


@torch.no_grad()
def round_to_stored(text_model: TextModel, trains: Trains) -> None:
    """Rounds what training changed to half precision, as an artifact stores it; the rest stays as it is."""
    if trains == "embeddings":
        weights = trained_weights(text_model, trains)
        table = _token_embeddings(text_model.encoder).weight
        table[weights[_EMBEDDING_ROWS].to(table.device)] = weights[_EMBEDDING_VALUES].half().to(table)
    whole = None if trains != "embeddings" else _token_embeddings(text_model.encoder).weight
    for value in text_model.encoder.parameters():
        if value.requires_grad and value is not whole:
            value.copy_(value.half())


def restore_weights(text_model: TextModel, trains: Trains, weights: dict[str, Tensor]) -> None:
    """Puts trained weights back into a freshly loaded text model.

    Raises:
        ModelError: names or shapes do not fit the model.
    """
    choose_trained(text_model, trains)
    encoder, new = text_model.encoder, new_rows(text_model)
    weights = dict(weights)
    try:
        if new is not None:
            with torch.no_grad():
                new.copy_(_of_shape(weights.pop(_NEW), new))
        if isinstance(trains, Lora):
            _require_names(weights, set(get_peft_model_state_dict(encoder)))
            set_peft_model_state_dict(encoder, weights)
        elif trains == "embeddings":
            with torch.no_grad():
                table = _token_embeddings(encoder).weight
                table[weights[_EMBEDDING_ROWS]] = weights[_EMBEDDING_VALUES].to(table)
        elif trains != "frozen":
            names = {n for n, p in encoder.named_parameters() if p.requires_grad and p is not new}
            _require_names(weights, names)
            encoder.load_state_dict(weights, strict=False)
    except (KeyError, IndexError, RuntimeError) as error:
        raise ModelError(
            f"the trained weights do not fit {text_model.source.repo}: {str(error).splitlines()[0]}"
        ) from error
    encoder.requires_grad_(False)
    text_model.untrained_embeddings = None


def _require_names(weights: dict[str, Tensor], expected: set[str]) -> None:
    if expected != set(weights):
        raise KeyError(", ".join(sorted(expected ^ set(weights))[:3]))


def _of_shape(value: Tensor, like: Tensor) -> Tensor:
    if value.shape != like.shape:
        raise KeyError(f"{len(value)} rows for {len(like)} new pieces")
    return value


def _token_embeddings(encoder: nn.Module) -> nn.Embedding:
    table = encoder.get_input_embeddings()  # type: ignore[operator]
    table = table.table if isinstance(table, ExtendedEmbedding) else table
    assert isinstance(table, nn.Embedding)
    return table


def _layer_stack(text_model: TextModel) -> nn.ModuleList:
    stacks = [module for module in text_model.encoder.modules() if isinstance(module, nn.ModuleList)]
    depth = text_model.state_count - 1
    for stack in stacks:
        if len(stack) == depth:
            return stack
    raise ModelError(f"{text_model.source.repo}: cannot tell its {depth} Transformer layers apart")


PROBE_IDS = [[5, 6]]


def no_mask(args: tuple[Any, ...], options: dict[str, Any]) -> Tensor | None:
    return None


def attention_mask(args: tuple[Any, ...], options: dict[str, Any]) -> Tensor | None:
    mask = options.get("attention_mask")
    return None if mask is None else mask.bool()


def embedding_table(encoder: nn.Module) -> nn.Embedding | ExtendedEmbedding | None:
    table = encoder.get_input_embeddings()  # type: ignore[operator]
    return table if isinstance(table, nn.Embedding | ExtendedEmbedding) else None
