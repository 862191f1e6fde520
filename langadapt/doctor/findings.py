"""What the doctor found: numbers and facts, no judgement."""

import unicodedata
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from langadapt.doctor.probe import Estimate


@dataclass(frozen=True, kw_only=True)
class Coverage:
    """Counts over some sentences, special tokens left out."""

    sentences: int
    tokens_per_word: float
    """Words are what white space separates: of little meaning in a script that writes none."""
    tokens_per_character: float
    english_tokens_per_word: float | None
    english_tokens_per_character: float | None
    times_english: float | None
    """Tokens of the sentences over tokens of their English sides; None without English."""
    unknown_percent: float
    """Tokens that stand for something unknown."""
    letters_percent: float
    """Distinct letters of the sentences that are one token and not an unknown one."""
    unknown_letters: str
    """Some of the others, the most frequent first."""


@dataclass(frozen=True, kw_only=True)
class Candidate:
    """A text model and what its tokenizer makes of the language."""

    repo: str
    revision: str | None
    own: bool
    """The one that the recipe names."""
    licence: str
    coverage: Coverage | None
    missing: str | None
    """Why there is no coverage: the model is not on this machine, ..."""


@dataclass(frozen=True, kw_only=True)
class Pairs:
    """Parallel sentences, counted by the cleaning."""

    rows: int
    kept: int
    """Rows that cleaning leaves."""
    contaminated: int
    """Rows with a test caption among the dropped ones."""
    dropped: dict[str, int]
    """Dropped rows by rule."""


@dataclass(frozen=True, kw_only=True)
class Licences:
    """All licences, and what they mean together for the weights that are learnt."""

    stated: dict[str, str]
    together: str
    commercial: bool
    unknown: tuple[str, ...]
    noncommercial: tuple[str, ...]
    objections: tuple[str, ...]
    """Why the weights may not be published."""


@dataclass(frozen=True, kw_only=True)
class Findings:
    """Everything about one language recipe on this machine."""

    code: str
    name: str
    recipe: str
    """As the command line names it: `--lang sw`, `--recipe my/sw.yaml`."""
    sample: str
    """What the tokenizers were measured on."""
    candidates: tuple[Candidate, ...]
    extended: int
    """New pieces that the recipe asks for already."""
    pairs: Pairs | None
    missing_data: tuple[str, ...]
    test_captions: int
    missing_tests: tuple[str, ...]
    licences: Licences
    estimate: Estimate | None
    no_models: str | None
    """Why teacher or text model cannot be had."""

    @property
    def own(self) -> Candidate:
        """The recipe's text model."""
        return next(item for item in self.candidates if item.own)

    def to_dict(self) -> dict[str, Any]:
        """Plain values under stable keys."""
        return asdict(self)


def measure_coverage(tokenizer: Any, target: Sequence[str], english: Sequence[str] | None) -> Coverage:
    """Measures a tokenizer of transformers.

    Args:
        tokenizer: its batch call and `unk_token_id` are used.
        target: sentences of the language, not empty.
        english: their English sides, where they are known.
    """
    ids = _ids(tokenizer, target)
    tokens = sum(map(len, ids))
    unknown = sum(row.count(tokenizer.unk_token_id) for row in ids)
    counts: dict[str, int] = {}
    for text in target:
        for letter in unicodedata.normalize("NFC", text):
            if unicodedata.category(letter)[0] in "LM":
                counts[letter] = counts.get(letter, 0) + 1
    letters = sorted(counts, key=lambda letter: (-counts[letter], letter))
    # Behind a letter that it knows and a space: alone, some tokenizers put a word mark before it as a token.
    lone = _ids(tokenizer, [f"a {letter}" for letter in letters])
    first = _ids(tokenizer, ["a"])[0]
    bad = [
        letter
        for letter, row in zip(letters, lone, strict=True)
        if tokenizer.unk_token_id in row[len(first) :] or len(row) - len(first) > 2
    ]
    said = _ids(tokenizer, english) if english else None
    english_tokens = sum(map(len, said)) if said else 0
    return Coverage(
        sentences=len(target),
        tokens_per_word=tokens / max(1, sum(len(text.split()) for text in target)),
        tokens_per_character=tokens / max(1, sum(map(len, target))),
        english_tokens_per_word=english_tokens / sum(len(t.split()) for t in english) if english else None,
        english_tokens_per_character=english_tokens / sum(map(len, english)) if english else None,
        times_english=tokens / english_tokens if english_tokens else None,
        unknown_percent=100 * unknown / max(1, tokens),
        letters_percent=100 * (1 - len(bad) / len(letters)) if letters else 100.0,
        unknown_letters="".join(bad[:20]),
    )


def _ids(tokenizer: Any, texts: Sequence[str]) -> list[list[int]]:
    found: list[list[int]] = tokenizer(
        list(texts), add_special_tokens=False, truncation=False, return_attention_mask=False, verbose=False
    )["input_ids"]
    return found
