"""What the stages train of student and teacher, and both towers as one module that trains on pairs."""

from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Literal, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from langadapt.data.batches import ContrastBatch
from langadapt.data.tokens import TextBatch
from langadapt.files.atomic import tensor_digest
from langadapt.models.new_pieces import new_rows
from langadapt.models.student import Student, student_tower
from langadapt.models.teacher import Teacher, image_tower, text_tower
from langadapt.models.trainable import (
    Tower,
    TrainableTower,
    finish_training,
    make_trainable,
    parameter_counts,
    restore_changes,
)
from langadapt.nn.losses import Temperature
from langadapt.recipes import AlignStage, ContrastStage, LanguageRecipe, Method

Stage = Literal["align", "tune", "domain"]

STAGES: tuple[Stage, ...] = ("align", "tune", "domain")
"""In the order in which they are done; the names of their weights start with them. Those of the distillation
are the student's own names: `adapter.` and `text_model.`."""


def has_stage(names: Iterable[str], stage: Stage) -> bool:
    """Whether some of an artifact's weights come from a stage."""
    return any(name.startswith(f"{stage}.") for name in names)


def is_tuned(names: Iterable[str]) -> bool:
    """Whether towers were changed by pairs of images and captions."""
    return any(has_stage(names, stage) for stage in STAGES)


def has_tuned_images(names: Iterable[str]) -> bool:
    """Whether the image tower was changed."""
    return any(name.startswith(tuple(f"{stage}.image." for stage in STAGES)) for name in names)


def changes_text_model(names: Iterable[str], trains: tuple[Method, ...]) -> bool:
    """Whether the text model was changed, in the distillation, after it, or without one."""
    heads = tuple(f"{stage}.text.text_{part}." for stage in STAGES for part in ("model", "projection"))
    return trains != ("locked",) or any(name.startswith(heads) for name in names)


def trainable_student(student: Student, trains: tuple[Method, ...], *, seed: int) -> TrainableTower:
    """A new student for the distillation: adapter and rows of new pieces train, and what `trains` says."""
    rows = new_rows(student.text_model)
    new = [*student.adapter.parameters(), *([] if rows is None else [rows])]
    return make_trainable(student_tower(student), trains, seed=seed, new=new)


def trainable_towers(
    student: Student | None, teacher: Teacher, stage: ContrastStage
) -> tuple[TrainableTower, TrainableTower]:
    """Put a stage's methods into the teacher's image tower and the student, or the teacher's own text tower.

    Both are as the stage before left them; the projections that `align` makes train in any case.
    """
    for module in filter(None, (student, teacher.module)):
        module.requires_grad_(False)
    texts = text_tower(teacher) if student is None else student_tower(student)
    towers = [(texts, stage.text), (image_tower(teacher), stage.image)]
    text, image = (
        make_trainable(tower, methods, seed=stage.seed + side, new=_new_weights(tower, stage))
        for side, (tower, methods) in enumerate(towers)
    )
    return text, image


def _new_weights(tower: Tower, stage: ContrastStage) -> list[nn.Parameter]:
    projection = tower.projection if isinstance(stage, AlignStage) else None
    return [] if projection is None else list(projection.parameters())


def stage_changes(stage: Stage, text: TrainableTower, image: TrainableTower) -> dict[str, Tensor]:
    """The changes of both trained towers under the names that an artifact gives them; freezes the towers."""
    return {
        f"{stage}.{side}.{name}": value
        for side, tower in (("text", text), ("image", image))
        if tower.start
        for name, value in finish_training(tower).items()
    }


def restore_stages(
    weights: dict[str, Tensor], recipe: LanguageRecipe, student: Student | None, teacher: Teacher
) -> Teacher:
    """Put all weights of an artifact into freshly loaded towers, stage by stage.

    Return the teacher: with tuned images its revision says so, because stored embeddings of the old tower are
    not the new one's. Raise a ModelError where the weights do not fit the models.
    """
    if student is not None:
        distilled = {k: v for k, v in weights.items() if k.startswith(("adapter.", "text_model."))}
        restore_changes(trainable_student(student, recipe.text_model.trains, seed=0), distilled)
    for name in STAGES:
        stage: ContrastStage | None = getattr(recipe, name)
        if stage is None or not has_stage(weights, name):
            continue
        for side, tower in zip(("text", "image"), trainable_towers(student, teacher, stage), strict=True):
            head = f"{name}.{side}."
            own = {key.removeprefix(head): value for key, value in weights.items() if key.startswith(head)}
            restore_changes(tower, own)
    if student is not None:
        student.eval()
    return with_tuned_revision(teacher, weights)


def with_tuned_revision(teacher: Teacher, weights: dict[str, Tensor]) -> Teacher:
    """Return the teacher under a revision that names the changes of its image tower, if there are any."""
    own = {name: value for name, value in weights.items() if has_tuned_images([name])}
    if not own:
        return teacher
    revision = f"{teacher.source.revision}+{tensor_digest(own, {})[:8]}"
    return replace(teacher, source=replace(teacher.source, revision=revision))


class Embedded(NamedTuple):
    """Unit rows `[B, D]` of captions and of their images; of parallel sentences plain ones, or None."""

    text: Tensor
    image: Tensor
    parallel: Tensor | None


class ContrastModel(nn.Module):
    """Both towers and the learned temperature, as contrastive training runs and saves them.

    An unlocked tower runs in chunks of `chunk_size` rows whose activations the backward pass recomputes
    (gradient caching): the loss sees the whole batch, the memory one chunk. Where only a projection learns
    there is nothing to recompute. Stored rows of a locked image encoder still go through `image_head`;
    without one they are embeddings.

    Source: Gao et al., 2021 (GradCache), through PyTorch's checkpoints, which also repeat the dropout.
    """

    def __init__(
        self,
        *,
        text: TrainableTower,
        image: TrainableTower,
        temperature: Temperature,
        chunk_size: int,
        image_head: nn.Module | None = None,
    ) -> None:
        super().__init__()
        self.text_module, self.image_module = text.tower.module, image.tower.module
        self.temperature = temperature
        self.text, self.image = text, image
        self.chunk_size = chunk_size
        self.image_head = image_head

    def train(self, mode: bool = True) -> "ContrastModel":
        """Train mode for the towers that learn."""
        super().train(False)
        self.training = mode
        self.text.train(mode)
        self.image.train(mode)
        return self

    def forward(self, batch: ContrastBatch) -> Embedded:
        """Embed a batch; an image with several captions runs once."""
        text = self.text_rows(batch.text)
        images = self.image_rows(batch.images)[batch.image_index.to(text.device)]
        parallel = None if batch.parallel is None else self.text.tower.embed(batch.parallel.text)
        return Embedded(F.normalize(text, dim=-1), F.normalize(images.float(), dim=-1), parallel)

    def parameter_counts(self) -> dict[str, int]:
        """`trained` and `total` number of weights of both towers and the temperature."""
        both = self.text.tower.weights() | self.image.tower.weights()
        return parameter_counts([*both.values(), *self.temperature.parameters()])

    def text_rows(self, batch: TextBatch) -> Tensor:
        """Captions to `[B, D]` float32, not normalised."""
        ids, mask = batch.input_ids, batch.mask

        def run(start: int) -> Tensor:
            part = slice(start, start + self.chunk_size)
            longest = int(mask[part].sum(dim=1).max())
            if bool(mask[part, longest:].any()):  # padded on the left
                longest = mask.shape[1]
            return self.text.tower.embed(TextBatch(input_ids=ids[part, :longest], mask=mask[part, :longest]))

        return self._in_chunks(run, rows=len(ids), tower=self.text)

    def image_rows(self, pixels: dict[str, Tensor]) -> Tensor:
        """Stored rows, or what the image processor made, to `[M, D]` float32, not normalised."""
        device = next(self.parameters()).device
        if "rows" in pixels:
            rows = pixels["rows"].to(device)
            return rows if self.image_head is None else self.image_head(rows).float()

        def run(start: int) -> Tensor:
            part = {key: value[start : start + self.chunk_size].to(device) for key, value in pixels.items()}
            return self.image.tower.embed(part)

        count = len(next(iter(pixels.values())))
        return self._in_chunks(run, rows=count, tower=self.image)

    def _in_chunks(self, run: Callable[[int], Tensor], *, rows: int, tower: TrainableTower) -> Tensor:
        starts = range(0, rows, self.chunk_size)
        if not tower.start:
            with torch.no_grad():
                return torch.cat([run(start) for start in starts])
        if len(starts) == 1 or not torch.is_grad_enabled() or tower.only_projects:
            return torch.cat([run(start) for start in starts])
        return torch.cat([checkpoint(run, start, use_reentrant=False) for start in starts])
