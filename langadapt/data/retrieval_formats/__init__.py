"""Readers of retrieval test sets in the form in which they are distributed."""

from collections.abc import Callable, Iterator

from langadapt.data.retrieval_formats.by_line import read_captions_by_line
from langadapt.data.retrieval_formats.caption import Caption, CaptionFiles
from langadapt.data.retrieval_formats.crossmodal import read_crossmodal_captions
from langadapt.data.retrieval_formats.keyed import read_keyed_captions
from langadapt.data.retrieval_formats.table import read_table_captions

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

__all__ = ["READERS", "Caption", "CaptionFiles"]
