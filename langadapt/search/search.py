"""From a folder or an index and a model to something that answers queries."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from langadapt.data.images import open_image
from langadapt.errors import DataError, Report
from langadapt.models import LanguageModel
from langadapt.search.build import Update, image_tower, update_index
from langadapt.search.catalogue import CATALOGUE, Rows
from langadapt.search.index import Hit, ImageIndex, open_index


@dataclass(frozen=True, kw_only=True, eq=False)
class SearchSession:
    """A model and an index that fit each other."""

    model: LanguageModel
    index: ImageIndex
    update: Update | None
    """What bringing it up to date did; None where an index was opened as it is."""

    def by_text(self, texts: Sequence[str], *, count: int, approximate: bool = True) -> list[list[Hit]]:
        """The best images for texts of the language.

        Raises:
            DataError: a text is empty, or the index is damaged.
        """
        for number, text in enumerate(texts, start=1):
            if not text.strip():
                which = "the query" if len(texts) == 1 else f"query {number}"
                raise DataError(f"{which} is empty; write what the picture shows")
        rows = self.model.encode_text(list(texts)).numpy()
        return self.index.search(rows, count=count, approximate=approximate)

    def by_picture(self, path: Path, *, count: int, approximate: bool = True) -> list[Hit]:
        """The images that look most like a picture.

        Raises:
            DataError: the picture cannot be read, or the index is damaged.
        """
        rows = self.model.encode_images([open_image(path)]).numpy()
        return self.index.search(rows, count=count, approximate=approximate)[0]

    def by_image(self, number: int, *, count: int) -> list[Hit]:
        """The images that look most like one of the index, that one first."""
        return self.index.search(self.index.row(number), count=count)[0]

    def example_rows(self) -> Rows:
        """`[Q, D]`, the recipe's examples embedded, to measure approximate search on."""
        examples = list(self.model.artifact.recipe.examples)
        rows = self.model.encode_text(examples) if examples else torch.zeros(0, self.model.dim)
        array: Rows = rows.numpy()
        return array


def open_session(
    where: Path, model: LanguageModel, *, report: Report, place: Path | None = None
) -> SearchSession:
    """Brings the index of a folder up to date and opens it, or opens an index as it is.

    Args:
        where: a folder of images, or the folder of an index.
        model: who asks.
        report: told about progress.
        place: the index of a folder of images; one in the cache unless said.

    Raises:
        DataError: no images, a damaged index, or one of another image tower.
    """
    tower = image_tower(model)
    if (where / CATALOGUE).is_file():
        if place is not None:
            raise DataError(f"{where} is an index itself; leave --index out")
        return SearchSession(model=model, index=open_index(where, tower), update=None)
    update = update_index(where, tower, report=report, place=place)
    return SearchSession(model=model, index=open_index(update.place, tower), update=update)
