"""Looks at a language recipe and at what of it is on this machine."""

import os
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from huggingface_hub import snapshot_download
from huggingface_hub.errors import HFValidationError, LocalEntryNotFoundError

from langadapt.cleaning.build import PAIRS, BuildPlan, build_parallel
from langadapt.cleaning.chunks import Source
from langadapt.cleaning.contamination import Captions, test_captions
from langadapt.data.parallel import parallel_rows
from langadapt.data.readers import read_table
from langadapt.doctor.findings import Candidate, Findings, Licences, Pairs, measure_coverage
from langadapt.doctor.probe import Estimate, estimate
from langadapt.errors import DataError, MissingDataError, ModelError, Progress, Report
from langadapt.files.store import cache_folder
from langadapt.hub.licences import licence_sum, objections
from langadapt.models import ResolvedModel, load_teacher, load_text_model, resolve_model
from langadapt.models.load import load_tokenizer
from langadapt.models.provenance import BaseModel, data_source
from langadapt.models.towers import MODEL_FILES
from langadapt.recipes import (
    HubSource,
    LanguageRecipe,
    ModelRef,
    ParallelRecipe,
    TextModelRef,
    data_recipe,
    find_language,
    shipped_languages,
    with_absolute_paths,
)
from langadapt.recipes.find import RecipeFile

_SAMPLE = 2_000

"""Sentences on which tokenizers are measured, spread over all clean pairs."""


@dataclass(frozen=True, kw_only=True)
class _Sample:
    target: tuple[str, ...]
    english: tuple[str, ...] | None
    what: str


def examine(
    found: RecipeFile[LanguageRecipe], *, named: str, device: torch.device, report: Report
) -> Findings:
    """Examines data, tokenizers, licences, time and disk; trains nothing and keeps nothing.

    Args:
        found: the language recipe and where it lies.
        named: how the command line names it: `--lang sw`.
        device: where the probe runs.
        report: told what is done.

    Raises:
        LangadaptError: a recipe or a file that is there is wrong. What is merely absent is a finding.
    """
    recipe = with_absolute_paths(found)
    corpora = [data_recipe(ParallelRecipe, name) for name in recipe.distill.data]
    here, missing = [], []
    for corpus in corpora:
        try:
            next(iter(parallel_rows(corpus)))
            here.append(corpus)
        except DataError as error:
            # A local file that is there and wrong is for the user to mend; a Hub out of reach is a finding.
            if not isinstance(error, MissingDataError) and not isinstance(corpus.recipe.source, HubSource):
                raise
            missing.append(str(error))
    captions, missing_tests = test_captions(found)
    with tempfile.TemporaryDirectory() as folder:
        built = Path(folder) / "clean"
        pairs = _pairs(recipe, here, captions, built, report) if here else None
        sample = _sample(recipe, built / PAIRS if pairs else None, captions)
    sources, why_not = _models(recipe)
    report(Progress(stage="tokenizers"))
    candidates = examine_candidates(
        recipe.text_model, sources.get("text_model"), why_not.get("text_model"), sample.target, sample.english
    )
    estimated, reason = None, "; ".join(why_not.values()) or None
    if reason is None and pairs is not None and sample.english is not None:
        report(Progress(stage="probe"))
        estimated = _estimate(recipe, sources, sample, pairs.kept, device)
    extension = recipe.text_model.extend_vocabulary
    return Findings(
        code=recipe.code,
        name=recipe.name,
        recipe=named,
        sample=sample.what,
        candidates=tuple(candidates),
        extended=extension.pieces if extension else 0,
        pairs=pairs,
        missing_data=tuple(missing),
        test_captions=sum(len(item.texts) for item in captions),
        missing_tests=tuple(missing_tests),
        licences=_licences(recipe, corpora),
        estimate=estimated,
        no_models=reason,
    )


def _pairs(
    recipe: LanguageRecipe,
    corpora: Sequence[RecipeFile[ParallelRecipe]],
    captions: Sequence[Captions],
    out: Path,
    report: Report,
) -> Pairs:
    """Cleans all that is here into a folder that goes away again."""
    plan = BuildPlan(
        sources=[Source(found=corpus) for corpus in corpora],
        language=recipe.code,
        codes=(recipe.code, recipe.iso639_3),
        scripts=recipe.scripts,
        tests=captions or None,
        workers=os.cpu_count() or 1,
    )
    built = build_parallel(plan, out, report)
    return Pairs(
        rows=built.rows,
        kept=built.kept,
        contaminated=built.contamination.found if built.contamination else 0,
        dropped=dict(built.dropped),
    )


def _sample(recipe: LanguageRecipe, pairs: Path | None, captions: Sequence[Captions]) -> _Sample:
    if pairs is not None:
        rows = [row.values for row in read_table(pairs, ("english", "target"))]
        step = max(1, len(rows) // _SAMPLE)
        chosen = rows[::step][:_SAMPLE]
        english, target = (tuple(row[side] for row in chosen) for side in (0, 1))
        return _Sample(target=target, english=english, what=f"{len(chosen):,} clean pairs of the recipe")
    own_language = [text for item in captions if not item.english for text in item.texts]
    if own_language:
        target = tuple(own_language[:_SAMPLE])
        return _Sample(target=target, english=None, what=f"{len(target):,} captions of its test sets")
    own = (*recipe.examples, *(prompt.replace("{label}", "") for prompt in recipe.prompts))
    texts = tuple(text for text in (*own, recipe.native_name) if text.strip())
    return _Sample(target=texts, english=None, what=f"the recipe's own {len(texts)} phrases, which are few")


def _models(recipe: LanguageRecipe) -> tuple[dict[str, ResolvedModel], dict[str, str]]:
    """Both base models where they can be had, else why not."""
    found: dict[str, ResolvedModel] = {}
    why_not: dict[str, str] = {}
    refs: dict[str, ModelRef] = {"teacher": recipe.teacher, "text_model": recipe.text_model}
    for role, ref in refs.items():
        try:
            found[role] = resolve_model(ref)
        except ModelError as error:
            why_not[role] = str(error)
    return found, why_not


def _estimate(
    recipe: LanguageRecipe,
    sources: dict[str, ResolvedModel],
    sample: _Sample,
    rows: int,
    device: torch.device,
) -> Estimate:
    assert sample.english is not None
    text_model = load_text_model(
        sources["text_model"], recipe.text_model, max_tokens=recipe.distill.max_tokens, device=device
    )
    return estimate(
        recipe,
        load_teacher(sources["teacher"], device=device),
        text_model,
        english=sample.english[:256],
        target=sample.target[:256],
        rows=rows,
        cache=cache_folder(),
    )


def _licences(recipe: LanguageRecipe, corpora: Sequence[RecipeFile[ParallelRecipe]]) -> Licences:
    data = [
        data_source(
            item.recipe,
            item.recipe.source,
            kind="parallel",
            language=item.recipe.language,
            rows=0,
            blank_rows=0,
            fingerprint="",
        )
        for item in corpora
    ]
    models = [
        BaseModel(repo=ref.repo, revision=ref.revision or "", licence=ref.licence)
        for ref in (recipe.teacher, recipe.text_model)
    ]
    trains = recipe.text_model.trains != ("locked",) or recipe.text_model.extend_vocabulary is not None
    total = licence_sum(data, models)
    return Licences(
        stated={**{s.name: s.licence for s in data}, **{m.repo: m.licence for m in models}},
        together=total.name or total.licence,
        commercial=total.commercial,
        unknown=total.unknown,
        noncommercial=total.noncommercial,
        objections=tuple(objections(data, models, stored=[models[1]] if trains else [])),
    )


def shipped_text_models() -> list[TextModelRef]:
    """The text models of the shipped languages, the most used first."""
    refs = [find_language(code).recipe.text_model for code in shipped_languages()]
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
