"""How well the tokenizers of the recipe's text model and of the shipped ones cover a language."""

import unicodedata
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from huggingface_hub import snapshot_download
from huggingface_hub.errors import HFValidationError, LocalEntryNotFoundError

from langadapt.doctor.verdict import Candidate, Coverage
from langadapt.errors import ModelError
from langadapt.models.load import ResolvedModel, load_tokenizer
from langadapt.models.towers import MODEL_FILES
from langadapt.recipes import TextModelRef, find_language, shipped_languages


def examine_candidates(
    own: TextModelRef,
    model: ResolvedModel | str,
    target: Sequence[str],
    english: Sequence[str] | None,
) -> list[Candidate]:
    """Measure the recipe's own text model first, then those of the shipped languages, the most used first.

    `model` is where the own one lies, or why it is missing; `target` sentences are not empty.
    """

    def measured(ref: TextModelRef, model: ResolvedModel | str) -> Candidate:
        coverage, missing = None, str(model)
        if isinstance(model, ResolvedModel):
            # The language code of another language's recipe would not fit: it adds a token only.
            options = {"src_lang": ref.tokenizer_language} if ref.tokenizer_language and ref is own else {}
            try:
                coverage = measure_coverage(load_tokenizer(model, **options), target, english)
            except ModelError as error:
                missing = str(error)
        return Candidate(
            repo=ref.repo,
            revision=ref.revision if isinstance(model, str) else model.revision,
            own=ref is own,
            licence=ref.licence,
            coverage=coverage,
            missing=missing if coverage is None else None,
        )

    refs = [find_language(code).recipe.text_model for code in shipped_languages()]
    by_name = {(ref.repo, ref.revision): ref for ref in reversed(refs)}
    counts = Counter((ref.repo, ref.revision) for ref in refs)
    others = [by_name[name] for name, _ in counts.most_common() if name != (own.repo, own.revision)]
    return [measured(own, model), *(measured(ref, _cached(ref)) for ref in others)]


def _cached(ref: TextModelRef) -> ResolvedModel | str:
    """Return a Hub model that was fetched before, or why there is none."""
    try:
        found = snapshot_download(
            ref.repo, revision=ref.revision, allow_patterns=MODEL_FILES, local_files_only=True
        )
    except (LocalEntryNotFoundError, HFValidationError):
        return "not available here"
    return ResolvedModel(repo=ref.repo, revision=Path(found).name, path=Path(found))


def measure_coverage(tokenizer: Any, target: Sequence[str], english: Sequence[str] | None) -> Coverage:
    """Measure a tokenizer of transformers on sentences and, if known, on their English sides."""
    ids = _ids(tokenizer, target)
    tokens = sum(map(len, ids))
    unknown = sum(row.count(tokenizer.unk_token_id) for row in ids)
    counts = Counter(
        letter
        for text in target
        for letter in unicodedata.normalize("NFC", text)
        if unicodedata.category(letter)[0] in "LM"
    )
    letters = sorted(counts, key=lambda letter: (-counts[letter], letter))
    # Behind a letter that it knows and a space: alone, some tokenizers put a word mark before it as a token.
    lone = _ids(tokenizer, [f"a {letter}" for letter in letters])
    first = _ids(tokenizer, ["a"])[0]
    bad = [
        letter
        for letter, row in zip(letters, lone, strict=True)
        if tokenizer.unk_token_id in row[len(first) :] or len(row) - len(first) > 2
    ]
    english_tokens = sum(map(len, _ids(tokenizer, english))) if english else 0
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
