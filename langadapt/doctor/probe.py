"""How long a run will take and how much disk, from a few real batches on this device."""

import shutil
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from langadapt.data.tokens import Tokens
from langadapt.models import Student, Teacher, TextModel
from langadapt.models.device import device_name, uses_bf16
from langadapt.models.new_pieces import extend_text_model, learn_vocabulary
from langadapt.models.tuning import trainable_student
from langadapt.nn import distillation_distance, info_nce
from langadapt.recipes import LanguageRecipe

_BATCH_TEXTS = 64


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """Of a whole run; measured on `sample` sentences."""

    device: str
    sample: int
    trained_parameters: int
    teacher_seconds: float
    """Embedding the English side once."""
    states_seconds: float
    """The frozen text model's states, once; 0 where they are computed in each step."""
    train_seconds: float
    steps: int
    store_bytes: int
    """Stores of teacher embeddings and states."""
    artifact_bytes: int
    free_bytes: int

    @property
    def seconds(self) -> float:
        """All together."""
        return self.teacher_seconds + self.states_seconds + self.train_seconds


def estimate(
    recipe: LanguageRecipe,
    teacher: Teacher,
    text_model: TextModel,
    *,
    english: Sequence[str],
    target: Sequence[str],
    rows: int,
    cache: Path,
    state_cache_bytes: int = 8_000_000_000,
) -> Estimate:
    """Runs a few batches as `distill` would.

    Args:
        recipe: of the run.
        teacher: on the device.
        text_model: on the device; extended in place where the recipe extends its vocabulary.
        english: some sentences.
        target: their translations.
        rows: pairs of the whole run.
        cache: where stores would lie.
        state_cache_bytes: budget of the state store.
    """
    stage = recipe.distill
    extension = recipe.text_model.extend_vocabulary
    if extension is not None:
        vocabulary = learn_vocabulary(text_model, target, english, pieces=extension.pieces)
        extend_text_model(text_model, vocabulary, seed=stage.seed)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(stage.seed)
        student = Student(text_model=text_model, spec=recipe.adapter, target_dim=teacher.dim)
    trainable_student(student, recipe.text_model.trains, seed=stage.seed)
    device = text_model.device
    said, tokens = teacher.tokenize(english), text_model.tokenize(target)
    few = np.arange(min(_BATCH_TEXTS, len(target)))
    per_target = _seconds(lambda: teacher.text.run(said, few), device) / len(few)
    texts = rows * (1 + stage.identity_fraction)
    width = text_model.check_layers(student.layers) * text_model.state_dim
    state_bytes = int(texts * float(tokens.lengths.mean()) * width * 2)
    cached = student.states_are_fixed and state_bytes <= state_cache_bytes
    per_state = _seconds(lambda: student.frozen_states.run(tokens, few), device) / len(few) if cached else 0.0
    per_step = _step_seconds(student, tokens, recipe, cached=cached)
    steps = stage.epochs * max(1, int(texts) // stage.batch_size)
    counts = student.parameter_counts()
    place = next(folder for folder in (cache, *cache.parents) if folder.is_dir())
    return Estimate(
        device=device_name(device),
        sample=len(target),
        trained_parameters=counts["trained"],
        teacher_seconds=rows * per_target,
        states_seconds=texts * per_state,
        train_seconds=steps * per_step,
        steps=steps,
        store_bytes=rows * teacher.dim * 4 + (state_bytes if cached else 0),
        artifact_bytes=counts["trained"] * 2,
        free_bytes=shutil.disk_usage(place).free,
    )


def _step_seconds(student: Student, tokens: Tokens, recipe: LanguageRecipe, *, cached: bool) -> float:
    stage = recipe.distill
    device = student.text_model.device
    rows = np.arange(stage.batch_size) % len(tokens)
    batch = tokens.batch(rows)
    known = student.frozen_states.run(tokens, rows).bfloat16() if cached else None
    packed = student.states_are_fixed and student.text_model.path == "packed"
    width = student.adapter.up.out_features
    targets = torch.nn.functional.normalize(torch.randn(stage.batch_size, width), dim=-1).to(device)
    weights = [weight for weight in student.parameters() if weight.requires_grad]
    optimizer = torch.optim.AdamW(weights, lr=0.0)
    student.train()

    def step() -> None:
        states = student.packed_states(batch) if packed and known is None else known
        with torch.autocast(device.type, torch.bfloat16, enabled=uses_bf16(device)):
            embedded = student(batch, states).float()
        loss = distillation_distance(embedded, targets, stage.distance)
        if stage.info_nce_weight:
            loss = loss + stage.info_nce_weight * info_nce(embedded, targets, stage.temperature)
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

    return _seconds(step, device)


def _seconds(work: Callable[[], object], device: torch.device) -> float:
    """Of the quicker of two calls after one that warms up."""
    taken = []
    for _ in range(3):
        started = time.perf_counter()
        work()
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        taken.append(time.perf_counter() - started)
    return min(taken[1:])
