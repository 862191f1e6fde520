"""What the stages tune and domain add to a distilled artifact: changed weights of both towers."""

import hashlib
from collections.abc import Iterable
from dataclasses import replace
from typing import Literal

import torch
from torch import Tensor

from langadapt.models.student import Student, student_tower
from langadapt.models.teacher import Teacher, image_tower
from langadapt.models.trainable import TunedTower, apply_methods, merge_lora, restore_changes, weight_changes
from langadapt.recipes import ContrastStage, LanguageRecipe
from langadapt.recipes.language import Trains

Stage = Literal["tune", "domain"]

STAGES: tuple[Stage, ...] = ("tune", "domain")

"""In the order in which they are done; the names of their weights start with them."""


def has_stage(names: Iterable[str], stage: Stage) -> bool:
    """Whether some of an artifact's weights come from a stage."""
    return any(name.startswith(f"{stage}.") for name in names)


def is_tuned(names: Iterable[str]) -> bool:
    """Whether towers were changed after the distillation."""
    return any(has_stage(names, stage) for stage in STAGES)


def has_tuned_images(names: Iterable[str]) -> bool:
    """Whether the image tower was changed."""
    return any(name.startswith(tuple(f"{stage}.image." for stage in STAGES)) for name in names)


def changes_text_model(names: Iterable[str], trains: Trains) -> bool:
    """Whether the text model was changed, in the distillation or after it."""
    heads = tuple(f"{stage}.text.text_model." for stage in STAGES)
    return trains != "frozen" or any(name.startswith(heads) for name in names)


def tunable_towers(student: Student, teacher: Teacher, stage: ContrastStage) -> tuple[TunedTower, TunedTower]:
    """Text and image tower with the stage's methods in place.

    Args:
        student: as the stage before left it; LoRA layers of that stage are merged into their weights.
        teacher: its image tower may learn.
        stage: methods and seed.

    Raises:
        ModelError: a method does not fit a tower.
    """
    merge_lora(student.text_model.encoder)
    merge_lora(teacher.module)
    student.requires_grad_(False)
    text = apply_methods(student_tower(student), stage.text, seed=stage.seed)
    return text, apply_methods(image_tower(teacher), stage.image, seed=stage.seed + 1)


def tuned_weights(stage: Stage, text: TunedTower, image: TunedTower) -> dict[str, Tensor]:
    """The changes of both towers under the names that an artifact gives them, rounded as it stores them.

    The towers take the rounded values, so that they are what a loaded artifact will be.
    """
    found: dict[str, Tensor] = {}
    for side, tuned in (("text", text), ("image", image)):
        if not tuned.start:
            continue
        changes = {name: _rounded(value) for name, value in weight_changes(tuned).items()}
        restore_changes(tuned, changes)
        found |= {f"{stage}.{side}.{name}": value for name, value in changes.items()}
    return found


def restore_tuning(
    weights: dict[str, Tensor], recipe: LanguageRecipe, student: Student, teacher: Teacher
) -> Teacher:
    """Puts an artifact's tuned weights into freshly loaded towers; does nothing where it has none.

    Args:
        weights: all weights of the artifact.
        recipe: its stages `tune` and `domain`, restored in this order.
        student: as distilled.
        teacher: frozen.

    Returns:
        The teacher; with tuned images its revision says so, because stored embeddings of the old tower are
        not the new one's.

    Raises:
        ModelError: the weights do not fit the models.
    """
    stages: tuple[tuple[Stage, ContrastStage | None], ...] = (
        ("tune", recipe.tune),
        ("domain", recipe.domain),
    )
    for name, stage in stages:
        if stage is None or not has_stage(weights, name):
            continue
        text, image = tunable_towers(student, teacher, stage)
        for side, tuned in (("text", text), ("image", image)):
            head = f"{name}.{side}."
            own = {key.removeprefix(head): value for key, value in weights.items() if key.startswith(head)}
            restore_changes(tuned, own)
    student.eval()
    return with_tuned_revision(teacher, weights)


def with_tuned_revision(teacher: Teacher, weights: dict[str, Tensor]) -> Teacher:
    """The teacher under a revision that names the changes of its image tower, if there are any."""
    own = {name: value for name, value in weights.items() if has_tuned_images([name])}
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
