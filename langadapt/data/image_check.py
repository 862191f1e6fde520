"""Opens every image once and lists those that cannot be used."""

import json
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from langadapt.data.images import ImageFile, open_image
from langadapt.data.store import cache_folder
from langadapt.data.write_text import write_text
from langadapt.errors import DataError


@dataclass(frozen=True, kw_only=True)
class BrokenImage:
    """An image that cannot be read; `number` counts within its data set, `reason` is one line."""

    number: int
    reason: str


def broken_images(
    images: Sequence[ImageFile],
    *,
    fingerprint: str | None = None,
    workers: int = 4,
    progress: Callable[[int, int], None] | None = None,
) -> list[BrokenImage]:
    """Decodes all images in worker threads.

    Args:
        images: what to open.
        fingerprint: of the whole data set; its result is kept in the cache and not computed twice.
        workers: threads; decoding runs outside Python's lock.
        progress: told how many of how many are done.

    Returns:
        All that are broken, in order.
    """
    known = None if fingerprint is None else cache_folder() / "checked-images" / f"{fingerprint}.json"
    if known is not None and known.is_file():
        return [BrokenImage(**item) for item in json.loads(known.read_text(encoding="utf-8"))]
    found: list[BrokenImage] = []
    with ThreadPoolExecutor(workers) as pool:
        for number, reason in enumerate(pool.map(_fault, images)):
            if reason is not None:
                found.append(BrokenImage(number=number, reason=reason))
            if progress:
                progress(number + 1, len(images))
    if known is not None:
        write_text(known, json.dumps([{"number": item.number, "reason": item.reason} for item in found]))
    return found


def _fault(image: ImageFile) -> str | None:
    try:
        open_image(image)
    except DataError as error:
        return str(error)
    return None
