"""How much of the text model trains, and which of its weights an artifact must keep."""

import torch
from peft import LoraConfig, get_peft_model_state_dict, inject_adapter_in_model, set_peft_model_state_dict
from torch import Tensor, nn

from langadapt.errors import ModelError
from langadapt.models.text_model import TextModel
from langadapt.recipes import LastLayers, Lora
from langadapt.recipes.language import Trains

_ROWS, _VALUES = "embeddings.rows", "embeddings.values"
_QUERY_VALUE = {"query", "value", "q_proj", "v_proj", "q_lin", "v_lin", "q", "v", "Wqkv"}


def choose_trained(text_model: TextModel, trains: Trains) -> None:
    """Sets which weights of a frozen text model learn.

    Args:
        text_model: as loaded, all frozen.
        trains: the recipe's choice; `lora` adds peft's layers in place.

    Raises:
        ModelError: the model has fewer layers than asked for, or no attention projections that LoRA knows.
    """
    encoder = text_model.encoder
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


def trained_weights(text_model: TextModel, trains: Trains) -> dict[str, Tensor]:
    """The weights that training may have changed, by name; of token embeddings the rows that did change."""
    encoder = text_model.encoder
    if isinstance(trains, Lora):
        return dict(get_peft_model_state_dict(encoder))
    weights = {name: value.detach() for name, value in encoder.named_parameters() if value.requires_grad}
    if trains != "embeddings":
        return weights
    now = _token_embeddings(encoder).weight.detach().cpu()
    assert text_model.untrained_embeddings is not None
    rows = (now != text_model.untrained_embeddings).any(dim=1).nonzero()[:, 0]
    return {_ROWS: rows, _VALUES: now[rows].clone()}


@torch.no_grad()
def round_to_stored(text_model: TextModel, trains: Trains) -> None:
    """Rounds what training changed to half precision, as an artifact stores it; the rest stays as it is."""
    if trains == "embeddings":
        weights = trained_weights(text_model, trains)
        table = _token_embeddings(text_model.encoder).weight
        table[weights[_ROWS].to(table.device)] = weights[_VALUES].half().to(table)
        return
    for value in text_model.encoder.parameters():
        if value.requires_grad:
            value.copy_(value.half())


def restore_weights(text_model: TextModel, trains: Trains, weights: dict[str, Tensor]) -> None:
    """Puts trained weights back into a freshly loaded text model.

    Raises:
        ModelError: names or shapes do not fit the model.
    """
    choose_trained(text_model, trains)
    encoder = text_model.encoder
    try:
        if isinstance(trains, Lora):
            _require_names(weights, set(get_peft_model_state_dict(encoder)))
            set_peft_model_state_dict(encoder, weights)
        elif trains == "embeddings":
            with torch.no_grad():
                table = _token_embeddings(encoder).weight
                table[weights[_ROWS]] = weights[_VALUES].to(table)
        elif trains != "frozen":
            _require_names(weights, {name for name, p in encoder.named_parameters() if p.requires_grad})
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


def _token_embeddings(encoder: nn.Module) -> nn.Embedding:
    table = encoder.get_input_embeddings()  # type: ignore[operator]
    assert isinstance(table, nn.Embedding)
    return table


def _layer_stack(text_model: TextModel) -> nn.ModuleList:
    stacks = [module for module in text_model.encoder.modules() if isinstance(module, nn.ModuleList)]
    depth = text_model.state_count - 1
    for stack in stacks:
        if len(stack) == depth:
            return stack
    raise ModelError(f"{text_model.source.repo}: cannot tell its {depth} Transformer layers apart")
