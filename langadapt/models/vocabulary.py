"""New pieces of a tokenizer: what they are, and how they join it.

Exports carry the text of this file, so it imports only what they carry, too.
"""

import hashlib
import json
from dataclasses import asdict, dataclass
from typing import Any

import torch
from tokenizers import Tokenizer
from torch import Tensor, nn

from langadapt.files.json import parse_json
from langadapt.nn.peft_modules import ExtendedEmbedding


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
        """Undo `to_json`; raise a ValueError, KeyError or TypeError for what it did not write."""
        said = parse_json(text)
        pieces = (
            NewPiece(
                text=str(piece["text"]),
                merge=(str(merge[0]), str(merge[1])) if (merge := piece["merge"]) else None,
                score=float(piece["score"]),
                parts=tuple(map(int, piece["parts"])),
            )
            for piece in said["pieces"]
        )
        return cls(kind=str(said["kind"]), first_id=int(said["first_id"]), pieces=tuple(pieces))

    @property
    def digest(self) -> str:
        """First 16 hex digits of a SHA-256 over the file."""
        return hashlib.sha256(self.to_json().encode()).hexdigest()[:16]


def extended_model(backend: Tokenizer, vocabulary: Vocabulary) -> Any:
    """The tokenizer's model (pieces and how they are chosen) with new pieces behind the old ones.

    Tokens that stand beside the model (languages, a mask) join it at their ids: a tokenizer that is read from
    a file numbers those that the model lacks anew, behind all pieces.
    """
    model = json.loads(backend.to_str())["model"]
    beside = {id_: str(token.content) for id_, token in backend.get_added_tokens_decoder().items()}
    ids = {piece.text: vocabulary.first_id + i for i, piece in enumerate(vocabulary.pieces)}
    if vocabulary.kind == "Unigram":
        # Ids are places in this list; no text holds a noncharacter, so that what fills a gap is never used.
        # Nor are the tokens from beside the model: they are cut out of a text before it gets there.
        worst = min(score for _, score in model["vocab"])
        fill = range(len(model["vocab"]), vocabulary.first_id)
        model["vocab"] += [[beside.get(place, f"\ufdd0{place}"), worst - 20.0] for place in fill]
        model["vocab"] += [[piece.text, piece.score] for piece in vocabulary.pieces]
    else:
        model["vocab"] = {**{text: id_ for id_, text in beside.items()}, **model["vocab"], **ids}
    if vocabulary.kind == "BPE":
        model["merges"] += [list(piece.merge) for piece in vocabulary.pieces if piece.merge]
    empty = ("truncation", "padding", "normalizer", "pre_tokenizer", "post_processor", "decoder")
    whole = {"version": "1.0", "added_tokens": [], **dict.fromkeys(empty), "model": model}
    return Tokenizer.from_str(json.dumps(whole)).model


def put_pieces(tokenizer: Any, encoder: Any, vocabulary: Vocabulary, rows: Tensor | None = None) -> None:
    """Give a tokenizer new pieces and a text encoder `rows [pieces, H]` for them; None: zeros."""
    tokenizer.backend_tokenizer.model = extended_model(tokenizer.backend_tokenizer, vocabulary)
    table = encoder.get_input_embeddings()
    if rows is None:
        rows = torch.zeros(len(vocabulary.pieces), table.embedding_dim)
    encoder.set_input_embeddings(ExtendedEmbedding(table=table, first_id=vocabulary.first_id, rows=rows))


def merge_pieces(whole: Any, encoder: Any) -> None:
    """Make the rows of new pieces a part of the table; ids that nothing uses get rows of zeros.

    `encoder` is the text encoder of the `whole` model, or itself.
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
