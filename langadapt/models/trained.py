"""How much of the text model trains, and which of its weights an artifact must keep."""

import torch
from peft import LoraConfig, get_peft_model_state_dict, inject_adapter_in_model, set_peft_model_state_dict
from torch import Tensor, nn

from langadapt.errors import ModelError
from langadapt.models.text_model import TextModel
from langadapt.models.vocabulary import new_rows
from langadapt.nn import ExtendedEmbedding
from langadapt.recipes import LastLayers, Lora
from langadapt.recipes.language import Trains

_ROWS, _VALUES, _NEW = "embeddings.rows", "embeddings.values", "new_pieces"
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
    return {_ROWS: rows, _VALUES: now[rows].clone(), **kept}


@torch.no_grad()
def round_to_stored(text_model: TextModel, trains: Trains) -> None:
    """Rounds what training changed to half precision, as an artifact stores it; the rest stays as it is."""
    if trains == "embeddings":
        weights = trained_weights(text_model, trains)
        table = _token_embeddings(text_model.encoder).weight
        table[weights[_ROWS].to(table.device)] = weights[_VALUES].half().to(table)
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
                table[weights[_ROWS]] = weights[_VALUES].to(table)
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
