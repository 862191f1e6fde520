"""Stage distill: the student learns to answer a translation as the teacher answers its English side."""

import json
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator
from numpy.typing import NDArray
from torch import Tensor, nn

from langadapt.data.batches import ahead, epoch_batches, steps_per_epoch
from langadapt.data.distill_batch import DistillBatch
from langadapt.data.parallel import load_parallel
from langadapt.data.store import cache_folder, fingerprint
from langadapt.errors import RecipeError
from langadapt.models import (
    Artifact,
    Student,
    load_teacher,
    load_text_model,
    resolve_model,
    write_artifact,
)
from langadapt.models.artifact import environment_facts
from langadapt.models.device import best_device, device_name
from langadapt.models.trained import trained_weights
from langadapt.models.vocabulary import new_rows
from langadapt.progress import Progress, Report
from langadapt.recipes import (
    LanguageRecipe,
    ParallelRecipe,
    data_recipe,
    with_absolute_paths,
)
from langadapt.recipes.find import Found
from langadapt.training.checkpoint import load_checkpoint, save_checkpoint, trained_parameters
from langadapt.training.distill_data import DistillData, prepare
from langadapt.training.distill_objective import distill_loss, held_out_recall
from langadapt.training.extend_vocabulary import extend_vocabulary
from langadapt.training.finished import base_model, finished_samples, parallel_source
from langadapt.training.frozen_states import StateBits
from langadapt.training.loop import FitPlan, fit, start_fit
from langadapt.training.memory import CutBatches
from langadapt.training.processes import share_of_work, silent
from langadapt.training.run_folder import RunFolder

_STATED = {"licence", "licence_source"}
"""What a recipe says of a base model that changes nothing in the run."""


@dataclass(frozen=True, kw_only=True)
class DistillOptions:
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
    found: Found[LanguageRecipe], out: Path, *, report: Report, options: DistillOptions | None = None
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
    options = options or DistillOptions()
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
        student = Student(
            text_model=encoder, spec=recipe.adapter, trains=recipe.text_model.trains, target_dim=teacher.dim
        )
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
    best = _train(student, data, recipe, run, report, accelerator, options.checkpoint_seconds)
    artifact = Artifact(
        recipe=recipe,
        teacher=base_model(teacher_source, recipe.teacher),
        text_model=base_model(text_source, recipe.text_model),
        target_dim=target_dim,
        weights=_artifact_weights(student),
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
    state = start_fit(student, _parameter_groups(student, recipe), plan=plan, accelerator=accelerator)
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

    packed = student.states_are_fixed and student.text_model.engine.path == "packed"

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


def _parameter_groups(student: Student, recipe: LanguageRecipe) -> list[dict[str, Any]]:
    decay, extension = recipe.distill.weight_decay, recipe.text_model.extend_vocabulary
    groups: list[dict[str, Any]] = []
    new = new_rows(student.text_model)
    if new is not None and extension is not None:
        groups.append({"params": [new], "lr": extension.learning_rate, "weight_decay": 0.0})
    for module, rate in (
        (student.adapter, recipe.distill.learning_rate),
        (student.text_model, recipe.text_model.learning_rate),
    ):
        weights = [value for value in module.parameters() if value.requires_grad and value is not new]
        # Decay would move the rows of embeddings that no text of this language touches.
        table = recipe.text_model.trains == "embeddings" and module is student.text_model
        matrices = [value for value in weights if value.dim() > 1 and not table]
        others = [value for value in weights if value.dim() <= 1 or table]
        groups += [{"params": matrices, "lr": rate, "weight_decay": decay}] if matrices else []
        groups += [{"params": others, "lr": rate, "weight_decay": 0.0}] if others else []
    return groups


def _artifact_weights(student: Student) -> dict[str, Tensor]:
    adapter = {f"adapter.{name}": value.detach() for name, value in student.adapter.state_dict().items()}
    trained = trained_weights(student.text_model, student.trains)
    return {**adapter, **{f"text_model.{name}": value for name, value in trained.items()}}
