"""Stage distill: the student learns to answer a translation as the teacher answers its English side."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from langadapt.data.batches import AdapterBatch, DistillBatch, Mixture, ahead, language_shares
from langadapt.data.own import english_text
from langadapt.data.parallel import ParallelSentences, load_parallel
from langadapt.data.sources import check_local
from langadapt.data.tokens import by_length
from langadapt.errors import Progress, RecipeError, Report, TrainingError
from langadapt.files.atomic import leaves_no_trace
from langadapt.files.store import cache_folder, fingerprint
from langadapt.metrics.retrieval import mean_recall_text
from langadapt.models import Artifact, load_teacher, read_artifact, resolve_model, write_artifact
from langadapt.models.artifact import (
    BaseModel,
    DataSource,
    Samples,
    data_source,
    environment_facts,
    sample_texts,
)
from langadapt.models.new_pieces import extend_text_model, learn_vocabulary, new_rows
from langadapt.models.student import Student, TextModel, load_text_model
from langadapt.models.trainable import TrainableTower, finish_training
from langadapt.models.tuning import trainable_student
from langadapt.models.vocabulary import Vocabulary
from langadapt.nn.losses import distillation_distance, gather_rows, info_nce, relation_distance
from langadapt.recipes import DistillStage, LanguageRecipe, ParallelRecipe, data_recipe, with_absolute_paths
from langadapt.recipes.find import RecipeFile
from langadapt.training.distill_data import DistillData, DistillRows, SplitBatches, prepare
from langadapt.training.distill_start import settled_adapter, start_from
from langadapt.training.distill_states import Cache
from langadapt.training.loop import Stage, Validation, parameter_groups
from langadapt.training.plan import FitPlan
from langadapt.training.run import Run, RunOptions, open_run, train
from langadapt.training.track import tracked

_VALIDATION_TOKENS = 8192
_TEXT_MODEL_DECAY = 0.005
"""Share of the adapter's weight decay for weights of the text model: strong decay would undo its training."""
_STATED = {"licence", "licence_source"}
"""What a recipe says of a base model that changes nothing in the run."""


@leaves_no_trace
def distill(
    recipe_file: RecipeFile[LanguageRecipe], out: Path, *, report: Report, options: RunOptions | None = None
) -> Artifact:
    """Train an adapter and write its artifact; the same recipe and folder resume an interrupted run.

    Raises:
        LangadaptError: bad data or models, a loss that is not finite, another run in the folder.
    """
    recipe = with_absolute_paths(recipe_file)
    stage = recipe.distill
    run = open_run(out, batch_size=stage.batch_size, options=options, report=report)
    device = run.accelerator.device
    pairs = [data_recipe(ParallelRecipe, name) for name in stage.data]
    stated = [*pairs, *map(english_text, stage.english)]
    for source in stated:
        check_local(source)  # before anything is downloaded
    start = None if stage.start is None else read_artifact(stage.start)
    corpora = [_corpus(source, recipe.codes, run.report) for source in pairs]
    corpora += [_corpus(source, {"en": "en"}, run.report) for source in stated[len(pairs) :]]
    sources = (resolve_model(recipe.teacher), resolve_model(recipe.text_model))
    bits = run.options.state_bits
    key = fingerprint(
        recipe.model_dump_json(
            include={"teacher", "text_model", "adapter", "distill"},
            exclude={"teacher": _STATED, "text_model": _STATED},
        ),
        *(source.revision for source in sources),
        *(corpus.fingerprint for corpus in corpora),
        *([] if start is None else [start.digest]),
        *([] if bits == 16 else [f"states of {bits} bits"]),
    )
    if not run.claim(key):
        return read_artifact(out)
    teacher = load_teacher(sources[0], device=device)
    encoder = load_text_model(sources[1], recipe.text_model, max_tokens=stage.max_tokens, device=device)
    recipe = settled_adapter(encoder, recipe, corpora[: len(pairs)], start, run)
    vocabulary = extend_vocabulary(encoder, recipe, corpora[: len(pairs)], run)
    student, trainable = new_student(encoder, recipe, teacher.dim)
    cache = Cache(
        folder=cache_folder(),
        state_bytes=run.options.state_cache_bytes,
        state_bits=bits,
        settle=lambda fits: run.settled("states-stored", lambda: fits) == "True",
    )
    data = prepare(corpora, stage=stage, teacher=teacher, student=student, cache=cache, report=run.report)
    target_dim = teacher.dim
    del teacher  # its embeddings are in the store; training needs the memory
    shares = np.bincount(data.train.target, minlength=len(data.targets)) / len(data.train)
    if start is None:
        student.adapter.start_at(data.targets.weighted_sum(shares).to(device))
    else:
        start_from(start, student, recipe, *sources)
    with tracked(run.accelerator, out, recipe):
        facts = train(run, distill_stage(student, trainable, data, recipe, run))
    artifact = Artifact(
        recipe=recipe,
        teacher=BaseModel.of(recipe.teacher, sources[0]),
        text_model=BaseModel.of(recipe.text_model, sources[1]),
        target_dim=target_dim,
        weights=finish_training(trainable),
        data=tuple(map(_source, stated, corpora)),
        samples=student_samples(student, recipe),
        training={
            **facts,
            **_data_facts(data, corpora, stage, alone=not pairs),
            **({} if start is None else {"start": start.digest}),
            "state_bits": bits,
            "new_pieces": len(vocabulary.pieces) if vocabulary else 0,
        },
        environment=environment_facts(device),
        vocabulary=vocabulary,
    )
    run.finish(lambda: write_artifact(out, artifact))
    return artifact


def _data_facts(
    data: DistillData, corpora: Sequence[ParallelSentences], stage: DistillStage, *, alone: bool
) -> dict[str, Any]:
    language = data.train.language[: len(data.train) - data.english]
    shares = language_shares(language, stage.language_temperature).round(4).tolist()
    counts = np.bincount(language, minlength=len(data.languages))
    rows = dict(zip(data.languages, counts.tolist(), strict=True))
    several = {"language_rows": rows, "language_shares": dict(zip(data.languages, shares, strict=True))}
    return {
        **(several if len(data.languages) > 1 else {}),
        "rows": len(data.train),
        "english_rows": len(data.train) if alone else data.english,
        "held_out_rows": len(data.held_out),
        "held_out_candidates": int(np.bincount(data.held_out.language).max()) + len(data.rivals),
        "data": {corpus.name: corpus.fingerprint for corpus in corpora},
        "blank_rows": sum(corpus.blank_rows for corpus in corpora),
    }


def _corpus(source: RecipeFile[ParallelRecipe], codes: dict[str, str], report: Report) -> ParallelSentences:
    """Load a corpus; `codes` has the recipe's own code of its language by what the corpus may call it."""
    corpus = load_parallel(source)
    if corpus.language not in codes:
        own = " or ".join(f"'{code}'" for code in codes)
        raise RecipeError(f"{corpus.name} is in '{corpus.language}', the recipe's language is {own}")
    if corpus.blank_rows:
        report(Progress(stage=f"{corpus.name}: {corpus.blank_rows} rows with a blank side left out"))
    return replace(corpus, language=codes[corpus.language])


def new_student(encoder: TextModel, recipe: LanguageRecipe, dim: int) -> tuple[Student, TrainableTower]:
    """Make a student whose new weights start from the recipe's seed."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(recipe.distill.seed)
        student = Student(text_model=encoder, spec=recipe.adapter, target_dim=dim)
    return student, trainable_student(student, recipe.text_model.trains, seed=recipe.distill.seed)


def distill_stage(
    student: Student, trainable: TrainableTower, data: DistillData, recipe: LanguageRecipe, run: Run
) -> Stage[DistillRows]:
    """Describe distillation, for `train` and for the doctor's timing."""
    spec, accelerator = recipe.distill, run.accelerator
    lengths = data.tokens.lengths[data.train.text]
    language = data.train.language[: len(data.train) - data.english]
    mixture = Mixture(lengths=lengths, english=data.english, language=language, stage=spec)
    if len(mixture.drawn) > 1:
        shares = zip(data.languages, mixture.drawn / mixture.drawn.sum(), strict=True)
        parts = ", ".join(f"{code} {share:.0%}" for code, share in shares)
        run.report(Progress(stage=f"languages: {parts} (temperature {spec.language_temperature:g})"))
    run.report(Progress(stage=mixture.describe()))

    def batches(epoch: int, first: int) -> Iterator[DistillRows]:
        order = mixture.batches(epoch, first)
        # On a CPU the thread that reads ahead takes a core from the step: a third slower, measured.
        on_cpu = accelerator.device.type == "cpu"
        yield from map(own_share, order) if on_cpu else ahead(own_share, order, count=2)

    def own_share(rows: NDArray[np.int64]) -> DistillRows:
        # All processes get equally many, or one would wait for rows that never come.
        even = rows[: len(rows) // accelerator.num_processes * accelerator.num_processes]
        return batch_of(even[accelerator.process_index :: accelerator.num_processes])

    def batch_of(rows: NDArray[np.int64]) -> DistillRows:
        return data.batch(data.train, rows)

    contrastive, dropout = spec.info_nce_weight > 0, recipe.adapter.dropout > 0
    split = SplitBatches(batch_of, contrastive=contrastive, dropout=dropout, report=run.report)

    anchors = data.anchors.to(accelerator.device)

    def loss(model: nn.Module, batch: AdapterBatch | DistillBatch) -> Tensor:
        return distill_loss(model, batch, anchors, spec, run)

    return Stage(
        name="distil",
        module=student,
        groups=parameter_groups(_weights(student, trainable, recipe)),
        plan=FitPlan.of(spec, epochs=spec.epochs, steps_per_epoch=mixture.steps * mixture.passes),
        batches=batches,
        loss=loss,
        examples_per_step=spec.batch_size,
        shrink=split.shrink,
        micro_batches=split.micro_batches,
        prepare=lambda batch: data.prepared(batch, student),
        recordable=student.states_are_fixed,
        describe=lambda batch: student.text_model.first_texts(data.tokens, batch.texts),
        validate=lambda model, step: validate_texts(student, data, step=step),
        chosen_by_loss=True,
    )


def _weights(
    student: Student, trainable: TrainableTower, recipe: LanguageRecipe
) -> Iterator[tuple[nn.Parameter, float, float]]:
    """Yield weights with learning rate and decay: rows of new tokens, adapter, text model."""
    new, extension = new_rows(student.text_model), recipe.text_model.extend_vocabulary
    if new is not None and extension is not None:
        yield new, extension.learning_rate, 0.0
    trained = {name: value for name, value in trainable.trained().items() if value is not new}
    stage = recipe.distill
    parts = {
        "adapter": (stage.learning_rate, stage.weight_decay),
        "text_model": (recipe.text_model.learning_rate, stage.weight_decay * _TEXT_MODEL_DECAY),
    }
    for module, (rate, decay) in parts.items():
        for name, value in trained.items():
            if name.startswith(f"{module}."):
                # Decay would move the rows of embeddings that no text of this language touches.
                decays = value.dim() > 1 and name != trainable.table
                yield value, rate, decay if decays else 0.0


def distill_loss(
    model: nn.Module, batch: AdapterBatch | DistillBatch, anchors: Tensor, stage: DistillStage, run: Run
) -> Tensor:
    """Distance from the teacher, alone and in relation to anchors, and contrast over all processes' rows."""
    with run.accelerator.autocast():
        embedded = embed_batch(model, batch)
    # Each process sees the whole batch: its rows are one another's negatives.
    targets = gather_rows(batch.targets.to(embedded.device))
    # Outside autocast: equal targets are recognised by their product, which needs float32.
    student = gather_rows(embedded.float())
    value = distillation_distance(student, targets, stage.distance)
    if stage.relation_weight:
        relations = relation_distance(student, targets, anchors, stage.relation_temperature)
        value = value + stage.relation_weight * relations
    if stage.info_nce_weight:
        value = value + stage.info_nce_weight * info_nce(student, targets, stage.temperature)
    return value


def embed_batch(model: nn.Module, batch: AdapterBatch | DistillBatch) -> Tensor:
    """Embed the texts of a prepared batch with a student: `[B, D]`, not normalised."""
    given = (batch.layout, batch.states) if isinstance(batch, AdapterBatch) else (batch.text,)
    embedded: Tensor = model(*given)
    return embedded


@torch.inference_mode()
def validate_texts(model: Student, data: DistillData, *, step: int) -> Validation:
    """Mean of recall@1, 5 and 10 of the held-out texts, and their mean cosine distance from the teacher.

    Each language's are looked for among the teacher's embeddings of their own English and of `data.rivals`;
    of several languages the recall is the mean. A TrainingError where an embedding is not finite.
    """
    examples = data.held_out
    out = torch.zeros(len(examples), data.targets.dim)
    for rows in by_length(data.tokens.lengths[examples.text], batch_tokens=_VALIDATION_TOKENS):
        batch = data.prepared(data.batch(examples, np.ascontiguousarray(rows)), model)
        out[torch.from_numpy(np.ascontiguousarray(rows))] = embed_batch(model, batch).float().cpu()
    if not torch.isfinite(out).all():
        raise TrainingError(
            f"the student's embeddings are not finite after step {step}; the last checkpoint is kept: "
            "lower distill.learning_rate or text_model.learning_rate"
        )
    targets, rivals = data.targets.take(examples.target), data.targets.take(data.rivals)
    recalls = {}
    for number, code in enumerate(data.languages):
        own = torch.from_numpy(examples.language == number)
        recalls[code] = mean_recall_text(out[own], targets[own], rivals)
    return Validation(
        recall=sum(recalls.values()) / len(recalls),
        loss=1 - float(torch.nn.functional.cosine_similarity(out, targets).mean()),
        languages=recalls if len(recalls) > 1 else None,
    )


def extend_vocabulary(
    text_model: TextModel, recipe: LanguageRecipe, corpora: Sequence[ParallelSentences], run: Run
) -> Vocabulary | None:
    """Add subword tokens, learnt on the target sides, to a text model; a resumed run reads them."""
    extension = recipe.text_model.extend_vocabulary
    if extension is None:
        return None

    def learnt() -> str:
        target = (text for corpus in corpora for text in corpus.target)
        english = (text for corpus in corpora for text in corpus.english)
        return learn_vocabulary(text_model, target, english, pieces=extension.pieces).to_json()

    vocabulary = Vocabulary.from_json(run.settled("vocabulary.json", learnt))
    extend_text_model(text_model, vocabulary, seed=recipe.distill.seed)
    letters = sum(piece.merge is None for piece in vocabulary.pieces)
    run.report(Progress(stage=f"tokenizer: {len(vocabulary.pieces)} new pieces, {letters} of them letters"))
    return vocabulary


def _source(recipe_file: RecipeFile[ParallelRecipe], corpus: ParallelSentences) -> DataSource:
    return replace(
        data_source(recipe_file.recipe, language=corpus.language),
        rows=len(corpus.english),
        blank_rows=corpus.blank_rows,
        fingerprint=corpus.fingerprint,
        contamination=corpus.contamination,
    )


def student_samples(student: Student, recipe: LanguageRecipe) -> Samples:
    """Embed sample texts on the CPU in float32; the student stays there."""
    texts = sample_texts(recipe)
    return Samples(texts=texts, embeddings=student.to("cpu").encode(texts, exact=True))
