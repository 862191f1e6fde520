"""The demo page: search by a text or by an image, in plain HTML without scripts."""

import asyncio
import threading
import time
from collections.abc import Awaitable
from dataclasses import dataclass

from fastapi import APIRouter, Request, Response
from fastapi.responses import HTMLResponse
from starlette.exceptions import HTTPException

from langadapt.data.images import open_image
from langadapt.errors import DataError, LangadaptError
from langadapt.evaluation.page import data_uri, small_jpeg
from langadapt.files.templates import templates
from langadapt.recipes.find import words_of
from langadapt.search.catalogue import display_name
from langadapt.search.index import Hit, SearchSession
from langadapt.search.service import Service, read_body

_SIZES_PIXELS = {"small": 400, "large": 1600}
_UPLOADS, _READERS = 4, 4
"""So many uploads are held, and so many photos decoded, at a time: each may take some hundred megabytes."""


@dataclass(frozen=True, kw_only=True)
class _Found:
    """What the page shows below its search box."""

    hits: list[Hit]
    scored: bool = True
    like: str = ""
    """Name of the image whose neighbours these are."""
    picture: str = ""
    """The image that was uploaded, as a data URI."""


def demo_page(service: Service, session: SearchSession, count: int) -> APIRouter:
    """Build the page and the images on it, `count` at most."""
    router = APIRouter()
    uploads, readers = asyncio.Semaphore(_UPLOADS), threading.Semaphore(_READERS)
    template = templates("langadapt.search", escape_html=True).get_template("demo.html")
    recipe, index = session.model.artifact.recipe, session.index
    start = [index.hit(number, score=0.0) for number in range(0, len(index), -(-len(index) // count))]

    def image_number(text: str) -> int:
        if text.isascii() and text.isdigit() and len(text) < 12 and int(text) < len(index):
            return int(text)
        raise DataError("there is no image of that number; search again")

    async def find(query: str | None, like: str | None) -> _Found:
        if like:
            number = image_number(like)
            hits = await service.run(session.similar, number, count=count)
            return _Found(hits=hits, like=display_name(index.names[number]))
        if query is None:
            return _Found(hits=start, scored=False)
        if not query.strip():
            raise DataError("the query is empty; write what the image shows")
        service.check([query])
        (hits,) = await service.run(session.by_text, [query], count=count)
        return _Found(hits=hits)

    async def find_uploaded(request: Request) -> _Found:
        limits = service.limits
        if uploads.locked():
            raise HTTPException(503, "too many images at once; try again", {"Retry-After": "1"})
        async with uploads:
            body = await read_body(request, most_bytes=limits.image_bytes, seconds=3 * limits.body_seconds)
            return await find_image(_uploaded(body))

    async def find_image(raw: bytes) -> _Found:

        def search() -> _Found:
            try:
                return _Found(hits=session.by_image(open_image(raw), count=count), picture=data_uri(raw))
            except DataError as error:
                reason = str(error).partition(": ")[2].partition(";")[0]
                raise DataError(f"this file: {reason or 'cannot be read'}; choose another image") from error

        return await service.run(search)

    async def answer(finding: Awaitable[_Found], query: str) -> HTMLResponse:
        began, status, problem, headers, found = time.perf_counter(), 200, "", None, _Found(hits=[])
        try:
            found = await finding
        except LangadaptError as error:
            problem = str(error).encode("utf-8", "replace").decode()
        except HTTPException as error:
            problem, status, headers = error.detail, error.status_code, error.headers
        facts = {"recipe": recipe, "words": words_of(recipe.code), "images": len(index), "query": query}
        milliseconds = 1000 * (time.perf_counter() - began)
        text = template.render(**facts, **vars(found), problem=problem, milliseconds=milliseconds)
        return HTMLResponse(text, status_code=status, headers=headers)

    @router.api_route("/", methods=["GET", "HEAD"])
    async def page(q: str | None = None, like: str | None = None) -> HTMLResponse:
        return await answer(find(q, like), q or "")

    @router.post("/")
    async def uploaded(request: Request) -> HTMLResponse:
        return await answer(find_uploaded(request), "")

    @router.api_route("/{size}/{number}", methods=["GET", "HEAD"])
    def image(size: str, number: str) -> Response:
        if size not in _SIZES_PIXELS:
            raise HTTPException(404, "Not Found")
        try:
            with readers:
                raw = small_jpeg(index.path(image_number(number)), long_side_pixels=_SIZES_PIXELS[size])
        except DataError as error:
            raise HTTPException(404, str(error)) from error
        return Response(raw, media_type="image/jpeg")

    return router


def _uploaded(body: bytes) -> bytes:
    """Return the file of a form with one field, as browsers send it (RFC 7578); a DataError without one."""
    boundary, _, rest = body.partition(b"\r\n")
    content = rest.partition(b"\r\n\r\n")[2].partition(b"\r\n" + boundary)[0] if boundary else b""
    if not content:
        raise DataError("no image was sent; choose one first")
    return content
