"""Readers of retrieval test sets in the form in which they are distributed."""

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from langadapt.data.images import ParquetImage
from langadapt.data.readers import column_names, read_source, read_values
from langadapt.data.rows import Row, caption_pairs, check_same_count, check_text, reach, read_lines
from langadapt.data.sources import SourceFile
from langadapt.errors import DataError
from langadapt.recipes.data import CaptionColumns, Rows


@dataclass(frozen=True, slots=True)
class Caption:
    """One caption. `image` is a file name below the images' folder, or blank in an image-free set."""

    image: str
    text: str
    english: str | None = None


@dataclass(frozen=True, kw_only=True)
class CaptionFiles:
    """Where captions lie, and what a format needs to read them."""

    captions: tuple[SourceFile, ...]
    language: str
    image_names: SourceFile | None = None
    columns: CaptionColumns = field(default_factory=CaptionColumns)
    image_free: bool = False
    inside: bool = False
    """The tables hold the images; a row without a name for its image is one image."""
    rows: Rows = field(default_factory=Rows)
    """Which rows of the tables are read."""


def read_captions_by_line(files: CaptionFiles) -> Iterator[Caption]:
    """Read captions of plain files, one per line, image by image.

    Layouts, read from the repositories: XTD10 `test_1kcaptions_zh.txt` (Japanese is `jp`; de, en, fr and jp
    lie in other folders) beside `test_image_names.txt`, file names of COCO. Multi30k task 1
    `test_2016_flickr.de.gz` beside `image_splits/test_2016_flickr.txt`; the list of `test_2017_mscoco` has
    `#id` behind each name. Task 2 `test_2016.1.de.gz` to `.5.de.gz`, five captions of each image: the
    repository holds no list of names for them; WMT16's own archive has one, which was not verified.
    """
    columns = [
        [check_text(text, f"{path}: line {number}").strip() for number, text in read_lines(path)]
        for path in files.captions
    ]
    if files.image_names is not None:
        names = _read_names(files.image_names)
        beside = files.image_names
    elif files.image_free:
        names, beside = [""] * len(columns[0]), files.captions[0]
    else:
        raise DataError(f"{files.captions[0]}: image_names is missing; name the list of images beside it")
    for path, texts in zip(files.captions, columns, strict=True):
        check_same_count(path, len(texts), beside, len(names))
    for row, name in enumerate(names):
        for texts in columns:
            yield Caption(name, texts[row])


def read_keyed_captions(files: CaptionFiles) -> Iterator[Caption]:
    """Read captions of lines that begin with an image id, optionally `#kind#number`, and a tab or a space.

    Layouts: COCO-CN `COCO_val2014_000000000001#0<tab>caption` with a split file of bare ids (read from public
    loaders; the files themselves are given out on request). Flickr8k-CN `name.jpg#zhc#0<space>caption`, all
    splits in one file, with split files of ids without `.jpg` (read from the repository). Flickr30k-CNA
    `id<tab>caption` and `id#0<tab>caption` (read from the publisher's page and public loaders).

    Images come in the order of the split file where there is one; captions outside of it are left out, and
    each id in it needs one.
    """
    captions: dict[str, list[Caption]] = {}
    if files.image_names is not None:
        captions = {name: [] for name in _read_names(files.image_names)}
    for path in files.captions:
        for number, line in read_lines(path):
            where = f"{path}: line {number}"
            match = _LINE.fullmatch(line)
            if match is None:
                raise DataError(f"{where}: expected `image-id#number`, tab or space, caption; correct it")
            image = jpg(match["image"])
            if files.image_names is None:
                captions.setdefault(image, [])
            if image in captions:
                captions[image].append(Caption(image, check_text(_untagged(match["text"].strip()), where)))
    without = [image for image, found in captions.items() if not found]
    if without:
        problem = f"{len(without)} images have no caption in {files.captions[0]}, the first is {without[0]}"
        raise DataError(f"{files.image_names}: {problem}; take both files from one release")
    for found in captions.values():
        yield from found


def read_table_captions(files: CaptionFiles) -> Iterator[Caption]:
    """Read captions of TSV, CSV, JSON Lines and Parquet tables.

    A cell of JSON Lines or Parquet may hold a list of captions, beside a list of as many English ones.
    """
    columns = files.columns
    # Without images the caption column stands for the image column, which nobody reads.
    name = columns.caption if files.image_free else columns.name if files.inside else columns.image
    asked = [name or columns.caption, columns.caption]
    asked += [columns.english] if columns.english is not None else []
    for row in read_source(files.captions, asked, files.rows, image=columns.image if files.inside else None):
        held, own = row.values[0], Row(row.where, row.values[-len(asked) :])
        image = str(own.values[0])
        if files.image_free:
            image = ""
        elif name is None:
            image = f"{held.path.name}: {held.name}"
        elif not files.inside:
            check_text(own.values[0], f"{row.where}: {name}")
        for text, english in caption_pairs(own, columns.caption, columns.english):
            yield Caption(image, text, english)


def inside_images(files: CaptionFiles) -> dict[str, ParquetImage]:
    """Return the images that tables hold, by the names that `read_table_captions` gives them."""
    images: dict[str, ParquetImage] = {}
    columns = files.columns
    asked = [columns.name or columns.caption]
    for row in read_source(files.captions, asked, files.rows, image=columns.image):
        image, name = row.values
        images.setdefault(str(name) if columns.name else f"{image.path.name}: {image.name}", image)
    return images


def read_crossmodal_captions(files: CaptionFiles) -> Iterator[Caption]:
    """Read captions of one language from `captions.jsonl`; images are `<key>.jpg`.

    Layout, read from public loaders: `{"image/key": "...", "image/locale": "...", "de": {"caption": [...],
    "caption/tokenized": [...]}, ...}`. The language's code is the file's (`fil`, `quz`, `no`).
    """
    for path in files.captions:
        codes = [name for name in column_names(path) if "/" not in name]
        if files.language not in codes:
            raise DataError(f"{path}: no captions in '{files.language}'; there are: {', '.join(codes)}")
        for row in read_values(path, ["image/key", files.language]):
            key, found = row.values
            where = f"{row.where}: {files.language}"
            if not isinstance(found, dict):
                raise DataError(f"{where}: expected an object with captions; fetch the file again")
            texts = reach(found, "caption", where)
            if not isinstance(texts, list) or not texts:
                raise DataError(f"{where}: no captions; fetch the file again")
            image = jpg(check_text(key, f"{row.where}: image/key"))
            for text in texts:
                yield Caption(image, check_text(text, where))


READERS: dict[str, Callable[[CaptionFiles], Iterator[Caption]]] = {
    "table": read_table_captions,
    "lines": read_captions_by_line,
    "coco-cn": read_keyed_captions,
    "flickr-cn": read_keyed_captions,
    "xtd10": read_captions_by_line,
    "multi30k": read_captions_by_line,
    "crossmodal-3600": read_crossmodal_captions,
}
"""Reader of each `format` that a retrieval recipe may name."""


_LINE = re.compile(r"(?P<image>[^\s#]+)(?:#\S*)?[\t ](?P<text>.*)", re.DOTALL)
_TAGGED = re.compile(r"(\S+):[a-z]\w{0,19}")
_SPACE_IN_CHINESE = re.compile(r"(?<![A-Za-z0-9]) | (?![A-Za-z0-9])")


def _untagged(caption: str) -> str:
    """Undo word segmentation with part-of-speech tags (`两个:m 年轻:a`, in some Flickr30k-CN files)."""
    words = caption.split()
    found = [_TAGGED.fullmatch(word) for word in words]
    if sum(match is not None for match in found) * 2 <= len(words):
        return caption
    plain = [word if match is None else match[1] for word, match in zip(words, found, strict=True)]
    return _SPACE_IN_CHINESE.sub("", " ".join(plain))


def _read_names(path: SourceFile) -> list[str]:
    """Read image names or ids, one per line, as file names; `name.jpg#123` loses what follows `#`."""
    names = []
    for number, line in read_lines(path):
        name = line.partition("#")[0].strip()
        if not name:
            raise DataError(f"{path}: line {number} is blank; remove it")
        names.append(jpg(name))
    if not names:
        raise DataError(f"{path}: holds no image names; fetch it again")
    return names


def jpg(name: str) -> str:
    """Return the file name of an image id: `.jpg` is added where it is missing."""
    return name if name.lower().endswith((".jpg", ".jpeg", ".png")) else f"{name}.jpg"
