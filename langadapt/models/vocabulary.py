"""A text model with new pieces: in its tokenizer, and as rows behind its token embeddings."""

from typing import Any

import torch
from tokenizers import Tokenizer
from torch import Tensor, nn

from langadapt.errors import ModelError
from langadapt.models.pieces import Vocabulary, extended_model
from langadapt.models.text_model import TextModel
from langadapt.nn import ExtendedEmbedding

KINDS = ("BPE", "Unigram", "WordPiece")


def extend_text_model(text_model: TextModel, vocabulary: Vocabulary, *, seed: int) -> None:
    """Gives a text model new pieces and untrained rows for them.

    A piece made of known pieces starts at the mean of their rows; one with a letter that the tokenizer did
    not know starts at the mean of all rows, moved at random by their spread.

    Args:
        text_model: as loaded; its tokenizer and its embeddings are extended in place.
        vocabulary: pieces for this tokenizer.
        seed: of the random part.

    Raises:
        ModelError: the pieces belong to another tokenizer.
    """
    encoder: Any = text_model.encoder
    table = encoder.get_input_embeddings()
    assert isinstance(table, nn.Embedding)
    backend = backend_of(text_model)
    if kind_of(backend) != vocabulary.kind or first_new_id(text_model) != vocabulary.first_id:
        raise ModelError(f"{text_model.source.repo}: the new pieces belong to another tokenizer")
    backend.model = extended_model(backend, vocabulary)
    rows = _first_rows(table.weight.detach(), vocabulary, seed=seed)
    encoder.set_input_embeddings(ExtendedEmbedding(table=table, first_id=vocabulary.first_id, rows=rows))


def backend_of(text_model: TextModel) -> Tokenizer:
    """The tokenizer of the `tokenizers` library behind transformers' one.

    Raises:
        ModelError: it has none, or one of a kind that cannot be extended.
    """
    backend = getattr(text_model.tokenizer, "backend_tokenizer", None)
    if not isinstance(backend, Tokenizer) or kind_of(backend) not in KINDS:
        kind = kind_of(backend) if isinstance(backend, Tokenizer) else type(text_model.tokenizer).__name__
        raise ModelError(
            f"{text_model.source.repo}: a {kind} tokenizer cannot be extended, only {', '.join(KINDS)}; "
            "remove text_model.extend_vocabulary"
        )
    return backend


def kind_of(backend: Tokenizer) -> str:
    """`BPE`, `Unigram`, `WordPiece` or `WordLevel`."""
    return type(backend.model).__name__


def first_new_id(text_model: TextModel) -> int:
    """The first id that neither the tokenizer nor the embeddings use."""
    table: Any = text_model.encoder.get_input_embeddings()  # type: ignore[operator]
    known = backend_of(text_model).get_vocab(with_added_tokens=True)
    return max(int(table.weight.shape[0]), max(known.values()) + 1)


def new_rows(text_model: TextModel) -> nn.Parameter | None:
    """The rows of the new pieces `[pieces, H]`; None where there are none."""
    table = text_model.encoder.get_input_embeddings()  # type: ignore[operator]
    return table.rows if isinstance(table, ExtendedEmbedding) else None


def _first_rows(table: Tensor, vocabulary: Vocabulary, *, seed: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    rows = torch.empty(len(vocabulary.pieces), table.shape[1])
    on_cpu = table.cpu()
    mean, spread = on_cpu.mean(dim=0), on_cpu.std(dim=0)
    for row, piece in zip(rows, vocabulary.pieces, strict=True):
        noise = torch.randn(len(row), generator=generator)
        known = all(part >= 0 for part in piece.parts)
        row.copy_(on_cpu[list(piece.parts)].mean(dim=0) if known else mean + spread * noise)
    return rows.to(table)
