"""The page is whole, safe, and needs nothing from outside."""

import base64
import io
import re
from html.parser import HTMLParser
from pathlib import Path

import pytest
from PIL import Image

from langadapt.errors import DataError
from langadapt.evaluation.page import Page, Search, Thumbnail, page_html, small_jpeg, write_page
from langadapt.evaluation.plots import CurvePoint
from langadapt.evaluation.retrieval import ScoreCard
from langadapt.metrics.intervals import Interval
from langadapt.metrics.retrieval import Recalls, RetrievalScores

EVIL = "<script>alert(1)</script>\"'&"
VOID = {"meta", "img"}


class Reader(HTMLParser):
    """Collects elements and texts and insists that tags are closed in order."""

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.open: list[str] = []
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.texts.append(data)


def read(html: str) -> Reader:
    reader = Reader()
    reader.feed(html)
    reader.close()
    assert reader.open == []
    return reader


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    path = tmp_path / "picture.png"
    Image.new("RGB", (900, 600), (200, 30, 30)).save(path)
    return path


def card(name: str, image: str = "clip") -> ScoreCard:
    recalls = Recalls(r1=12.3, r5=45.6, r10=78.9)
    scores = RetrievalScores(
        t2i=recalls,
        i2t=recalls,
        interval=Interval(low=40.0, high=50.0, level=0.95),
        signature=f"benchmark:val|text:{EVIL.replace('|', '')}|image:{image}",
    )
    return ScoreCard(
        name=name, language="zh", student=scores, ceiling=scores, floor=scores, images=20, captions=1040
    )


def full_page(picture: Path, text: str) -> Page:
    images = [Thumbnail(path=picture, label=text, correct=right) for right in (False, True, None)]
    return Page(
        title=text,
        summary=text,
        cards=[card(text), card(text, image=text)],
        curve=[CurvePoint(step=step, loss=1.0 / (step + 1), recall=9.0 * step) for step in range(4)],
        searches=[Search(query=text, english=text, images=images, language="fa")],
        facts={text: {text: text}, "Environment": {"torch": "2.13"}},
    )


def test_every_text_is_escaped(picture: Path) -> None:
    reader = read(page_html(full_page(picture, EVIL)))
    assert "script" not in {tag for tag, _ in reader.elements}
    assert not any(name.startswith("on") for _, attributes in reader.elements for name in attributes)
    # title, h1, summary, 2 cards, query, English side, 3 labels, heading, name and value of a fact
    assert sum(text == EVIL for text in reader.texts) == 11
    assert sum(text == f"{EVIL} (zh)" for text in reader.texts) == 2
    assert [attributes["alt"] for tag, attributes in reader.elements if tag == "img"] == [EVIL] * 3
    assert any(text == f"benchmark:val|text:{EVIL}|image:clip" for text in reader.texts)


def test_nothing_is_loaded(picture: Path) -> None:
    html = page_html(full_page(picture, "query"))
    outside = [
        value
        for _, attributes in read(html).elements
        for name, value in attributes.items()
        if name in ("src", "href", "srcset", "action", "poster", "data")
    ]
    assert len(outside) == 3
    assert all(value and value.startswith("data:image/jpeg;base64,") for value in outside)
    assert "url(" not in html
    assert "@import" not in html
    assert set(re.findall(r"https?://[^\"'< ]+", html)) == {"http://www.w3.org/2000/svg"}


def test_it_holds_what_was_given(picture: Path) -> None:
    reader = read(page_html(full_page(picture, "the query")))
    text = " ".join(reader.texts)
    for part in ("12.3", "45.6", "78.9", "40.0–50.0", "100.0%", "1,040 captions", "Training loss", "2.13"):
        assert part in text
    assert "not comparable: the query (zh) and the query (zh) differ in image" in text
    for row in ("student", "teacher, English", "teacher, raw captions"):
        assert row in reader.texts
    tags = [tag for tag, _ in reader.elements]
    assert tags.count("svg") == 2
    assert tags.count("table") == 2


def test_only_the_right_image_is_framed(picture: Path) -> None:
    reader = read(page_html(full_page(picture, "the query")))
    items = [attributes.get("class") for tag, attributes in reader.elements if tag == "li"]
    assert items == [None, "right", None]


def test_no_legend_where_nobody_knows_what_is_right(picture: Path) -> None:
    search = Search(query="q", english=None, images=[Thumbnail(path=picture, label="x", correct=None)])
    assert "green frame" not in page_html(Page(title="t", searches=[search]))


def test_a_query_says_its_language_and_finds_its_direction(picture: Path) -> None:
    reader = read(page_html(full_page(picture, "گربه")))
    (query,) = [attributes for _, attributes in reader.elements if attributes.get("class") == "query"]
    assert query == {"class": "query", "dir": "auto", "lang": "fa"}


def test_a_language_cannot_leave_its_attribute() -> None:
    reader = read(
        page_html(Page(title="t", searches=[Search(query="q", english=None, images=[], language=EVIL)]))
    )
    assert EVIL in [attributes.get("lang") for _, attributes in reader.elements]


def test_small_jpegs_hold_nothing_else_of_their_file(tmp_path: Path) -> None:
    options = {"comment": b"SECRET", "xmp": b"SECRET", "icc_profile": b"SECRET", "exif": b"Exif\0\0SECRET"}
    Image.new("RGB", (64, 48)).save(tmp_path / "a.jpg", **options)
    assert (tmp_path / "a.jpg").read_bytes().count(b"SECRET") == 4
    assert b"SECRET" not in small_jpeg(tmp_path / "a.jpg", long_side_pixels=32)


def test_images_are_small_jpegs(picture: Path) -> None:
    source = re.search(r"data:image/jpeg;base64,([^\"]+)", page_html(full_page(picture, "q")))
    assert source
    image = Image.open(io.BytesIO(base64.b64decode(source[1])))
    assert (image.format, image.size) == ("JPEG", (320, 213))
    red, green, blue = image.convert("RGB").getpixel((100, 100))  # type: ignore[misc]
    assert abs(red - 200) < 8
    assert abs(green - 30) < 8
    assert abs(blue - 30) < 8


def test_light_dark_and_narrow_are_provided_for() -> None:
    html = page_html(Page(title="t"))
    assert "prefers-color-scheme: dark" in html
    assert 'name="viewport"' in html
    assert html.startswith("<!DOCTYPE html>")


def test_empty_parts_are_left_out() -> None:
    reader = read(page_html(Page(title="t")))
    assert "h2" not in {tag for tag, _ in reader.elements}


def test_a_missing_image_is_named_and_leaves_the_old_page(tmp_path: Path, picture: Path) -> None:
    path = tmp_path / "out" / "page.html"
    write_page(path, Page(title="first"))
    gone = [Thumbnail(path=tmp_path / "gone.jpg", label="x", correct=None)]
    with pytest.raises(DataError, match=r"gone\.jpg"):
        write_page(path, Page(title="second", searches=[Search(query="q", english=None, images=gone)]))
    assert "first" in path.read_text(encoding="utf-8")
    write_page(path, full_page(picture, "猫"))
    assert "猫" in path.read_text(encoding="utf-8")
    assert [item.name for item in path.parent.iterdir()] == ["page.html"]
