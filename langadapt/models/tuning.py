"""What a tuned artifact adds to a distilled one: changed weights of both towers."""

import hashlib
from dataclasses import replace

import torch
from torch import Tensor

from langadapt.models.methods import TunedTower, apply_methods, merge_lora, restore_changes, weight_changes
from langadapt.models.student import Student
from langadapt.models.teacher import Teacher
from langadapt.models.tower_views import image_tower, student_tower
from langadapt.recipes import ContrastStage

TEXT, IMAGE, TEMPERATURE = "tune.text", "tune.image", "tune.temperature"


def tunable_towers(student: Student, teacher: Teacher, stage: ContrastStage) -> tuple[TunedTower, TunedTower]:
    """Text and image tower with the stage's methods in place.

    Args:
        student: as distilled; LoRA layers of that stage are merged into their weights.
        teacher: its image tower may learn.
        stage: methods and seed.

    Raises:
        ModelError: a method does not fit a tower.
    """
    merge_lora(student.text_model.encoder)
    student.requires_grad_(False)
    text = apply_methods(student_tower(student), stage.text, seed=stage.seed)
    return text, apply_methods(image_tower(teacher), stage.image, seed=stage.seed + 1)


def tuned_weights(text: TunedTower, image: TunedTower) -> dict[str, Tensor]:
    """The changes of both towers under the names that an artifact gives them, rounded as it stores them.

    The towers take the rounded values, so that they are what a loaded artifact will be.
    """
    found: dict[str, Tensor] = {}
    for prefix, tuned in ((TEXT, text), (IMAGE, image)):
        if not tuned.start:
            continue
        changes = {name: _rounded(value) for name, value in weight_changes(tuned).items()}
        restore_changes(tuned, changes)
        found |= {f"{prefix}.{name}": value for name, value in changes.items()}
    return found


def restore_tuning(
    weights: dict[str, Tensor], stage: ContrastStage | None, student: Student, teacher: Teacher
) -> Teacher:
    """Puts an artifact's tuned weights into freshly loaded towers; does nothing where it has none.

    Args:
        weights: all weights of the artifact.
        stage: the recipe's `tune`.
        student: as distilled.
        teacher: frozen.

    Returns:
        The teacher; with tuned images its revision says so, because stored embeddings of the old tower are
        not the new one's.

    Raises:
        ModelError: the weights do not fit the models.
    """
    if stage is None or not any(name.startswith("tune.") for name in weights):
        return teacher
    text, image = tunable_towers(student, teacher, stage)
    for prefix, tuned in ((TEXT, text), (IMAGE, image)):
        head = prefix + "."
        own = {name.removeprefix(head): value for name, value in weights.items() if name.startswith(head)}
        restore_changes(tuned, own)
    student.eval()
    return with_tuned_revision(teacher, weights)


def with_tuned_revision(teacher: Teacher, weights: dict[str, Tensor]) -> Teacher:
    """The teacher under a revision that names the changes of its image tower, if there are any."""
    own = {name: value for name, value in weights.items() if name.startswith(IMAGE + ".")}
    if not own:
        return teacher
    digest = hashlib.sha256()
    for name, value in sorted(own.items()):
        digest.update(name.encode())
        digest.update(value.contiguous().numpy().tobytes())
    revision = f"{teacher.source.revision}+{digest.hexdigest()[:8]}"
    return replace(teacher, source=replace(teacher.source, revision=revision))


def _rounded(value: Tensor) -> Tensor:
    return value.to(torch.float16).float() if value.is_floating_point() else value
