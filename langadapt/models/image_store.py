"""Image embeddings of a frozen tower, computed once and stored."""

import hashlib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import PIL
import torch
import transformers
from PIL.Image import Image
from torch import Tensor

from langadapt.data.images import ImageFile, PackedImage, open_image
from langadapt.data.store import StoreSpec, cache_folder, fingerprint, stored_rows
from langadapt.errors import DataError
from langadapt.models.teacher import Teacher

ImageProgress = Callable[[int, int], None]
_CODE_VERSION = 2


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
    versions = (_CODE_VERSION, transformers.__version__, PIL.__version__)
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
