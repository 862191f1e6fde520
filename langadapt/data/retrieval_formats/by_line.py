"""XTD10 and Multi30k: line n of a caption file belongs to line n of a list of image names."""

from collections.abc import Iterator
from pathlib import Path

from langadapt.data.lines import read_lines
from langadapt.data.retrieval_formats.caption import Caption, CaptionFiles, jpg, read_names
from langadapt.data.rows import check_text
from langadapt.errors import DataError


def read_captions_by_line(files: CaptionFiles) -> Iterator[Caption]:
    """Captions of plain files, one per line, image by image.

    Layouts, read from the repositories: XTD10 `test_1kcaptions_zh.txt` (Japanese is `jp`; de, en, fr and jp
    lie in other folders) beside `test_image_names.txt`, file names of COCO. Multi30k task 1
    `test_2016_flickr.de.gz` beside `image_splits/test_2016_flickr.txt`; the list of `test_2017_mscoco` has
    `#id` behind each name. Task 2 `test_2016.1.de.gz` to `.5.de.gz`, five captions of each image: the
    repository holds no list of names for them; WMT16's own archive has one, which was not verified.

    Raises:
        DataError: unreadable file, a blank line, another number of captions than of names, or no names where
            the set is not image-free.
    """
    columns = [_texts(path) for path in files.captions]
    if files.image_names is not None:
        names = [jpg(name) for name in read_names(files.image_names)]
        beside = files.image_names
    elif files.image_free:
        names, beside = [""] * len(columns[0]), files.captions[0]
    else:
        raise DataError(f"{files.captions[0]}: image_names is missing; name the list of images beside it")
    for path, texts in zip(files.captions, columns, strict=True):
        if len(texts) != len(names):
            raise DataError(
                f"{path} has {len(texts)} lines, {beside} has {len(names)}: they do not correspond; "
                "take both from one release"
            )
    for row, name in enumerate(names):
        for texts in columns:
            yield Caption(name, texts[row])


def _texts(path: Path) -> list[str]:
    return [check_text(line.text, f"{path}: line {line.number}").strip() for line in read_lines(path)]
