"""Stages tune and domain: a student, and where asked the image tower, learn from images with captions."""

import time
from dataclasses import replace
from pathlib import Path

from langadapt.cleaning.contamination import local_test_sets, without_test_images
from langadapt.data.pairs import join_pairs, load_pairs
from langadapt.data.parallel import distinct, load_parallel
from langadapt.errors import Progress, RecipeError, Report, TrainingError
from langadapt.files.store import cache_folder, fingerprint
from langadapt.files.temporary import take_texts
from langadapt.models import Artifact, LanguageModel, load, read_artifact, write_artifact
from langadapt.models.artifact import environment_facts
from langadapt.models.device import best_device, device_name
from langadapt.models.trainable import blend_changes
from langadapt.models.tuning import ContrastModel, Stage, has_stage, stage_changes, trainable_towers
from langadapt.nn.losses import Temperature
from langadapt.recipes import DomainStage, ParallelRecipe, TuneStage, data_recipe
from langadapt.training.contrast import train_contrast
from langadapt.training.contrast_data import ContrastData, ParallelPool, prepare_pairs
from langadapt.training.distill import RunOptions
from langadapt.training.distill_data import teacher_targets
from langadapt.training.hard_sampling import start_record
from langadapt.training.held_out import held_out_recall
from langadapt.training.run import RunFolder, finished_samples, pairs_source, share_of_work, silent

_BEFORE = {"tune": "the distilled student", "domain": "the student that it began with"}
_FACTS_BEFORE = {"tune": "distilled", "domain": "before"}
"""Under which name an artifact keeps the facts of the run that a stage began with."""


def tune(
    start: Path,
    out: Path,
    *,
    stage: TuneStage,
    report: Report,
    options: RunOptions | None = None,
    images: Path | None = None,
    pairs_fraction: float = 1.0,
) -> Artifact:
    """Tunes a student on pairs and writes the artifact of the tuned one.

    Where no step is better on the held-out pairs than the student that it began with, the artifact is that
    student, and says so (`training.fell_back`). An interrupted run goes on as `distill` does.

    Args:
        start: artifact of the distilled student; for a `DomainStage` also of a tuned one.
        out: folder of the run.
        stage: how; its paths as seen from the current folder. A `DomainStage` is done as stage `domain`: the
            difficulty of the pairs decides how often they are drawn.
        report: told what is done.
        options: device, overwrite, how often a checkpoint is written.
        images: folder at which the image paths of tables start.
        pairs_fraction: share of the training images that is used.

    Raises:
        LangadaptError: bad data or models, methods that fit no tower, a folder that holds another run.
    """
    options = options or RunOptions()
    started = time.perf_counter()
    accelerator = share_of_work(options.device or best_device(), stage.batch_size)
    if not accelerator.is_main_process:
        report = silent
    before = read_artifact(start)
    name: Stage = "domain" if isinstance(stage, DomainStage) else "tune"
    if has_stage(before.weights, "domain"):
        raise TrainingError(f"{start} is adapted to a domain already; begin with the run that it came from")
    if name == "tune" and has_stage(before.weights, "tune"):
        raise TrainingError(f"{start} is tuned already; begin with the distilled run that it came from")
    recipe = before.recipe.model_copy(update={name: stage})
    codes = f"{recipe.code} {recipe.iso639_3}"
    tests = local_test_sets(recipe.evaluate, report)
    found = [load_pairs(name, language=codes, images=images) for name in stage.pairs]
    key = fingerprint(
        stage.model_dump_json(),
        before.digest,
        join_pairs(found).fingerprint,
        pairs_fraction,
        *(test.name for test in tests),
    )
    run = RunFolder(folder=out, key=key, started=started)
    if options.reuse_finished and (done := run.finished()) is not None:
        report(Progress(stage=f"{out}: finished before"))
        return done
    if accelerator.is_main_process:
        run.claim(overwrite=options.overwrite)
    accelerator.wait_for_everyone()
    keep = stage.keep_contaminated
    parts = [without_test_images(part, tests, keep=keep, report=report) for part in found]
    pairs = join_pairs([part.pairs for part in parts])

    loaded = load(start, device=accelerator.device)
    text, image = trainable_towers(loaded.student, loaded.teacher, stage)
    model = ContrastModel(
        text=text,
        image=image,
        temperature=Temperature(start=stage.temperature, loss=stage.loss).to(accelerator.device),
        chunk_size=stage.chunk_size,
    )
    counts = model.parameter_counts()
    share = 100 * counts["trained"] / counts["total"]
    report(Progress(stage=f"trains {counts['trained']:,} weights, {share:.2f} % of both towers"))
    data = prepare_pairs(
        pairs,
        stage=stage,
        teacher=loaded.teacher,
        tokenize=loaded.student.text_model.tokenize,
        fraction=pairs_fraction,
        locked=stage.image == ("locked",),
        report=report,
    )
    data = _with_parallel(data, stage, loaded, report)
    record = None
    if isinstance(stage, DomainStage):
        record = start_record(model, data, stage, run, accelerator=accelerator, report=report)
    facts = train_contrast(
        model,
        data,
        run,
        distill_weight=stage.distill_weight,
        accelerator=accelerator,
        checkpoint_seconds=options.checkpoint_seconds,
        report=report,
        hard=None if record is None else record.sampler,
    )
    fell_back = facts["best_step"] == 0
    weights = dict(before.weights)
    if fell_back:
        report(Progress(stage=f"no step was better than {_BEFORE[name]}: the result is that student"))
    else:
        if isinstance(stage, DomainStage) and stage.blend < 1.0:
            blend_changes(text, stage.blend)
            blend_changes(image, stage.blend)
            facts["held_out_recall"] = held_out_recall(model, data, step=facts["best_step"])[0]
        weights |= stage_changes(name, text, image)
        scale = model.temperature.state_dict()
        weights |= {f"{name}.temperature.{key}": value.cpu() for key, value in scale.items()}
    said = {} if record is None else {"domain": record.facts(model)}
    sources = (
        pairs_source(own, part.pairs, language=recipe.code, contamination=part.contamination)
        for own, part in zip(stage.pairs, parts, strict=True)
    )
    artifact = replace(
        before,
        recipe=recipe,
        weights=weights,
        data=(*before.data, *sources),
        samples=finished_samples(loaded.student, recipe),
        training={
            **facts,
            "fell_back": fell_back,
            "run_key": key,
            "rows": len(data.split.train),
            "images": len({*data.image_ids[data.split.train].tolist()}),
            "held_out_rows": len(data.split.held_out),
            "trained_parameters": counts["trained"],
            "trained_percent": round(share, 3),
            "device": str(accelerator.device),
            "data": {data.pairs.name: data.pairs.fingerprint},
            **said,
            _FACTS_BEFORE[name]: {"digest": before.digest, **before.training},
        },
        environment={**environment_facts(), "device": device_name(accelerator.device)},
    )
    if accelerator.is_main_process:
        write_artifact(out, artifact)
        if record is not None:
            record.write(out)
        run.clean()
    accelerator.wait_for_everyone()
    return artifact


def _with_parallel(
    data: ContrastData, stage: TuneStage, model: LanguageModel, report: Report
) -> ContrastData:
    """Adds what the distillation term learns from: English sides of training captions, and parallel data."""
    if not stage.distill_weight:
        return data
    english: list[str] = []
    target: list[str] = []
    if data.pairs.english is not None:
        english += [data.pairs.english[row] for row in data.split.train]
        target += [data.pairs.texts[row] for row in data.split.train]
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
    pool = ParallelPool(tokens=model.student.text_model.tokenize(target), targets=rows.take(same.index))
    return replace(data, pool=pool, pool_size=stage.distill_batch_size)
