"""Stages align, tune and domain: text tower and image tower learn from images with captions."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from langadapt.data.batches import ContrastBatch
from langadapt.data.pairs import Pairs, join_pairs, load_pairs, pairs_recipe
from langadapt.data.parallel import distinct, load_parallel
from langadapt.errors import Progress, RecipeError, Report, TrainingError
from langadapt.files.atomic import leaves_no_trace
from langadapt.files.store import cache_folder, fingerprint
from langadapt.files.temporary import take_texts
from langadapt.models import (
    Artifact,
    LanguageModel,
    read_artifact,
    resolve_model,
    write_artifact,
)
from langadapt.models.artifact import (
    BaseModel,
    DataSource,
    Samples,
    data_source,
    environment_facts,
    sample_texts,
)
from langadapt.models.language_model import assemble
from langadapt.models.teacher import pooled_teacher
from langadapt.models.trainable import TrainableTower, blend_changes
from langadapt.models.tuning import ContrastModel, has_stage, stage_changes, trainable_towers
from langadapt.nn.losses import Temperature, distillation_distance, duplicates, gather_rows
from langadapt.recipes import (
    AlignStage,
    ContrastStage,
    DomainStage,
    LanguageRecipe,
    ParallelRecipe,
    TuneStage,
    data_recipe,
)
from langadapt.training.contrast import (
    CONTRASTS,
    ContrastData,
    ParallelPool,
    Share,
    is_locked,
    prepare_pairs,
    validate_pairs,
)
from langadapt.training.distill_data import teacher_targets
from langadapt.training.hard_sampling import HardSampler, start_record
from langadapt.training.loop import Stage, parameter_groups
from langadapt.training.plan import FitPlan
from langadapt.training.run import Run, RunOptions, open_run, train
from langadapt.training.track import tracked

_BEFORE = {"tune": "the distilled student", "domain": "the student that it began with"}
_FACTS_BEFORE = {"tune": "distilled", "domain": "before"}
"""Under which name an artifact keeps the facts of the run that a stage began with."""


@leaves_no_trace
def tune(
    start: Path,
    out: Path,
    *,
    stage: TuneStage,
    report: Report,
    options: RunOptions | None = None,
    pairs_fraction: float = 1.0,
) -> Artifact:
    """Tune a student on pairs and write the artifact of the tuned one.

    If no step is better on the held-out pairs than the start, the artifact is the student that it began with
    (`training.fell_back`). An interrupted run continues as `distill` does. `start` is a distilled student,
    for a `DomainStage`, which draws pairs by difficulty, also a tuned one.

    Raises:
        LangadaptError: bad data or models, methods that fit no tower, another run in the folder.
    """
    run = open_run(out, batch_size=stage.batch_size, options=options, report=report)
    before = read_artifact(start)
    if has_stage(before.weights, "domain"):
        raise TrainingError(f"{start} is adapted to a domain already; begin with the run that it came from")
    if stage.name == "tune" and has_stage(before.weights, "tune"):
        raise TrainingError(f"{start} is tuned already; begin with the run that it came from")
    recipe = before.recipe.model_copy(update={stage.name: stage})
    return _train(run, before, recipe, stage, pairs_fraction)


@leaves_no_trace
def align(
    recipe: LanguageRecipe, out: Path, *, report: Report, options: RunOptions | None = None
) -> Artifact:
    """Train a dual encoder of two encoders that have never met, and write its artifact.

    `recipe.teacher` is the vision encoder, `recipe.text_model` the text encoder, `recipe.align` the stage.
    The artifact loads as every other; a recipe can name its folder as teacher.

    Raises:
        LangadaptError: bad data or models, methods that fit no tower, another run in `out`, nothing learned.
    """
    stage = recipe.align
    assert stage is not None
    run = open_run(out, batch_size=stage.batch_size, options=options, report=report)
    sources = resolve_model(recipe.teacher), resolve_model(recipe.text_model)
    before = Artifact(
        recipe=recipe,
        teacher=BaseModel.of(recipe.teacher, sources[0]),
        text_model=BaseModel.of(recipe.text_model, sources[1]),
        target_dim=stage.dim,
        weights={},
    )
    return _train(run, before, recipe, stage, 1.0)


def _train(
    run: Run, before: Artifact, recipe: LanguageRecipe, stage: ContrastStage, fraction: float
) -> Artifact:
    from langadapt.cleaning.contamination import local_test_sets, without_test_images  # `distill` needs none

    out = run.folder
    tests = local_test_sets(recipe.evaluate, run.report)
    found = [
        load_pairs(source, language=" ".join(recipe.codes), images=run.options.images)
        for source in stage.pairs
    ]
    key = fingerprint(
        stage.model_dump_json(),
        before.digest,
        before.teacher.revision,
        before.text_model.revision,
        join_pairs(found).fingerprint,
        fraction,
        *(test.name for test in tests),
    )
    if not run.claim(key):
        return read_artifact(out)
    keep = stage.keep_contaminated
    parts = [without_test_images(part, tests, keep=keep, report=run.report) for part in found]
    loaded = assemble(before, device=run.accelerator.device)
    if isinstance(stage, AlignStage) and stage.pooling == "auto":  # the artifact says what the folder said
        stage = stage.model_copy(update={"pooling": loaded.teacher.module.pooling})
        recipe = recipe.model_copy(update={"align": stage})
    text, image = trainable_towers(loaded.student, loaded.teacher, stage)
    model = contrast_model(text, image, stage, device=run.accelerator.device)
    data = _prepare([pairs for pairs, _ in parts], stage, loaded, fraction, run.report)
    record = start_record(model, data, stage, run) if isinstance(stage, DomainStage) else None
    with tracked(run.accelerator, out, recipe):
        facts = train_contrast(model, data, run, None if record is None else record.sampler)
    changes = _changes(model, data, facts, run)
    sources = (caption_source(own, *part, recipe) for own, part in zip(stage.pairs, parts, strict=True))
    if record is not None:
        facts["domain"] = record.facts(model)
        if run.is_main:
            record.write(out)
    earlier = _FACTS_BEFORE.get(stage.name)
    artifact = replace(
        before,
        recipe=recipe,
        target_dim=loaded.dim,
        weights={**before.weights, **changes},
        data=(*before.data, *sources),
        samples=_samples(loaded, recipe),
        training={
            **facts,
            "fell_back": not changes,
            "data": {data.pairs.name: data.pairs.fingerprint},
            **({earlier: {"digest": before.digest, **before.training}} if earlier else {}),
        },
        environment=environment_facts(run.accelerator.device),
    )
    run.finish(lambda: write_artifact(out, artifact))
    return artifact


def _samples(model: LanguageModel, recipe: LanguageRecipe) -> Samples:
    """Embed sample texts on the CPU in float32; the towers stay there."""
    (model.student or model.teacher.module).to("cpu").eval()
    texts = sample_texts(recipe)
    return Samples(texts=texts, embeddings=model.encode_text(list(texts), exact=True))


def contrast_model(
    text: TrainableTower, image: TrainableTower, stage: ContrastStage, *, device: torch.device
) -> ContrastModel:
    """Join both towers and a new temperature.

    Stored rows of a locked encoder go through the new projection that `align` trains behind it.
    """
    head = image.tower.projection if isinstance(stage, AlignStage) and is_locked(stage) else None
    return ContrastModel(
        text=text,
        image=image,
        temperature=Temperature(start=stage.temperature, loss=stage.loss).to(device),
        chunk_size=stage.chunk_size,
        image_head=head,
    )


def _prepare(
    parts: list[Pairs], stage: ContrastStage, model: LanguageModel, fraction: float, report: Report
) -> ContrastData:
    """Prepare pairs, and for the distillation term captions with English sides and parallel data."""
    behind = isinstance(stage, AlignStage) and is_locked(stage)
    data = prepare_pairs(
        join_pairs(parts),
        stage=stage,
        teacher=pooled_teacher(model.teacher) if behind else model.teacher,
        tokenize=model.text.tokenize,
        fraction=fraction,
        report=report,
    )
    if not isinstance(stage, TuneStage) or not stage.distill_weight:
        return data
    sides, train = data.pairs.english, data.split.train
    english = [] if sides is None else [sides[row] for row in train]
    target = [] if sides is None else [data.pairs.texts[row] for row in train]
    for name in stage.distill_data:
        corpus = load_parallel(data_recipe(ParallelRecipe, name))
        english += corpus.english
        target += corpus.target
    if not english:
        raise RecipeError(
            f"tune.distill_weight is {stage.distill_weight}, but {data.pairs.name} has no English sides; add "
            "a column `english`, or name parallel data: tune.distill_data"
        )
    same = distinct(english)
    rows = teacher_targets(take_texts(english, same.first), model.teacher, cache_folder(), report)
    pool = ParallelPool(
        tokens=model.text.tokenize(target),
        targets=rows.take(same.index),
        batch_size=stage.distill_batch_size,
        weight=stage.distill_weight,
    )
    return replace(data, pool=pool)


def train_contrast(
    model: ContrastModel, data: ContrastData, run: Run, sampler: HardSampler | None = None
) -> dict[str, Any]:
    """Train both towers and leave the best weights in them; return the facts of the run, as `train` does."""
    return {
        **train(run, contrast_stage(model, data, run, sampler)),
        "rows": len(data.split.train),
        "images": len({*data.image_ids[data.split.train].tolist()}),
        "held_out_rows": len(data.split.held_out),
    }


def contrast_stage(
    model: ContrastModel, data: ContrastData, run: Run, sampler: HardSampler | None
) -> Stage[ContrastBatch]:
    """Contrastive training; a `sampler` draws or weighs pairs by their difficulty."""
    spec, accelerator = data.stage, run.accelerator
    share = Share(index=accelerator.process_index, count=accelerator.num_processes)

    def batches(epoch: int, first: int) -> Iterator[ContrastBatch]:
        order = None if sampler is None else sampler.order(epoch, first)
        return data.batches(epoch, first, share, order=order)

    def loss(trained: nn.Module, batch: ContrastBatch) -> Tensor:
        with accelerator.autocast():
            embedded = trained(batch)
        # Outside autocast, as the ids are whole numbers and the products must not round.
        text, image = gather_rows(embedded.text.float()), gather_rows(embedded.image.float())
        ignored = duplicates(batch.image_ids, batch.caption_ids).to(text.device)
        logits = model.temperature(text @ image.T)
        weights = None
        if sampler is not None:
            sampler.measure(batch.pairs, logits, ignored)
            weights = sampler.weights(batch.pairs, logits.device)
        value = CONTRASTS[spec.loss](logits, ignored, weights)
        if data.pool is not None and batch.parallel is not None:
            targets = batch.parallel.targets.to(text.device)
            term = distillation_distance(embedded.parallel.float(), targets, "cosine")
            value = value + data.pool.weight * term
        return value

    def halve_chunks(batch: ContrastBatch) -> bool:
        if model.chunk_size <= 1:
            return False
        model.chunk_size //= 2
        run.report(
            Progress(
                stage=f"out of memory: both towers now run in chunks of {model.chunk_size} rows; the loss "
                "still sees the whole batch, and the result is the same up to rounding and dropout"
            )
        )
        return True

    return Stage(
        name="tune",
        module=model,
        groups=parameter_groups(_weights(model, spec)),
        plan=FitPlan.of(spec, epochs=spec.epochs, steps_per_epoch=data.steps_per_epoch),
        batches=batches,
        loss=loss,
        examples_per_step=min(spec.batch_size, len(data.split.train)),
        shrink=halve_chunks,
        describe=lambda batch: f"images {', '.join(map(str, batch.image_ids[:5].tolist()))}, ...",
        validate=lambda trained, step: validate_pairs(trained, data, step=step),
        patience_epochs=spec.patience_epochs,
        sampler=sampler,
    )


def _weights(model: ContrastModel, stage: ContrastStage) -> Iterator[tuple[nn.Parameter, float, float]]:
    """Yield weights with learning rate and decay: two rates, decay for matrices but not token embeddings."""
    for tower in (model.text, model.image):
        for name, value in tower.trained().items():
            rate = stage.pretrained_learning_rate if name in tower.slow else stage.learning_rate
            yield value, rate, stage.weight_decay if value.dim() > 1 and name != tower.table else 0.0
    for value in model.temperature.parameters():
        yield value, stage.learning_rate, 0.0


def _changes(model: ContrastModel, data: ContrastData, facts: dict[str, Any], run: Run) -> dict[str, Tensor]:
    """Changes by their names in an artifact, after the blend; none if no step was better than the start."""
    stage = data.stage
    if facts["best_step"] == 0 and isinstance(stage, AlignStage):
        raise TrainingError(
            f"{run.folder}: no step was better than new projections; give more pairs or epochs"
        )
    if facts["best_step"] == 0:
        line = f"no step was better than {_BEFORE[stage.name]}: the result is that student"
        run.report(Progress(stage=line))
        return {}
    if isinstance(stage, DomainStage) and stage.blend < 1.0:
        blend_changes(model.text, stage.blend)
        blend_changes(model.image, stage.blend)
        facts["held_out_recall"] = validate_pairs(model, data, step=facts["best_step"]).recall
    scale = {f"{stage.name}.temperature.{k}": v.cpu() for k, v in model.temperature.state_dict().items()}
    return stage_changes(stage.name, model.text, model.image) | scale


def caption_source(name: str, pairs: Pairs, contamination: str, recipe: LanguageRecipe) -> DataSource:
    """Say what pairs are; their language is their own, of several in the recipe."""
    captions = pairs_recipe(name).recipe
    source = data_source(captions, language=recipe.codes.get(captions.language, recipe.code))
    rows = len(pairs.texts)
    return replace(source, rows=rows, fingerprint=pairs.fingerprint, contamination=contamination)
