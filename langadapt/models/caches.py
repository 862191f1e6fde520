"""Image embeddings and patch states of a frozen image tower, computed once and stored."""

import hashlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import PIL
import torch
import transformers
from numpy.typing import NDArray
from PIL.Image import Image
from torch import Tensor

from langadapt.data.batches import ahead
from langadapt.data.images import ImageFile, image_bytes, open_image
from langadapt.data.parallel import distinct
from langadapt.errors import ModelError
from langadapt.files.store import Fill, StoreSpec, cache_folder, fingerprint, shared_rows, stored_rows
from langadapt.files.temporary import temporary_array
from langadapt.models.load import precision, uses_bf16
from langadapt.models.teacher import Teacher

ImageProgress = Callable[[int, int], None]

# Part of the stores' fingerprints: raise one when a change here or in the tower changes its rows.
_IMAGE_VERSION, _PATCH_VERSION = 6, 6
_BATCH, _PART, _READERS = 64, 65_536, 8


def image_embeddings(
    teacher: Teacher, images: Sequence[Image | bytes | str | ImageFile], *, batch_size: int = _BATCH
) -> Iterator[Tensor]:
    """Embed images chunk by chunk: `[<= batch_size, D]` float32, normalised, on the CPU.

    While a GPU embeds some, threads read the next ones.
    """

    def read(start: int) -> dict[str, Tensor]:
        return teacher.read_pixels([open_image(item) for item in images[start : start + batch_size]])

    starts = iter(range(0, len(images), batch_size))
    on_cpu = teacher.device.type == "cpu"
    for pixels in map(read, starts) if on_cpu else ahead(read, starts, count=_READERS):
        yield teacher.embed_pixels(pixels).cpu()


def stored_images(
    teacher: Teacher, images: Sequence[ImageFile], *, progress: ImageProgress | None = None
) -> Tensor:
    """Image embeddings `[len(images), D]`; files that were embedded before, in any set, are stored."""
    names = [hashlib.sha256(image_bytes(image)).hexdigest() for image in images]
    same = distinct(names)
    done, missing = 0, 0

    def compute(chosen: NDArray[np.int64], left: int) -> tuple[NDArray[np.int64], Fill]:
        nonlocal missing
        missing = missing or left

        def fill(start: int) -> Iterator[Tensor]:
            nonlocal done
            for rows in image_embeddings(teacher, [images[same.first[row]] for row in chosen[start:]]):
                done += len(rows)
                if progress:
                    progress(done, missing)
                yield rows

        return chosen, fill

    folder = cache_folder() / "image-rows" / _key(teacher, version=_IMAGE_VERSION)
    shared = shared_rows(folder, [names[i] for i in same.first], dim=teacher.dim, compute=compute)
    parts = (shared.take(same.index[i : i + _PART]).numpy().ravel() for i in range(0, len(images), _PART))
    return torch.from_numpy(temporary_array(parts, np.float32)).view(len(images), teacher.dim)


@torch.inference_mode()
def patch_states(teacher: Teacher, images: Sequence[ImageFile]) -> Iterator[Tensor]:
    """Last hidden states of the image tower, chunk by chunk: `[<= 64, P, V]` float32 on the CPU.

    They are computed in bfloat16 where the device has it, as image embeddings are.
    Of a vision Transformer P counts its tokens, a class token included where it has one; of a convolutional
    tower the positions of its last feature map. A tower that keeps its states to itself is refused.
    """
    for start in range(0, len(images), _BATCH):
        opened = [open_image(path) for path in images[start : start + _BATCH]]
        with torch.autocast(teacher.device.type, torch.bfloat16, enabled=uses_bf16(teacher.device)):
            output: Any = teacher.module.get_image_features(**teacher.pixels(opened))  # type: ignore[operator]
        states = getattr(output, "last_hidden_state", None)
        if states is None or states.dim() not in (3, 4):
            raise ModelError(f"{teacher.source.repo} gives no patch states; set few_shot.instance=false")
        if states.dim() == 4:
            states = states.flatten(2).transpose(1, 2)
        yield states.float().cpu()


def stored_patches(teacher: Teacher, images: Sequence[ImageFile]) -> Tensor:
    """Patch states `[len(images), P, V]` bfloat16, from the store; `patch_states` says what they are."""
    contents = (hashlib.sha256(image_bytes(image)).hexdigest() for image in images)
    key = _key(teacher, *contents, version=_PATCH_VERSION)
    (probe,) = patch_states(teacher, images[:1])
    _, patches, width = probe.shape
    spec = StoreSpec(kind="patches", fingerprint=key, rows=len(images), dim=patches * width, dtype="bfloat16")

    def compute(done: int) -> Iterator[Tensor]:
        return (states.flatten(1) for states in patch_states(teacher, images[done:]))

    flat = stored_rows(cache_folder(), spec, compute)
    return flat.view(len(images), patches, width)


def _key(teacher: Teacher, *contents: str, version: int) -> str:
    versions = (version, transformers.__version__, PIL.__version__)
    return fingerprint(*versions, precision(teacher.device), teacher.source.revision, *contents)
