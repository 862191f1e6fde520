"""Artifacts without a training run: every weight that would train is moved at random."""

from pathlib import Path

import torch
from tiny_language import sentences

from langadapt.models import Artifact, Student, load_teacher, load_text_model, resolve_model, write_artifact
from langadapt.models.new_pieces import learn_vocabulary
from langadapt.models.provenance import BaseModel
from langadapt.models.trainable import TunedTower, trained_weights
from langadapt.models.tuned import STAGES, tunable_towers, tuned_weights
from langadapt.models.vocabulary import extend_text_model
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
        trains = recipe.text_model.trains
        student = Student(text_model=encoder, spec=recipe.adapter, trains=trains, target_dim=teacher.dim)
        with torch.no_grad():
            for weight in student.parameters():
                if weight.requires_grad:
                    weight += 0.3 * torch.randn_like(weight)
        weights = {f"adapter.{name}": value.clone() for name, value in student.adapter.state_dict().items()}
        kept = trained_weights(student.text_model, trains)
        weights |= {f"text_model.{name}": value.clone() for name, value in kept.items()}
        for name in STAGES:
            stage = {"tune": recipe.tune, "domain": recipe.domain}[name]
            if stage is not None:
                text, image = tunable_towers(student, teacher, stage)
                for tower in (text, image):
                    _move(tower)
                weights |= tuned_weights(name, text, image)
                for value in (*student.parameters(), *teacher.module.parameters()):
                    value.requires_grad_(False)
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
def _move(tower: TunedTower) -> None:
    for weight in tower.trained().values():
        weight += 0.1 * torch.randn_like(weight)
