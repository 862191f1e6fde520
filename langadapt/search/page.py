"""Search results as a page of pictures."""

from collections.abc import Sequence
from pathlib import Path

from langadapt.evaluation.page import Page, Search
from langadapt.evaluation.thumbnails import Thumbnail
from langadapt.search.index import Hit
from langadapt.search.session import SearchSession


def search_page(
    session: SearchSession, texts: Sequence[str], pictures: Sequence[Path], found: Sequence[Sequence[Hit]]
) -> Page:
    """The grid: one block per query, best image first, in the language's direction of writing.

    Args:
        session: who answered.
        texts: queries.
        pictures: queries that are pictures; they come after the texts.
        found: images of each query.
    """
    recipe = session.model.artifact.recipe
    grids = [
        [Thumbnail(path=hit.path, label=f"{hit.name}  {hit.score:.3f}", correct=None) for hit in hits]
        for hits in found
    ]
    searches = [
        Search(query=text, english=None, language=recipe.code, direction=recipe.direction, images=grid)
        for text, grid in zip(texts, grids[: len(texts)], strict=True)
    ]
    searches += [
        Search(
            query=f"looks like {picture.name}",
            english=None,
            language="en",
            direction="ltr",
            images=grid,
            picture=picture,
        )
        for picture, grid in zip(pictures, grids[len(texts) :], strict=True)
    ]
    index = session.index
    facts = {
        "language": f"{recipe.name} ({recipe.code})",
        "images": f"{len(index):,} in {index.meta.folder_path}",
        "image model": index.meta.label,
        "text": session.model.label,
    }
    return Page(title=f"Search in {recipe.name}", searches=searches, facts={"Settings": facts})
