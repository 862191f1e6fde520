"""Learns the pieces that a tokenizer lacks for a language.

The old tokenizer goes first: every word is cut into its old pieces, letters that it does not know stand
alone, and byte-pair merging goes on from there. So a new piece is always made of what the tokenizer already
says, the same data always give the same pieces (the library's Unigram and WordPiece trainers do not), and a
tokenizer that merges (BPE) reaches each of them by its own rules. A Unigram or WordPiece tokenizer gets the
same pieces and chooses among them in its own way.
"""

import json
import math
from collections import Counter
from collections.abc import Iterable
from dataclasses import replace
from typing import Any

import torch
from tokenizers import Tokenizer, models, trainers
from torch import Tensor, nn

from langadapt.errors import DataError, ModelError
from langadapt.models.student import TextModel
from langadapt.models.vocabulary import NewPiece, Vocabulary, extended_model, put_pieces
from langadapt.nn.peft_modules import ExtendedEmbedding

KINDS = ("BPE", "Unigram", "WordPiece")
_WAY_OUT = "remove text_model.extend_vocabulary"

_PRIVATE = range(0xF0000, 0xFFFFE), range(0x100000, 0x10FFFE), range(0xE000, 0xF900)
"""Letters that no text means anything by: each stands for one old piece while merging is learnt."""
_LONGEST = 16
"""Old pieces and letters in a new piece, at most."""


def learn_vocabulary(
    text_model: TextModel, target: Iterable[str], english: Iterable[str], *, pieces: int
) -> Vocabulary:
    """Learn at most `pieces` new pieces on texts of a language; the text model stays as it is.

    Letters that the tokenizer does not know come first, the most frequent ones foremost; then merges, the
    most frequent foremost. A merge that occurs in an English word is left out, so that the English texts keep
    their pieces. Refuse texts without any new piece, and tokenizers that cannot be extended.
    """
    backend = backend_of(text_model)
    kind, model = kind_of(backend), json.loads(backend.to_str())["model"]
    if kind == "BPE" and (model["continuing_subword_prefix"] or model["end_of_word_suffix"]):
        marks = "a BPE tokenizer that marks the inside or the end of words cannot be extended"
        raise ModelError(f"{text_model.source.repo}: {marks}; {_WAY_OUT}")
    mark: str = model["continuing_subword_prefix"] if kind == "WordPiece" else ""
    words = count_words(backend, target)
    letters = [] if model.get("byte_fallback") else _unknown_letters(backend, words, mark=mark)[:pieces]
    first_id = first_new_id(text_model)
    alone = tuple(NewPiece(text=text, merge=None, score=0.0, parts=(-1,)) for text in letters)
    lettered = extended_model(backend, Vocabulary(kind=kind, first_id=first_id, pieces=alone))
    unknown = model["unk_id"] if kind == "Unigram" else backend.model.token_to_id(model["unk_token"] or "")
    rows = _cut(lettered, words, unknown_id=unknown)
    learnt, counts = _merge(rows, mark=mark, pieces=2 * pieces)

    def score(text: str) -> float:
        return round(math.log((counts[text] + 0.5) / max(1, sum(counts.values()))), 6)

    old: dict[str, int] = backend.get_vocab(with_added_tokens=True)
    parts: dict[str, tuple[int, ...]] = {text: (old.get(text, -1),) for row in rows for text in row}
    kept = [replace(piece, score=score(piece.text)) for piece in alone]
    before = "\n" + "\n".join(count_words(backend, english)) + "\n"
    passed_over: set[str] = set()
    for left, right in learnt:
        text = left + right.removeprefix(mark)
        if text in parts:
            continue
        parts[text] = (*parts[left], *parts[right])
        in_english = -1 not in parts[text] and text.removeprefix(mark) in before
        unreachable = kind == "BPE" and bool({left, right} & passed_over)
        if text in old or in_english or unreachable:
            passed_over.add(text)
        elif len(kept) < pieces:
            kept.append(NewPiece(text=text, merge=(left, right), score=score(text), parts=parts[text]))
    if not kept:
        lacks = "the data hold no piece that its tokenizer lacks and English does not use"
        raise DataError(f"{text_model.source.repo}: {lacks}; {_WAY_OUT}")
    return Vocabulary(kind=kind, first_id=first_id, pieces=tuple(kept))


def count_words(backend: Tokenizer, texts: Iterable[str]) -> Counter[str]:
    """Words as the tokenizer's model gets them: after its normaliser and its pre-tokeniser."""
    spaced: Counter[str] = Counter()
    for text in texts:
        first, *others = text.split() or [""]
        spaced[first] += 1
        spaced.update(" " + word for word in others)  # with the space, which some tokenizers keep
    words: Counter[str] = Counter()
    for text, times in spaced.items():
        plain = backend.normalizer.normalize_str(text) if backend.normalizer else text
        split = backend.pre_tokenizer.pre_tokenize_str(plain) if backend.pre_tokenizer else [(plain, None)]
        for word, _ in split:
            words[word] += times
    return words


def _unknown_letters(backend: Tokenizer, words: Counter[str], *, mark: str) -> list[str]:
    """Letters that the tokenizer's model does not know, the most frequent first."""
    counts: Counter[str] = Counter()
    for word, times in words.items():
        for place, letter in enumerate(word):
            counts[mark + letter if place else letter] += times
    unknown = [text for text in counts if backend.model.token_to_id(text) is None]
    return sorted(unknown, key=lambda text: (-counts[text], text))


def _cut(model: Any, words: Counter[str], *, unknown_id: int | None) -> Counter[tuple[str, ...]]:
    """Words as rows of pieces with their numbers; a word with an unknown letter falls apart at it."""
    rows: Counter[tuple[str, ...]] = Counter()
    for word, times in words.items():
        row: list[str] = []
        for token in model.tokenize(word):
            if token.id == unknown_id:
                rows[tuple(row)] += times
                row = []
            else:
                row.append(token.value)
        rows[tuple(row)] += times
    del rows[()]
    return rows


def _merge(
    rows: Counter[tuple[str, ...]], *, mark: str, pieces: int
) -> tuple[list[tuple[str, str]], Counter[str]]:
    """Byte-pair merging over rows of pieces: merges in their order, and how often each piece is then used."""
    places = (chr(code) for part in _PRIVATE for code in part)
    letter_of = {piece: next(places) for piece in sorted({piece for row in rows for piece in row})}
    piece_of = {letter: piece for piece, letter in letter_of.items()}
    spelt = {"".join(letter_of[piece] for piece in row): times for row, times in rows.items()}

    def written(token: str) -> str:
        first, *rest = (piece_of[letter] for letter in token)
        return first + "".join(part.removeprefix(mark) for part in rest)

    learner = Tokenizer(models.BPE())
    trainer = trainers.BpeTrainer(
        vocab_size=len(letter_of) + pieces, min_frequency=2, max_token_length=_LONGEST, show_progress=False
    )
    learner.train_from_iterator((word for word, times in spelt.items() for _ in range(times)), trainer)
    used: Counter[str] = Counter()
    for word, times in spelt.items():
        for token in learner.model.tokenize(word):
            used[written(token.value)] += times
    merges = json.loads(learner.to_str())["model"]["merges"]
    return [(written(left), written(right)) for left, right in merges], used


def extend_text_model(text_model: TextModel, vocabulary: Vocabulary, *, seed: int) -> None:
    """Extend a text model's tokenizer and embeddings in place by new pieces and untrained rows for them.

    A piece made of known pieces starts at the mean of their rows; one with a letter that the tokenizer did
    not know starts at the mean of all rows, moved at random (`seed`) by their spread.
    """
    encoder: Any = text_model.encoder
    table = encoder.get_input_embeddings()
    assert isinstance(table, nn.Embedding)
    if kind_of(backend_of(text_model)) != vocabulary.kind or first_new_id(text_model) != vocabulary.first_id:
        raise ModelError(f"{text_model.source.repo}: the new pieces belong to another tokenizer")
    rows = _first_rows(table.weight.detach(), vocabulary, seed=seed)
    put_pieces(text_model.tokenizer, encoder, vocabulary, rows)


def backend_of(text_model: TextModel) -> Tokenizer:
    """The tokenizer of the `tokenizers` library behind transformers' one; of a kind that can be extended."""
    backend = getattr(text_model.tokenizer, "backend_tokenizer", None)
    if not isinstance(backend, Tokenizer) or kind_of(backend) not in KINDS:
        kind = kind_of(backend) if isinstance(backend, Tokenizer) else type(text_model.tokenizer).__name__
        problem = f"a {kind} tokenizer cannot be extended, only {', '.join(KINDS)}"
        raise ModelError(f"{text_model.source.repo}: {problem}; {_WAY_OUT}")
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
