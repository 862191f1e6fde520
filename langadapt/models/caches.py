"""Image embeddings of a frozen tower, computed once and stored."""

import hashlib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import PIL
import torch
import transformers
from PIL.Image import Image
from torch import Tensor

from langadapt.data.images import ImageFile, PackedImage, open_image
from langadapt.data.rows import unreadable
from langadapt.errors import DataError, ModelError
from langadapt.files.store import StoreSpec, cache_folder, fingerprint, stored_rows
from langadapt.models.teacher import Teacher

ImageProgress = Callable[[int, int], None]

_IMAGE_VERSION = 2


def image_embeddings(
    teacher: Teacher, images: Sequence[Image | str | ImageFile], *, batch_size: int = 64
) -> Iterator[Tensor]:
    """Embeds images chunk by chunk: `[<= batch_size, D]` float32 unit rows on the CPU."""
    for start in range(0, len(images), batch_size):
        chunk = images[start : start + batch_size]
        yield teacher.embed_images([_opened(item) for item in chunk]).cpu()


def _opened(item: Image | str | ImageFile) -> Image:
    if isinstance(item, Image):
        return item.convert("RGB")
    return open_image(item if isinstance(item, PackedImage) else Path(item))


def stored_images(
    teacher: Teacher, images: Sequence[ImageFile], *, progress: ImageProgress | None = None
) -> Tensor:
    """Image embeddings `[len(images), D]`, from the store where the same files were embedded before."""
    digest = hashlib.sha256()
    for path in images:
        try:
            digest.update(hashlib.sha256(path.read_bytes()).digest())
        except OSError as error:
            raise DataError(f"{path}: cannot be read: {error.strerror}") from error
    versions = (_IMAGE_VERSION, transformers.__version__, PIL.__version__)
    key = fingerprint(*versions, teacher.source.revision, digest.hexdigest())
    spec = StoreSpec(kind="images", fingerprint=key, rows=len(images), dim=teacher.dim)

    def compute(done: int) -> Iterator[Tensor]:
        for rows in image_embeddings(teacher, images[done:]):
            yield rows
            done += len(rows)
            if progress:
                progress(done, len(images))

    return stored_rows(cache_folder(), spec, compute)


def tuned_images(teacher: Teacher, images: Sequence[ImageFile]) -> Tensor:
    """Image embeddings `[len(images), D]` of a tower that is still learning: never stored."""
    return torch.cat(list(image_embeddings(teacher, images)))


_PATCH_VERSION = 2


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
    versions = (_PATCH_VERSION, transformers.__version__, PIL.__version__)
    key = fingerprint(*versions, teacher.source.revision, digest.hexdigest())
    spec = StoreSpec(kind="patches", fingerprint=key, rows=len(images), dim=patches * width, dtype="bfloat16")

    def compute(done: int) -> Iterator[Tensor]:
        for rows in patch_states(teacher, images[done:]):
            yield rows.flatten(1)
            done += len(rows)
            if progress:
                progress(done, len(images))

    return stored_rows(cache_folder(), spec, compute).view(len(images), patches, width)
