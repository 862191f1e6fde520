"""Stage distill: the student learns to answer a translation as the teacher answers its English side."""

import json
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator
from numpy.typing import NDArray
from torch import Tensor, nn

from langadapt.data.batches import DistillBatch, ahead, epoch_batches, steps_per_epoch
from langadapt.data.parallel import ParallelSentences, load_parallel
from langadapt.data.tokens import by_length
from langadapt.errors import Progress, RecipeError, Report, TrainingError
from langadapt.files.atomic import write_text
from langadapt.files.store import cache_folder, fingerprint
from langadapt.metrics.retrieval import mean_recall_text
from langadapt.models import (
    Artifact,
    Student,
    TextModel,
    load_teacher,
    load_text_model,
    resolve_model,
    write_artifact,
)
from langadapt.models.artifact import environment_facts
from langadapt.models.device import best_device, device_name
from langadapt.models.new_pieces import extend_text_model, learn_vocabulary, new_rows
from langadapt.models.trainable import TrainableTower, finish_training
from langadapt.models.tuning import trainable_student
from langadapt.models.vocabulary import Vocabulary
from langadapt.nn import distillation_distance, info_nce
from langadapt.nn.losses import gather_rows
from langadapt.recipes import DistillStage, LanguageRecipe, ParallelRecipe, data_recipe, with_absolute_paths
from langadapt.recipes.find import RecipeFile
from langadapt.training.distill_data import DistillData, Examples, StateBits, prepare
from langadapt.training.loop import FitPlan, FitState, fit, start_fit
from langadapt.training.memory import CutBatches
from langadapt.training.run import (
    RunFolder,
    base_model,
    finished_samples,
    load_checkpoint,
    parallel_source,
    save_checkpoint,
    share_of_work,
    silent,
    trained_parameters,
)

_STATED = {"licence", "licence_source"}

"""What a recipe says of a base model that changes nothing in the run."""


@dataclass(frozen=True, kw_only=True)
class RunOptions:
    """What a recipe should not hold."""

    state_cache_bytes: int = 8_000_000_000
    state_bits: StateBits = 16
    device: torch.device | None = None
    """None takes the best one."""
    overwrite: bool = False
    """Start again in a folder that holds another run."""
    checkpoint_seconds: float = 300.0
    """A checkpoint is written this often, and at the end of each epoch."""
    reuse_finished: bool = False
    """Take a finished run of the same recipe, data and models for the result (tune and domain)."""


def distill(
    found: RecipeFile[LanguageRecipe], out: Path, *, report: Report, options: RunOptions | None = None
) -> Artifact:
    """Trains an adapter and writes its artifact.

    An interrupted run goes on where its last checkpoint stands when it is started again with the same
    recipe and folder; a finished one is refused.

    Args:
        found: the language recipe and where it lies.
        out: folder of the run: artifact, `log.jsonl`, and until it ends its checkpoint.
        report: told what is done.
        options: device, cache budget, overwrite.

    Raises:
        LangadaptError: bad data or models, a loss that is not finite, a folder that holds another run.
    """
    options = options or RunOptions()
    recipe = with_absolute_paths(found)
    stage = recipe.distill
    started = time.perf_counter()
    accelerator = share_of_work(options.device or best_device(), stage.batch_size)
    device = accelerator.device
    if not accelerator.is_main_process:
        report = silent
    stated = [data_recipe(ParallelRecipe, name) for name in stage.data]
    corpora = [load_parallel(found_data) for found_data in stated]
    for corpus in corpora:
        if corpus.language not in (recipe.code, recipe.iso639_3):
            raise RecipeError(
                f"{corpus.name} is in '{corpus.language}', the recipe's language is '{recipe.code}'"
            )
        if corpus.blank_rows:
            report(Progress(stage=f"{corpus.name}: {corpus.blank_rows} rows with a blank side left out"))
    teacher_source = resolve_model(recipe.teacher)
    text_source = resolve_model(recipe.text_model)
    key = fingerprint(
        recipe.model_dump_json(
            include={"teacher", "text_model", "adapter", "distill"},
            exclude={"teacher": _STATED, "text_model": _STATED},
        ),
        teacher_source.revision,
        text_source.revision,
        *(c.fingerprint for c in corpora),
        *([] if options.state_bits == 16 else [f"states of {options.state_bits} bits"]),
    )
    run = RunFolder(folder=out, key=key, started=started)
    if accelerator.is_main_process:
        run.claim(overwrite=options.overwrite)
    accelerator.wait_for_everyone()

    teacher = load_teacher(teacher_source, device=device)
    encoder = load_text_model(text_source, recipe.text_model, max_tokens=stage.max_tokens, device=device)
    vocabulary = extend_vocabulary(encoder, recipe, corpora, run, accelerator=accelerator, report=report)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(stage.seed)
        student = Student(text_model=encoder, spec=recipe.adapter, target_dim=teacher.dim)
    trainable = trainable_student(student, recipe.text_model.trains, seed=stage.seed)
    counts = student.parameter_counts()
    share = 100 * counts["trained"] / counts["total"]
    report(Progress(stage=f"adapter: {counts['trained']:,} trained weights, {share:.1f} % of the student"))
    data = prepare(
        corpora,
        stage=stage,
        teacher=teacher,
        student=student,
        cache=cache_folder(),
        state_cache_bytes=options.state_cache_bytes,
        state_bits=options.state_bits,
        report=report,
    )
    target_dim = teacher.dim
    del teacher  # its answers are in the store; training needs the memory
    shares = np.bincount(data.train.target, minlength=len(data.targets)) / len(data.train)
    student.adapter.start_at(data.targets.weighted_sum(shares).to(device))
    best = _train(student, trainable, data, recipe, run, report, accelerator, options.checkpoint_seconds)
    artifact = Artifact(
        recipe=recipe,
        teacher=base_model(teacher_source, recipe.teacher),
        text_model=base_model(text_source, recipe.text_model),
        target_dim=target_dim,
        weights=finish_training(trainable),
        data=tuple(map(parallel_source, stated, corpora)),
        samples=finished_samples(student, recipe),
        training={
            **best,
            "rows": len(data.train),
            "held_out_rows": len(data.held_out),
            "trained_parameters": counts["trained"],
            "trained_percent": round(share, 3),
            "device": str(device),
            "data": {corpus.name: corpus.fingerprint for corpus in corpora},
            "blank_rows": sum(corpus.blank_rows for corpus in corpora),
            "state_bits": options.state_bits,
            "new_pieces": len(vocabulary.pieces) if vocabulary else 0,
        },
        environment={**environment_facts(), "device": device_name(device)},
        vocabulary=vocabulary,
    )
    if accelerator.is_main_process:
        write_artifact(out, artifact)
        run.clean()
    accelerator.wait_for_everyone()
    return artifact


def _train(
    student: Student,
    trainable: TrainableTower,
    data: DistillData,
    recipe: LanguageRecipe,
    run: RunFolder,
    report: Report,
    accelerator: Accelerator,
    checkpoint_seconds: float,
) -> dict[str, Any]:
    """Runs all epochs and leaves the best weights in the student; returns what was best and when."""
    stage = recipe.distill
    plan = FitPlan(
        steps_per_epoch=steps_per_epoch(len(data.train), stage.batch_size),
        epochs=stage.epochs,
        warmup_fraction=stage.warmup_fraction,
        gradient_clip_norm=stage.gradient_clip_norm,
        seed=stage.seed,
    )
    state = start_fit(
        student, _parameter_groups(student, trainable, recipe), plan=plan, accelerator=accelerator
    )
    best: dict[str, Any] = {"held_out_recall": -1.0, "best_step": 0}
    earlier = 0.0
    if run.checkpoint.is_file():
        best = load_checkpoint(run.checkpoint, state)
        earlier = best.pop("seconds")
        if accelerator.is_main_process:
            run.cut_log(state.step)
        report(Progress(stage=f"resumed at step {state.step} of {plan.steps}"))

    lengths, device = data.tokens.lengths[data.train.text], accelerator.device

    def batches(epoch: int, first: int) -> Iterator[DistillBatch]:
        order = epoch_batches(
            lengths, batch_size=stage.batch_size, seed=stage.seed, epoch=epoch, first=first, pool_batches=1
        )
        # On a CPU the thread that reads ahead takes a core from the step: a third slower, measured.
        yield from map(own_share, order) if device.type == "cpu" else ahead(own_share, order)

    def own_share(rows: NDArray[np.int64]) -> DistillBatch:
        # All processes get equally many, or one would wait for rows that never come.
        even = rows[: len(rows) // accelerator.num_processes * accelerator.num_processes]
        return data.batch(data.train, even[accelerator.process_index :: accelerator.num_processes])

    packed = student.states_are_fixed and student.text_model.path == "packed"

    def loss(model: nn.Module, batch: DistillBatch) -> Tensor:
        if packed and batch.states is None:
            batch = replace(batch, states=student.packed_states(batch.text))
        return distill_loss(model, batch, stage, state.accelerator)

    log_lines: list[str] = []
    saved_at = time.monotonic()
    memory = CutBatches(coupled=stage.info_nce_weight > 0, dropout=recipe.adapter.dropout > 0, report=report)
    size = stage.batch_size
    shown = student.text_model.first_texts
    for log in fit(
        state, batches, loss, examples_per_step=size, memory=memory, shown=lambda b: shown(b.text)
    ):
        log_lines.append(json.dumps({"kind": "step", **asdict(log)}))
        note = (
            f"loss {log.loss:.3f}, held-out recall {best['held_out_recall']:.1f}"
            if best["best_step"]
            else (f"loss {log.loss:.3f}")
        )
        report(Progress(stage="distil", done=log.step, total=plan.steps, note=note))
        epoch_ends = log.step % plan.steps_per_epoch == 0
        if epoch_ends:
            recall = held_out_recall(state, data)
            improved = recall > best["held_out_recall"]
            best = {"held_out_recall": recall, "best_step": log.step} if improved else best
            log_lines.append(json.dumps({"kind": "held_out", "step": log.step, "recall": recall}))
            if improved and accelerator.is_main_process:
                run.save_best(trained_parameters(accelerator.unwrap_model(state.model)))
        if epoch_ends or state.stopping or time.monotonic() - saved_at > checkpoint_seconds:
            if accelerator.is_main_process:
                run.append_log(log_lines)
                save_checkpoint(run.checkpoint, state, extra={**best, "seconds": earlier + run.seconds})
            log_lines, saved_at = [], time.monotonic()
    module = accelerator.unwrap_model(state.model, keep_fp32_wrapper=False)
    with torch.no_grad():
        weights = run.read_best()
        for name, value in trained_parameters(module).items():
            value.copy_(weights[name])
    accelerator.wait_for_everyone()
    return {**best, "steps": plan.steps, "seconds": round(earlier + run.seconds, 1)}


def _parameter_groups(
    student: Student, trainable: TrainableTower, recipe: LanguageRecipe
) -> list[dict[str, Any]]:
    decay, extension = recipe.distill.weight_decay, recipe.text_model.extend_vocabulary
    groups: list[dict[str, Any]] = []
    new = new_rows(student.text_model)
    if new is not None and extension is not None:
        groups.append({"params": [new], "lr": extension.learning_rate, "weight_decay": 0.0})
    for module, rate in (
        (student.adapter, recipe.distill.learning_rate),
        (student.text_model, recipe.text_model.learning_rate),
    ):
        own = {id(value) for value in module.parameters()} - {id(new)}
        trained = {name: value for name, value in trainable.trained().items() if id(value) in own}
        # Decay would move the rows of embeddings that no text of this language touches.
        matrices = [v for name, v in trained.items() if v.dim() > 1 and name != trainable.table]
        others = [v for name, v in trained.items() if v.dim() <= 1 or name == trainable.table]
        groups += [{"params": matrices, "lr": rate, "weight_decay": decay}] if matrices else []
        groups += [{"params": others, "lr": rate, "weight_decay": 0.0}] if others else []
    return groups


def distill_loss(
    model: nn.Module, batch: DistillBatch, stage: DistillStage, accelerator: Accelerator
) -> Tensor:
    """The student's distance from the teacher, and their contrast over the rows of all processes."""
    with accelerator.autocast():
        embedded = model(batch.text, batch.states)
    # Each process sees the whole batch: its rows are one another's negatives.
    targets = gather_rows(batch.targets.to(embedded.device))
    # Outside autocast: equal targets are recognised by their product, which needs float32.
    student = gather_rows(embedded.float())
    value = distillation_distance(student, targets, stage.distance)
    if stage.info_nce_weight:
        value = value + stage.info_nce_weight * info_nce(student, targets, stage.temperature)
    return value


@torch.inference_mode()
def held_out_recall(state: FitState, data: DistillData) -> float:
    """Mean of recall@1, 5 and 10, in percent, of held-out texts among the teacher's held-out English."""
    model = state.model.eval()
    examples: Examples = data.held_out
    out = torch.zeros(len(examples), data.targets.dim)
    for rows in by_length(data.tokens.lengths[examples.text], batch_tokens=8192):
        batch = data.batch(examples, rows)
        out[torch.from_numpy(np.ascontiguousarray(rows))] = model(batch.text, batch.states).float().cpu()
    if not torch.isfinite(out).all():
        raise TrainingError(
            f"the student's embeddings are not finite after step {state.step}; the last checkpoint is kept: "
            "lower distill.learning_rate or text_model.learning_rate"
        )
    return mean_recall_text(out, data.targets.take(examples.target))


def extend_vocabulary(
    text_model: TextModel,
    recipe: LanguageRecipe,
    corpora: Sequence[ParallelSentences],
    run: RunFolder,
    *,
    accelerator: Accelerator,
    report: Report,
) -> Vocabulary | None:
    """Learns the recipe's new pieces, or reads those that the run began with, and extends the text model.

    Args:
        text_model: extended in place.
        recipe: says whether, and how many.
        corpora: the pieces are learnt on their target sides.
        run: keeps the pieces for when it is resumed.
        accelerator: its main process learns, the others read.
        report: told what was learnt.

    Returns:
        The pieces, or None where the recipe asks for none.
    """
    extension = recipe.text_model.extend_vocabulary
    if extension is None:
        return None
    if accelerator.is_main_process and not run.vocabulary.is_file():
        learnt = learn_vocabulary(
            text_model,
            (text for corpus in corpora for text in corpus.target),
            (text for corpus in corpora for text in corpus.english),
            pieces=extension.pieces,
        )
        write_text(run.vocabulary, learnt.to_json())
    accelerator.wait_for_everyone()
    vocabulary = Vocabulary.from_json(run.vocabulary.read_text(encoding="utf-8"))
    extend_text_model(text_model, vocabulary, seed=recipe.distill.seed)
    letters = sum(piece.merge is None for piece in vocabulary.pieces)
    report(Progress(stage=f"tokenizer: {len(vocabulary.pieces)} new pieces, {letters} of them new letters"))
    return vocabulary
