"""New pieces of a tokenizer: what they are, how they join it, and their rows in the text model."""

import hashlib
import json
from dataclasses import asdict, dataclass
from typing import Any

import torch
from tokenizers import Tokenizer
from torch import Tensor, nn

from langadapt.errors import ModelError
from langadapt.models.text_model import TextModel
from langadapt.nn import ExtendedEmbedding

KINDS = ("BPE", "Unigram", "WordPiece")


@dataclass(frozen=True, kw_only=True)
class NewPiece:
    """A piece that the tokenizer did not have."""

    text: str
    """As the tokenizer's vocabulary writes it: `▁nyumba`, `##umba`."""
    merge: tuple[str, str] | None
    """The two pieces that it joins; None for a letter."""
    score: float
    """Natural logarithm of its share among the tokens of the data; Unigram tokenizers use it."""
    parts: tuple[int, ...]
    """Old ids of which it is made, -1 for a letter that the tokenizer did not know."""


@dataclass(frozen=True, kw_only=True)
class Vocabulary:
    """New pieces of one tokenizer; the first has the id `first_id`, the others follow."""

    kind: str
    first_id: int
    pieces: tuple[NewPiece, ...]

    def to_json(self) -> str:
        """As a file holds it; equal vocabularies make equal files."""
        return json.dumps(asdict(self), ensure_ascii=False, indent=1) + "\n"

    @classmethod
    def from_json(cls, text: str) -> "Vocabulary":
        """Undoes `to_json`.

        Raises:
            ValueError, KeyError, TypeError: the text is not what `to_json` wrote.
        """
        said = json.loads(text)
        pieces = tuple(
            NewPiece(
                text=str(piece["text"]),
                merge=(str(piece["merge"][0]), str(piece["merge"][1])) if piece["merge"] else None,
                score=float(piece["score"]),
                parts=tuple(int(part) for part in piece["parts"]),
            )
            for piece in said["pieces"]
        )
        return cls(kind=str(said["kind"]), first_id=int(said["first_id"]), pieces=pieces)

    @property
    def digest(self) -> str:
        """First 16 hex digits of a SHA-256 over the file."""
        return hashlib.sha256(self.to_json().encode()).hexdigest()[:16]


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


def extended_model(backend: Tokenizer, vocabulary: Vocabulary) -> Any:
    """The tokenizer's model (pieces and how they are chosen) with new pieces behind the old ones."""
    model = json.loads(backend.to_str())["model"]
    ids = {piece.text: vocabulary.first_id + i for i, piece in enumerate(vocabulary.pieces)}
    if vocabulary.kind == "Unigram":
        # Ids are places in this list; no text holds a noncharacter, so that what fills a gap is never used.
        worst = min(score for _, score in model["vocab"])
        fill = range(len(model["vocab"]), vocabulary.first_id)
        model["vocab"] += [[f"\ufdd0{place}", worst - 20.0] for place in fill]
        model["vocab"] += [[piece.text, piece.score] for piece in vocabulary.pieces]
    else:
        model["vocab"].update(ids)
    if vocabulary.kind == "BPE":
        model["merges"] += [list(piece.merge) for piece in vocabulary.pieces if piece.merge]
    empty = ("truncation", "padding", "normalizer", "pre_tokenizer", "post_processor", "decoder")
    whole = {"version": "1.0", "added_tokens": [], **dict.fromkeys(empty), "model": model}
    return Tokenizer.from_str(json.dumps(whole)).model


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
