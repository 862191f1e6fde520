"""Examine a language recipe and what of it is on this machine."""

import os
import shutil
import tempfile
import unicodedata
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from huggingface_hub import snapshot_download
from huggingface_hub.errors import HFValidationError, LocalEntryNotFoundError

from langadapt.cleaning.build import PAIRS, BuildPlan, build_parallel
from langadapt.cleaning.chunks import Source
from langadapt.cleaning.contamination import Captions, test_captions
from langadapt.data.batches import steps_per_epoch
from langadapt.data.parallel import distinct, parallel_rows
from langadapt.data.readers import read_table
from langadapt.data.tokens import Tokens
from langadapt.doctor.timing import seconds, seconds_of_step
from langadapt.doctor.verdict import Candidate, Coverage, Estimate, Findings, Licences, Pairs
from langadapt.errors import MissingDataError, ModelError, Progress, Report
from langadapt.files.store import cache_folder
from langadapt.files.temporary import take_texts
from langadapt.hub.licences import licence_sum, objections
from langadapt.models import Student, Teacher, TextModel, load_teacher, load_text_model
from langadapt.models.artifact import BaseModel, data_source
from langadapt.models.load import ResolvedModel, device_name, load_tokenizer, resolve_model
from langadapt.models.new_pieces import extend_text_model, learn_vocabulary
from langadapt.models.towers import MODEL_FILES
from langadapt.models.trainable import TrainableTower
from langadapt.recipes import LanguageRecipe, ModelRef, ParallelRecipe, TextModelRef, data_recipe
from langadapt.recipes.find import RecipeFile, find_language, shipped_languages, with_absolute_paths
from langadapt.training.distill import distill_stage, new_student
from langadapt.training.distill_data import DistillData, Examples, teacher_targets
from langadapt.training.distill_start import ALIGNED_PERCENT, alignment
from langadapt.training.distill_states import DISK_BYTES, Cache, free_memory, frozen_states
from langadapt.training.loop import start_fit
from langadapt.training.run import RunOptions, open_run

_SAMPLE = 2_000
"""Sentences on which tokenizers are measured, spread over all clean pairs."""
_CANDIDATE_TOKENS = 77
_PROBE_TEXTS = 256
_PROBE_BATCH = 64


@dataclass(frozen=True, kw_only=True)
class _Sample:
    target: tuple[str, ...]
    english: tuple[str, ...] | None
    what: str


def examine(
    recipe_file: RecipeFile[LanguageRecipe], *, named: str, device: torch.device, report: Report
) -> Findings:
    """Examine data, tokenizers, licences, time and disk on `device`; train nothing and keep nothing.

    `named` is how the command line names the recipe: `--lang sw`. A file that is here and wrong is a
    LangadaptError; what is merely absent is a finding.
    """
    recipe = with_absolute_paths(recipe_file)
    corpora = [data_recipe(ParallelRecipe, name) for name in recipe.distill.data]
    here, missing = [], []
    for corpus in corpora:
        try:
            next(iter(parallel_rows(corpus)))
            here.append(corpus)
        except MissingDataError as error:  # what is here and wrong is for the user to mend
            missing.append(str(error))
    captions, missing_tests = test_captions(recipe_file)
    with tempfile.TemporaryDirectory() as folder:
        built = Path(folder) / "clean"
        pairs = _pairs(recipe, here, captions, built, report) if here else None
        sample = _sample(recipe, built / PAIRS if pairs else None, captions)
    teacher, text_model = _model(recipe.teacher), _model(recipe.text_model)
    report(Progress(stage="text models"))
    candidates = examine_candidates(recipe.text_model, text_model, sample.target, sample.english, device)
    estimated, reason, aligned = None, None, candidates[0].alignment
    if isinstance(teacher, str) or isinstance(text_model, str):
        reason = "; ".join(model for model in (teacher, text_model) if isinstance(model, str))
    elif pairs is not None and sample.english is not None:
        report(Progress(stage="probe"))
        limit = recipe.distill.max_tokens
        encoder = load_text_model(text_model, recipe.text_model, max_tokens=limit, device=device)
        states = encoder.state_count if (aligned or 0.0) >= ALIGNED_PERCENT else None
        spec = recipe.adapter.settled(aligned_states=states)
        recipe = recipe.model_copy(update={"adapter": spec})
        estimated = _probe(recipe, load_teacher(teacher, device=device), encoder, sample, pairs.kept)
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
        alignment=aligned,
    )


def _pairs(
    recipe: LanguageRecipe,
    corpora: Sequence[RecipeFile[ParallelRecipe]],
    captions: Sequence[Captions],
    out: Path,
    report: Report,
) -> Pairs:
    """Clean all that is here into a folder that is removed again."""
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


def _model(ref: ModelRef) -> ResolvedModel | str:
    try:
        return resolve_model(ref)
    except ModelError as error:
        return str(error)


def _probe(recipe: LanguageRecipe, teacher: Teacher, encoder: TextModel, own: _Sample, rows: int) -> Estimate:
    """Time the real work of `distill` on a few texts, and count for all `rows` pairs."""
    assert own.english is not None
    english, target = list(own.english[:_PROBE_TEXTS]), list(own.target[:_PROBE_TEXTS])
    stage, device = recipe.distill, encoder.device
    if (extension := recipe.text_model.extend_vocabulary) is not None:
        vocabulary = learn_vocabulary(encoder, target, english, pieces=extension.pieces)
        extend_text_model(encoder, vocabulary, seed=stage.seed)
    student, trainable = new_student(encoder, recipe, teacher.dim)
    texts, tokens = int(rows * (1 + stage.identity_fraction)), encoder.tokenize(target)
    width = encoder.check_layers(student.layers) * encoder.state_dim
    state_bytes = int(texts * float(tokens.lengths.mean()) * width * 2)
    memory = free_memory(device) // 2
    cached = student.states_are_fixed and state_bytes <= max(DISK_BYTES, memory)
    few, originals = np.arange(min(_PROBE_BATCH, len(target))), teacher.tokenize(english)
    per_text = seconds(lambda: teacher.text.run(originals, few), device) / len(few)
    per_state = seconds(lambda: student.frozen_states.run(tokens, few), device) / len(few) if cached else 0.0
    per_step = _step_seconds(recipe, trainable, teacher, english, tokens, cached=cached)
    trained, one_pass = student.parameter_counts()["trained"], steps_per_epoch(texts, stage.batch_size)
    steps = stage.epochs * stage.passes(one_pass) * one_pass
    cache = cache_folder()
    return Estimate(
        device=device_name(device),
        sample=len(target),
        trained_parameters=trained,
        teacher_seconds=rows * per_text,
        states_seconds=texts * per_state,
        train_seconds=steps * per_step,
        steps=steps,
        store_bytes=rows * teacher.dim * 4 + (state_bytes if cached and state_bytes > memory else 0),
        artifact_bytes=trained * 2,
        free_bytes=shutil.disk_usage(next(path for path in (cache, *cache.parents) if path.is_dir())).free,
    )


def _step_seconds(
    recipe: LanguageRecipe,
    trainable: TrainableTower,
    teacher: Teacher,
    english: list[str],
    tokens: Tokens,
    *,
    cached: bool,
) -> float:
    """Time a step of the optimizer loop, as `distill` takes it."""
    silent: Report = lambda progress: None  # noqa: E731
    student, size = trainable.tower.module, recipe.distill.batch_size
    assert isinstance(student, Student)
    device = student.text_model.device
    some, same = np.resize(np.arange(len(tokens)), 3 * size), distinct(english)
    with tempfile.TemporaryDirectory() as folder:
        options = RunOptions(device=device)
        run = open_run(Path(folder), batch_size=size, options=options, report=silent)
        cache = Cache(folder=run.folder, state_bytes=None if cached else 0)
        data = DistillData(
            tokens=tokens,
            targets=teacher_targets(take_texts(english, same.first), teacher, cache.folder, silent),
            states=frozen_states(tokens, student, cache, silent),
            train=Examples(text=some, target=same.index[some], language=np.zeros_like(some)),
            held_out=Examples(text=some[:0], target=some[:0], language=some[:0]),
            device=device,
        )
        stage = distill_stage(student, trainable, data, recipe, run)
        plan = replace(stage.plan, epochs=max(4, stage.plan.epochs))  # two of them warm up
        return seconds_of_step(start_fit(replace(stage, plan=plan), run.accelerator))


def _licences(recipe: LanguageRecipe, corpora: Sequence[RecipeFile[ParallelRecipe]]) -> Licences:
    data = [data_source(item.recipe, language=item.recipe.language) for item in corpora]
    models = [BaseModel.of(ref) for ref in (recipe.teacher, recipe.text_model)]
    trains = recipe.text_model.trains != ("locked",) or recipe.text_model.extend_vocabulary is not None
    total = licence_sum(data, models)
    return Licences(
        stated={**{s.name: s.licence for s in data}, **{m.repo: m.licence for m in models}},
        together=total.name or total.licence,
        commercial=total.commercial,
        unknown=total.unknown,
        noncommercial=total.noncommercial,
        objections=tuple(objections(data, [models[1]] if trains else [])),
    )


def examine_candidates(
    own: TextModelRef,
    model: ResolvedModel | str,
    target: Sequence[str],
    english: Sequence[str] | None,
    device: torch.device,
) -> list[Candidate]:
    """Measure the recipe's own text model first, then those of the shipped languages, the most used first.

    `model` is where the own one lies, or why it is missing; `target` sentences are not empty.
    """

    def measured(ref: TextModelRef, model: ResolvedModel | str) -> Candidate:
        coverage, aligned, missing = None, None, str(model)
        if isinstance(model, ResolvedModel):
            # The language code of another language's recipe would not fit: it adds a token only.
            options = {"src_lang": ref.tokenizer_language} if ref.tokenizer_language and ref is own else {}
            try:
                coverage = measure_coverage(load_tokenizer(model, **options), target, english)
                if english:
                    encoder = load_text_model(model, ref, max_tokens=_CANDIDATE_TOKENS, device=device)
                    aligned = alignment(encoder, english, target)
            except ModelError as error:
                missing = str(error)
        return Candidate(
            repo=ref.repo,
            revision=ref.revision if isinstance(model, str) else model.revision,
            own=ref is own,
            licence=ref.licence,
            coverage=coverage,
            alignment=aligned,
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
