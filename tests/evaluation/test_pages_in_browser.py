"""The report pages in a real browser, wide and on a phone, light and dark: what can be measured of them."""

from pathlib import Path

import numpy as np
import pytest
from chromium import Browser, faults
from PIL import Image

from langadapt.evaluation.classification import ClassificationCard
from langadapt.evaluation.domain import BeforeAfter, before_after
from langadapt.evaluation.page import DomainReport, Page, Search, Thumbnail, write_page
from langadapt.evaluation.plots import CurvePoint
from langadapt.evaluation.retrieval import ScoreCard
from langadapt.metrics.classification import ClassificationScores
from langadapt.metrics.intervals import Interval
from langadapt.metrics.retrieval import Recalls, RetrievalScores

pytestmark = pytest.mark.browser
WINDOWS = [(width, dark) for width in (1280, 390) for dark in (False, True)]
INTERVAL = Interval(low=40.0, high=50.0, level=0.95)


def retrieval_card() -> ScoreCard:
    recalls = Recalls(r1=12.3, r5=45.6, r10=78.9)
    scores = RetrievalScores(t2i=recalls, i2t=recalls, interval=INTERVAL, signature="benchmark:val|text:x")
    return ScoreCard(
        name="val",
        title="Photos of a village, test split",
        language="sw",
        student=scores,
        ceiling=scores,
        floor=scores,
        images=20,
        captions=1040,
    )


def classes(count: int) -> ClassificationCard:
    """Each class has 30 images; one in ten is taken for the next class."""
    confusion = np.eye(count, dtype=int) * 27 + np.roll(np.eye(count, dtype=int), 1, axis=1) * 3
    scores = ClassificationScores(
        top1=90.0,
        top5=95.0,
        per_class=(90.0,) * count,
        mean_per_class=90.0,
        interval=INTERVAL,
        confusion=tuple(map(tuple, confusion.tolist())),
        signature="benchmark:classes",
    )
    names = ["a bird with a long name", "猫", *(f"class {number}" for number in range(3, 200))]
    return ClassificationCard(
        name=f"things-{count}",
        language="sw",
        classes=tuple(names[:count]),
        images=30 * count,
        rows=(("student, all templates", scores),),
        retention=0.9,
    )


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A page with every part."""
    folder = tmp_path_factory.mktemp("pages")
    Image.new("RGB", (400, 300), (200, 30, 30)).save(folder / "picture.png")
    photo = {"path": folder / "picture.png", "label": "a-photo-with-a-long-name-0001.png"}
    images = [Thumbnail(**photo, correct=False) for _ in range(5)]
    found = [*images[:4], Thumbnail(**photo, correct=True)]
    missed = [*images, Thumbnail(**photo, missed="rank 37 of 1,000")]
    rows = [
        BeforeAfter("120 held-out pairs", "domain", 61.2, 61.2),
        BeforeAfter("val", "general", 80.0, 79.0),
    ]
    content = Page(
        title="Swahili for clip-vit-base-patch32: Photos of a village, test split",
        summary="Trained on 15,497 rows of News, English and Swahili.",
        cards=[retrieval_card()],
        classifications=[classes(2), classes(50)],
        domain=DomainReport(
            tables=[before_after(rows)],
            sampling=[{"drawn": (0.1, 0.2, 0.3, 0.4)}],
            warning="No step was better.",
        ),
        curve=[
            CurvePoint(step=s, loss=9 / s, recall=s / 6 if s % 150 == 0 else None, kept=s == 450)
            for s in range(1, 601)
        ],
        searches=[
            Search(query="mbwa ufukweni", english="a dog on the beach", images=found, language="sw"),
            Search(query="paka", english="a cat", images=missed, language="sw"),
        ],
        facts={"Settings": {"run folder": "/home/somebody/" + "long/" * 40}},
    )
    write_page(folder / "report.html", content)
    return folder / "report.html"


def shown(browser: Browser, page: Path, width: int, *, dark: bool = False) -> None:
    browser.complaints.clear()
    browser.size(width, 900, dark=dark)
    browser.open(page.as_uri())
    browser.value("[...document.querySelectorAll('details')].forEach(each => { each.open = true })")


@pytest.mark.parametrize(("width", "dark"), WINDOWS)
def test_nothing_is_too_wide_faint_cut_off_or_missing(
    browser: Browser, page: Path, width: int, dark: bool
) -> None:
    shown(browser, page, width, dark=dark)
    assert faults(browser) == []


def test_the_measure_finds_what_is_wrong(browser: Browser, tmp_path: Path) -> None:
    text = """<html><style>p { color: #999; background: #fff }</style><p>grey</p>
    <img src="nothing.png" alt="x"><div style="width: 600px">wide</div>
    <svg width="50" height="20" viewBox="0 0 50 20"><text x="30" y="10">long</text>
    <text x="1" y="19" font-size="6">tiny</text></svg>"""
    (tmp_path / "bad.html").write_text(text)
    shown(browser, tmp_path / "bad.html", 390)
    found = " ".join(faults(browser))
    for words in (
        "wide in a window of 390",
        "no picture: x",
        "contrast 2.8: grey",
        "cut off: long",
        "too small: tiny",
    ):
        assert words in found


def edges(browser: Browser, page: Path, tmp_path: Path) -> tuple[int, int]:
    """Brightness at the left and the right edge of the first table's box, next to its bottom line."""
    box = browser.value(
        "(() => { const e = document.querySelector('.card .scroll'); e.scrollIntoView(); const r = "
        "e.getBoundingClientRect(); return [r.left, r.right, r.bottom] })()"
    )
    browser.screenshot(tmp_path / "edge.png")
    grey = Image.open(tmp_path / "edge.png").convert("L")
    left, right, bottom = (int(value) for value in box)
    return grey.getpixel((left + 1, bottom - 3)), grey.getpixel((right - 2, bottom - 3))


def test_a_table_on_a_phone_shows_where_it_goes_on(browser: Browser, page: Path, tmp_path: Path) -> None:
    shown(browser, page, 390)
    left, right = edges(browser, page, tmp_path)
    assert left == 255
    assert right < 220, "a shadow: there is more"
    browser.value("document.querySelector('.card .scroll').scrollLeft = 1e4")
    left, right = edges(browser, page, tmp_path)
    assert left < 220
    assert right == 255
    shown(browser, page, 1280)
    assert edges(browser, page, tmp_path) == (255, 255)


def test_a_missed_search_shows_the_right_image_and_its_rank(browser: Browser, page: Path) -> None:
    shown(browser, page, 1280)
    marks = "s => [...s.querySelectorAll('.mark')].map(mark => mark.textContent)"
    found = browser.value(f"[...document.querySelectorAll('.search')].map({marks})")
    assert found == [
        ["✓ right image"],
        ["missed: the right image has rank 37 of 1,000"],
    ]


def test_both_curves_have_one_axis_and_one_line_where_the_kept_step_is(browser: Browser, page: Path) -> None:
    shown(browser, page, 1280)
    ticks = (
        "[...document.querySelectorAll('.curves svg')].slice(-2).map(s => "
        "[...s.querySelectorAll('text[text-anchor=middle]')].map(t => [t.getAttribute('x'), t.textContent]))"
    )
    loss, recall = browser.value(ticks)
    assert loss == recall
    assert [text for _, text in loss] == ["0", "200", "400", "600"]
    lines = "[...document.querySelectorAll('[stroke-dasharray]')].map(line => line.getAttribute('x1'))"
    assert len(set(browser.value(lines))) == 1
    dots = "[...document.querySelectorAll('.curves svg')].slice(-1)[0].querySelectorAll('circle').length"
    assert browser.value(dots) == 5, "four measured points, the kept one twice"
    assert (
        browser.value("[...document.querySelectorAll('.curves svg text')].slice(-1)[0].textContent") == "75"
    )


def test_labels_of_a_confusion_do_not_touch(browser: Browser, page: Path) -> None:
    shown(browser, page, 1280)
    script = """[...document.querySelectorAll('.matrix svg')].map(svg => {
      const boxes = [...svg.querySelectorAll('text')].map(t => t.getBoundingClientRect()), pairs = []
      boxes.forEach((a, i) => boxes.slice(0, i).forEach(b => {
        const wide = Math.min(a.right, b.right) - Math.max(a.left, b.left)
        const high = Math.min(a.bottom, b.bottom) - Math.max(a.top, b.top)
        if (wide > 1 && high > 4) pairs.push([a.x, a.y, b.x, b.y]) }))
      return [boxes.length, pairs.length, svg.innerHTML.includes('rotate')] })"""
    # Titles, legends and counts, and of each class a name and two numbers.
    assert browser.value(script) == [[4 + 4 + 3 * 2, 0, False], [4 + 100 + 3 * 50, 0, False]]
