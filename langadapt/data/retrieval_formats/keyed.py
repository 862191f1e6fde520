"""COCO-CN and Flickr8k-CN / Flickr30k-CN: each line begins with the id of its image."""

import re
from collections.abc import Iterator

from langadapt.data.lines import read_lines
from langadapt.data.retrieval_formats.caption import Caption, CaptionFiles, jpg, read_names
from langadapt.data.rows import check_text
from langadapt.errors import DataError

_LINE = re.compile(r"(?P<image>[^\s#]+)(?:#\S*)?[\t ](?P<text>.*)", re.DOTALL)


def read_keyed_captions(files: CaptionFiles) -> Iterator[Caption]:
    """Captions of lines that begin with an image id, optionally `#kind#number`, and a tab or a space.

    Layouts: COCO-CN `COCO_val2014_000000000001#0<tab>caption` with a split file of bare ids (read from public
    loaders; the files themselves are given out on request). Flickr8k-CN `name.jpg#zhc#0<space>caption`, all
    splits in one file, with split files of ids without `.jpg` (read from the repository). Flickr30k-CNA
    `id<tab>caption` and `id#0<tab>caption` (read from the publisher's page and public loaders).

    Images come in the order of the split file where there is one, and captions outside of it are left out.

    Raises:
        DataError: unreadable file, a line without a caption, an id of the split without captions.
    """
    captions: dict[str, list[Caption]] = {}
    if files.image_names is not None:
        captions = {jpg(name): [] for name in read_names(files.image_names)}
    for path in files.captions:
        for line in read_lines(path):
            place = f"{path}: line {line.number}"
            match = _LINE.fullmatch(line.text)
            if match is None:
                raise DataError(
                    f"{place}: expected `image-id#number`, a tab or a space, a caption; correct it"
                )
            image = jpg(match["image"])
            if files.image_names is None:
                captions.setdefault(image, [])
            if image in captions:
                captions[image].append(Caption(image, check_text(match["text"].strip(), place)))
    without = [image for image, found in captions.items() if not found]
    if without:
        raise DataError(
            f"{files.image_names}: {len(without)} images have no caption in {files.captions[0]}, the first "
            f"is {without[0]}; take both files from one release"
        )
    for found in captions.values():
        yield from found
