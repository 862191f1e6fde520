"""Artifacts without a training run: every weight that would train is moved at random."""

from pathlib import Path

import torch
from tiny_language import sentences

from langadapt.models import Artifact, Student, load_teacher, load_text_model, resolve_model, write_artifact
from langadapt.models.artifact import BaseModel
from langadapt.models.new_pieces import extend_text_model, learn_vocabulary
from langadapt.models.trainable import TrainableTower, finish_training
from langadapt.models.tuning import STAGES, stage_changes, trainable_student, trainable_towers
from langadapt.recipes import find_language, override, with_absolute_paths


def untrained_run(language_folder: Path, out: Path, *settings: str, seed: int = 0) -> Path:
    recipe = with_absolute_paths(override(find_language(str(language_folder / "es.yaml")), settings))
    text_source, teacher_source = resolve_model(recipe.text_model), resolve_model(recipe.teacher)
    encoder = load_text_model(text_source, recipe.text_model, max_tokens=recipe.distill.max_tokens)
    teacher = load_teacher(teacher_source)
    vocabulary = None
    if recipe.text_model.extend_vocabulary is not None:
        english, target = zip(*sentences(), strict=True)
        pieces = recipe.text_model.extend_vocabulary.pieces
        vocabulary = learn_vocabulary(encoder, target, english, pieces=pieces)
        extend_text_model(encoder, vocabulary, seed=seed)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        student = Student(text_model=encoder, spec=recipe.adapter, target_dim=teacher.dim)
        distilled = trainable_student(student, recipe.text_model.trains, seed=seed)
        _move(distilled, 0.3)
        weights = finish_training(distilled)
        for name in STAGES:
            stage = getattr(recipe, name)
            if stage is not None:
                text, image = trainable_towers(student, teacher, stage)
                for tower in (text, image):
                    _move(tower, 0.1)
                weights |= stage_changes(name, text, image)
    artifact = Artifact(
        recipe=recipe,
        teacher=BaseModel(repo=teacher_source.repo, revision=teacher_source.revision),
        text_model=BaseModel(repo=text_source.repo, revision=text_source.revision),
        target_dim=teacher.dim,
        weights=weights,
        vocabulary=vocabulary,
    )
    write_artifact(out, artifact)
    return out


@torch.no_grad()
def _move(tower: TrainableTower, size: float) -> None:
    for weight in tower.trained().values():
        weight += size * torch.randn_like(weight)
