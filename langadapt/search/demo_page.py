"""The demo's page: a search box, examples, a grid of pictures. Plain HTML without scripts."""

from collections.abc import Sequence
from html import escape
from importlib.resources import files
from pathlib import Path
from urllib.parse import urlencode

from langadapt.evaluation.page import Page, Search, Thumbnail
from langadapt.recipes import LanguageRecipe
from langadapt.search.index import Hit
from langadapt.search.search import SearchSession


def demo_page(
    recipe: LanguageRecipe,
    *,
    images: int,
    query: str = "",
    like: str | None = None,
    hits: Sequence[Hit] | None = None,
    problem: str | None = None,
    milliseconds: float = 0.0,
) -> str:
    """The whole document in the language's direction; what is English in it says so.

    Args:
        recipe: of the language.
        images: how many can be found.
        query: what stands in the box.
        like: name of the image whose likes were asked for.
        hits: what was found, best first; None before the first search.
        problem: why nothing was found, in a sentence.
        milliseconds: how long the search took.
    """
    style = files("langadapt.search").joinpath("demo.css").read_text(encoding="utf-8")
    title = escape(query or recipe.native_name)
    examples = "".join(
        f'<a href="?{escape(urlencode({"q": example}))}">{escape(example)}</a>' for example in recipe.examples
    )
    body = [
        f'<header><h1>{escape(recipe.native_name)}</h1><p class="note"><bdi lang="en" dir="ltr">'
        f"{escape(recipe.name)} · {images:,} images</bdi></p></header>",
        '<form action="/" method="get" role="search">'
        f'<input type="search" name="q" value="{escape(query)}" aria-label="query" autocomplete="off" '
        'maxlength="1000" autofocus required><button type="submit" lang="en">Search</button></form>',
        f'<nav aria-label="examples">{examples}</nav>' if examples else "",
        _found(hits, like, problem, milliseconds),
    ]
    return (
        f'<!DOCTYPE html>\n<html lang="{escape(recipe.code)}" dir="{recipe.direction}">\n<head>\n'
        '<meta charset="utf-8">\n<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        '<meta name="color-scheme" content="light dark">\n<link rel="icon" href="data:,">\n'
        f"<title>{title}</title>\n<style>\n{style}</style>\n</head>\n<body>\n<main>\n"
        + "\n".join(part for part in body if part)
        + "\n</main>\n</body>\n</html>\n"
    )


def _found(hits: Sequence[Hit] | None, like: str | None, problem: str | None, milliseconds: float) -> str:
    if problem is not None:
        return f'<p class="problem"><bdi lang="en" dir="ltr">{escape(problem)}</bdi></p>'
    if hits is None:
        return ""
    what = f"images like {like}" if like is not None else "best images first"
    line = f'<p class="note"><bdi lang="en" dir="ltr">{escape(what)}, {milliseconds:.0f} ms</bdi></p>'
    return line + f'<ol class="images">{"".join(map(_image, hits))}</ol>'


def _image(hit: Hit) -> str:
    name = escape(hit.name)
    return (
        f'<li><a href="/large/{hit.number}"><img src="/small/{hit.number}" alt="{name}" loading="lazy"></a>'
        f'<p class="label"><bdi dir="ltr">{name}</bdi></p><p class="more">'
        f'<span>{hit.score:.3f}</span> <a href="/?like={hit.number}" lang="en">similar</a></p></li>'
    )


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
