"""Crossmodal-3600: one JSON object per image with captions in 36 languages."""

from collections.abc import Iterator

from langadapt.data.retrieval_formats.caption import Caption, CaptionFiles, jpg
from langadapt.data.rows import check_text, reach
from langadapt.data.tables import column_names, read_values
from langadapt.errors import DataError


def read_crossmodal_captions(files: CaptionFiles) -> Iterator[Caption]:
    """Captions of one language from `captions.jsonl`; images are `<key>.jpg`.

    Layout, read from public loaders: `{"image/key": "...", "image/locale": "...", "de": {"caption": [...],
    "caption/tokenized": [...]}, ...}`. The language's code is the file's (`fil`, `quz`, `no`).

    Raises:
        DataError: unreadable file, no such language, an image without captions in it.
    """
    for path in files.captions:
        codes = [name for name in column_names(path) if "/" not in name]
        if files.language not in codes:
            raise DataError(f"{path}: no captions in '{files.language}'; there are: {', '.join(codes)}")
        for row in read_values(path, ["image/key", files.language]):
            key, found = row.values
            place = f"{row.place}: {files.language}"
            if not isinstance(found, dict):
                raise DataError(f"{place}: expected an object with captions; fetch the file again")
            texts = reach(found, "caption", place)
            if not isinstance(texts, list) or not texts:
                raise DataError(f"{place}: no captions; fetch the file again")
            image = jpg(check_text(key, f"{row.place}: image/key"))
            for text in texts:
                yield Caption(image, check_text(text, place))
