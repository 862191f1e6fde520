"""Text models that a language could use, and what of them is on this machine."""

from collections.abc import Sequence
from pathlib import Path

from huggingface_hub import snapshot_download
from huggingface_hub.errors import HFValidationError, LocalEntryNotFoundError

from langadapt.doctor.coverage import measure_coverage
from langadapt.doctor.findings import Candidate
from langadapt.errors import ModelError
from langadapt.models import ResolvedModel
from langadapt.models.pretrained import load_tokenizer
from langadapt.models.towers import MODEL_FILES
from langadapt.recipes import TextModelRef, find_language, language_codes


def shipped_text_models() -> list[TextModelRef]:
    """The text models of the shipped languages, the most used first."""
    refs = [find_language(code).recipe.text_model for code in language_codes()]
    uses: dict[tuple[str, str | None], list[TextModelRef]] = {}
    for ref in refs:
        uses.setdefault((ref.repo, ref.revision), []).append(ref)
    return [same[0] for same in sorted(uses.values(), key=len, reverse=True)]


def examine_candidates(
    own: TextModelRef,
    source: ResolvedModel | None,
    why_not: str | None,
    target: Sequence[str],
    english: Sequence[str] | None,
) -> list[Candidate]:
    """The recipe's own text model first, then those of the shipped languages.

    Args:
        own: as the recipe names it.
        source: where it lies; None if it cannot be had.
        why_not: the reason then.
        target: sentences of the language.
        english: their English sides, where they are known.
    """
    found = [_candidate(own, source, why_not, target, english, is_own=True)]
    for ref in shipped_text_models():
        if (ref.repo, ref.revision) == (own.repo, own.revision):
            continue
        place = _cached(ref)
        reason = None if place else "not available here"
        found.append(_candidate(ref, place, reason, target, english, is_own=False))
    return found


def _candidate(
    ref: TextModelRef,
    source: ResolvedModel | None,
    why_not: str | None,
    target: Sequence[str],
    english: Sequence[str] | None,
    *,
    is_own: bool,
) -> Candidate:
    coverage = None
    if source is not None and target:
        # The language code of the shipped recipe would be the one of another language: it adds a token only.
        options = {"src_lang": ref.tokenizer_language} if ref.tokenizer_language and is_own else {}
        try:
            coverage = measure_coverage(load_tokenizer(source, **options), target, english)
        except ModelError as error:
            why_not = str(error)
    elif source is not None:
        why_not = "no text of the language is here to measure it on"
    return Candidate(
        repo=ref.repo,
        revision=source.revision if source else ref.revision,
        own=is_own,
        licence=ref.licence,
        coverage=coverage,
        missing=why_not,
    )


def _cached(ref: TextModelRef) -> ResolvedModel | None:
    """A Hub model that was fetched before; nothing is fetched now."""
    try:
        path = Path(
            snapshot_download(
                ref.repo, revision=ref.revision, allow_patterns=MODEL_FILES, local_files_only=True
            )
        )
    except (LocalEntryNotFoundError, HFValidationError):
        return None
    return ResolvedModel(repo=ref.repo, revision=path.name, path=path)
