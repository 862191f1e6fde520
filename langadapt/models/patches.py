"""Patch states of images from the teacher's frozen image tower, computed once."""

import hashlib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import PIL
import torch
import transformers
from torch import Tensor

from langadapt.data.images import open_image
from langadapt.data.lines import unreadable
from langadapt.data.store import StoreSpec, cache_folder, fingerprint, stored_rows
from langadapt.errors import ModelError
from langadapt.models.teacher import Teacher

_CODE_VERSION = 2


@torch.inference_mode()
def patch_states(teacher: Teacher, images: Sequence[Path], *, batch_size: int = 64) -> Iterator[Tensor]:
    """Last states of the image tower, chunk by chunk: `[<= batch_size, P, V]` float32 on the CPU.

    Of a vision Transformer P counts its tokens, a class token included where it has one; of a convolutional
    tower the places of its last feature map.

    Raises:
        DataError: an image cannot be read.
        ModelError: the tower keeps its states to itself.
    """
    for start in range(0, len(images), batch_size):
        opened = [open_image(path) for path in images[start : start + batch_size]]
        inputs = teacher.image_processor(opened, return_tensors="pt").to(teacher.device)
        output: Any = teacher.module.get_image_features(**inputs)  # type: ignore[operator]
        states = getattr(output, "last_hidden_state", None)
        if states is None or states.dim() not in (3, 4):
            raise ModelError(
                f"{teacher.source.repo}: its image tower gives no patch states; set few_shot.instance=false"
            )
        if states.dim() == 4:
            states = states.flatten(2).transpose(1, 2)
        yield states.float().cpu()


def stored_patches(
    teacher: Teacher, images: Sequence[Path], *, progress: Callable[[int, int], None] | None = None
) -> Tensor:
    """Patch states `[len(images), P, V]` bfloat16, from the store where the same files were seen before.

    Raises:
        DataError: an image cannot be read.
        ModelError: the tower keeps its states to itself.
    """
    digest = hashlib.sha256()
    for path in images:
        try:
            digest.update(hashlib.sha256(path.read_bytes()).digest())
        except OSError as error:
            raise unreadable(path, error) from error
    (probe,) = patch_states(teacher, images[:1])
    _, patches, width = probe.shape
    versions = (_CODE_VERSION, transformers.__version__, PIL.__version__)
    key = fingerprint(*versions, teacher.source.revision, digest.hexdigest())
    spec = StoreSpec(kind="patches", fingerprint=key, rows=len(images), dim=patches * width, dtype="bfloat16")

    def compute(done: int) -> Iterator[Tensor]:
        for rows in patch_states(teacher, images[done:]):
            yield rows.flatten(1)
            done += len(rows)
            if progress:
                progress(done, len(images))

    return stored_rows(cache_folder(), spec, compute).view(len(images), patches, width)
