"""What training changed, put into freshly loaded models: new pieces, trained weights, added layers.

Exports carry the text of this file (`export/module_source.py`), so it imports only what they carry, too.
"""

from typing import Any

import torch
from torch import Tensor, nn

from langadapt.models.pieces import Vocabulary, extended_model
from langadapt.nn.peft_modules import Bottleneck, ExtendedEmbedding, TopLayer, append

_ADDED: dict[str, tuple[Any, str]] = {
    "bottleneck": (Bottleneck, "up.bias"),
    "top": (TopLayer, "inner.attention_out.bias"),
}
"""By the name as a submodule: the class, and a weight of it that is as long as it is wide."""


def put_pieces(tokenizer: Any, encoder: Any, vocabulary: Vocabulary) -> None:
    """Gives a tokenizer new pieces and a text encoder rows of zeros for them, which weights replace."""
    tokenizer.backend_tokenizer.model = extended_model(tokenizer.backend_tokenizer, vocabulary)
    table = encoder.get_input_embeddings()
    rows = torch.zeros(len(vocabulary.pieces), table.embedding_dim)
    encoder.set_input_embeddings(ExtendedEmbedding(table=table, first_id=vocabulary.first_id, rows=rows))


def merge_pieces(whole: Any, encoder: Any) -> None:
    """Makes the rows of new pieces a part of the table; ids that nothing uses get rows of zeros.

    Args:
        whole: the model that is saved; its configuration says how long the table is.
        encoder: the text encoder of it, or itself.
    """
    extended: ExtendedEmbedding = encoder.get_input_embeddings()
    table, old = extended.table, extended.table.weight
    longer = old.new_zeros(extended.first_id + len(extended.rows), extended.embedding_dim)
    longer[: len(old)] = old.detach()
    longer[extended.first_id :] = extended.rows.detach()
    weight = nn.Parameter(longer, requires_grad=False)
    encoder.set_input_embeddings(table)
    for module in whole.modules():  # an encoder-decoder has the table twice
        if isinstance(module, nn.Embedding) and (module is table or module.weight is old):
            module.weight, module.num_embeddings = weight, len(weight)
    whole.config.get_text_config().vocab_size = len(weight)


def put_weights(
    model: nn.Module, weights: dict[str, Tensor], *, lora_scale: float | None, as_changes: bool = False
) -> None:
    """Puts weights into a model; makes the layers that tuning added, adds low-rank updates up.

    Args:
        model: a tower or a part of it, as the step before left it.
        weights: by name in the model; `embeddings.rows` and `.values` for rows of the token embeddings,
            `lora_A` and `lora_B` for low-rank updates, `changed_rows` and `changed_values` for changes of
            some rows.
        lora_scale: alpha / rank; None where no low-rank update trained.
        as_changes: what the model has already is moved by these weights instead of replaced.

    Raises:
        KeyError, AttributeError, RuntimeError: a weight that the model does not have.
    """
    # peft puts the layer that it updates one level deeper.
    whole = {name.replace(".base_layer.", ".").replace(".default.", "."): w for name, w in weights.items()}
    made = add_layers(model, whole)
    tensors: dict[str, Tensor] = dict(model.named_parameters())
    with torch.no_grad():
        if "embeddings.rows" in whole:
            table = model.get_input_embeddings().weight  # type: ignore[operator]
            table[whole.pop("embeddings.rows")] = whole.pop("embeddings.values").to(table)
        if "new_pieces" in whole:
            rows = model.get_input_embeddings().rows  # type: ignore[operator]
            rows.copy_(whole.pop("new_pieces").view_as(rows))
        for name in [name for name in whole if name.endswith(".changed_rows")]:
            stem = name.removesuffix(".changed_rows")
            tensors[stem].index_add_(0, whole.pop(name), whole.pop(f"{stem}.changed_values"))
        for name in [name for name in whole if name.endswith(".lora_A.weight")]:
            stem = name.removesuffix(".lora_A.weight")
            if lora_scale is None:
                raise KeyError(name)
            update = whole.pop(f"{stem}.lora_B.weight") @ whole.pop(name)
            tensors[f"{stem}.weight"].add_(update, alpha=lora_scale)
        for name, value in whole.items():
            moved = as_changes and not name.startswith(made)
            start = tensors[name] if moved else 0
            tensors[name].copy_(start + value.view_as(tensors[name]))


def add_layers(model: nn.Module, weights: dict[str, Tensor]) -> tuple[str, ...]:
    """Makes the layers that weights belong to and the model lacks; tells how their weights' names start."""
    made = []
    # A place's later one has the longer name, and must come behind the earlier one.
    for name in sorted(weights, key=lambda name: (len(name), name)):
        for kind, (added, wide) in _ADDED.items():
            path, _, own = name.removesuffix(f".{wide}").rpartition(".")
            if not name.endswith(f".{wide}") or own.split("_")[0] != kind:
                continue
            place = model.get_submodule(path)
            if not hasattr(place, own):
                with torch.random.fork_rng(devices=[]):  # what it draws is replaced
                    append(place, own, added(dim=len(weights[name])).eval())
                made.append(f"{path}.{own}.")
    return tuple(made)


def added_weights(model: nn.Module) -> dict[str, Tensor]:
    """The weights of layers that tuning added, by name."""
    heads = tuple(f"{n}." for n, part in model.named_modules() if getattr(part, "added_by_tuning", False))
    return {name: value for name, value in model.state_dict().items() if heads and name.startswith(heads)}
