"""One HTML file that shows a run: scores, curve, searches, settings. It loads nothing from elsewhere."""

import base64
import io
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from markupsafe import Markup

from langadapt.data.images import ImageFile, open_image
from langadapt.data.retrieval import RetrievalSet
from langadapt.evaluation.classification import ClassificationCard
from langadapt.evaluation.plots import CurvePoint, confusion_svg, curve_panels, draws_panel
from langadapt.evaluation.retrieval import Evaluation, ScoreCard, best_images, card_warnings, image_rank
from langadapt.evaluation.tables import ScoreTable
from langadapt.files.atomic import write_text
from langadapt.files.templates import templates
from langadapt.models.artifact import Artifact
from langadapt.recipes import LanguageRecipe, trainable_text


@dataclass(frozen=True, kw_only=True)
class Thumbnail:
    """An image on the page."""

    path: ImageFile
    label: str
    """Shown below it and read aloud instead of it."""
    correct: bool | None = None
    """Whether a search was right to find it; None where nobody knows."""
    note: str = ""
    missed: str = ""
    """Rank of a right image that the search did not show."""


@dataclass(frozen=True, kw_only=True)
class Search:
    """A query and the images that were found for it, best first."""

    query: str
    english: str | None
    images: Sequence[Thumbnail]
    language: str | None = None
    """Code of the query's language, so that a browser picks its fonts."""
    direction: Literal["ltr", "rtl", "auto"] = "auto"
    """Of the query and of the row of images; auto asks the query's first letters."""
    picture: Path | None = None
    """Stands beside the query where the query is a picture."""


@dataclass(frozen=True, kw_only=True)
class DomainReport:
    """What a domain stage did."""

    tables: Sequence[ScoreTable]
    sampling: Sequence[Mapping[str, Any]]
    """Of each epoch `step`, and `drawn`, the share of the draws by quarter of difficulty."""
    hardest: Sequence[Thumbnail] = ()
    warning: str = ""


@dataclass(frozen=True, kw_only=True)
class Page:
    """Content of the page; empty parts are left out."""

    title: str
    summary: str = ""
    tables: Sequence[ScoreTable] = ()
    """Shown as they are, above the scores."""
    cards: Sequence[ScoreCard] = ()
    classifications: Sequence[ClassificationCard] = ()
    domain: DomainReport | None = None
    curve: Sequence[CurvePoint] = ()
    searches: Sequence[Search] = ()
    facts: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    """Heading (settings, environment) to name to value."""


def write_page(path: Path, page: Page) -> None:
    """Write the page atomically."""
    write_text(path, page_html(page))


def page_html(page: Page) -> str:
    """Render the whole document, every text escaped; an image that cannot be read is a DataError."""
    template = templates("langadapt.evaluation", escape_html=True).get_template("page.html")
    return template.render(
        page=page,
        warnings=card_warnings(page.cards),
        marked=any(image.correct for search in page.searches for image in search.images),
        data_uri=data_uri,
        curve_panels=lambda points: map(Markup, curve_panels(points)),
        draws_panel=lambda sampling: Markup(draws_panel(sampling)),
        confusion=lambda card: Markup(confusion_svg(card.rows[0][1].confusion, card.classes)),
    )


def data_uri(image: ImageFile | bytes) -> str:
    """Return the image, at most 320 pixels wide and high, as a JPEG data URI."""
    raw = small_jpeg(image, long_side_pixels=320)
    return f"data:image/jpeg;base64,{base64.b64encode(raw).decode()}"


def small_jpeg(source: ImageFile | bytes, *, long_side_pixels: int) -> bytes:
    """Return the image as a JPEG file of at most that size, without its file's other content."""
    image = open_image(source)
    image.thumbnail((long_side_pixels, long_side_pixels))
    image.info.clear()  # Pillow would write comments and XMP again
    raw = io.BytesIO()
    image.save(raw, "JPEG", quality=82, optimize=True)
    return raw.getvalue()


def page_title(artifact: Artifact, data: Sequence[str]) -> str:
    """Name language, teacher and data."""
    more = f" and {len(data) - 2} more" if len(data) > 2 else ""
    return f"{artifact.recipe.name} for {artifact.teacher.title}: {', '.join(data[:2])}{more}"


def training_summary(artifact: Artifact) -> str:
    """Say what a run was trained on; empty for a model that nobody trained here."""
    if not artifact.training:
        return ""
    return f"Trained on {artifact.training['rows']:,} rows of {'; '.join(trained_on(artifact))}."


def trained_on(artifact: Artifact) -> list[str]:
    """Return the titles of the data of an artifact's last stage."""
    stage = artifact.recipe.domain or artifact.recipe.tune or artifact.recipe.align
    last = len(stage.pairs) if stage else 0
    return list(dict.fromkeys(source.title for source in artifact.data[-last:]))


def example_searches(retrieval: RetrievalSet, evaluation: Evaluation) -> list[Search]:
    """Show eight captions, drawn by lot and not by success, with the student's best five images for each.

    Where the right image is not among them it stands behind them, with its rank.
    """
    files = retrieval.images
    if files is None:
        return []
    rows = sorted(random.Random(0).sample(range(len(retrieval.texts)), min(8, len(retrieval.texts))))
    searches = []
    for row, images in zip(rows, best_images(evaluation, rows, count=5), strict=True):
        right, english = int(retrieval.image_of_text[row]), retrieval.english
        shown = [
            Thumbnail(path=files[image], label=files[image].name, correct=image == right) for image in images
        ]
        if right not in images:
            rank = f"rank {image_rank(evaluation, row, right):,} of {len(files):,}"
            shown.append(Thumbnail(path=files[right], label=files[right].name, missed=rank))
        search = Search(
            query=retrieval.texts[row],
            english=english[row] if english else None,
            language=retrieval.language,
            images=shown,
        )
        searches.append(search)
    return searches


def run_facts(artifact: Artifact, folder: Path) -> dict[str, dict[str, str]]:
    """Settings and environment of a run, for the page."""
    recipe, training = artifact.recipe, artifact.training
    if not training:
        return {}
    settings = {
        "language": f"{recipe.name} ({recipe.code})",
        "teacher": f"{artifact.teacher.repo} at {artifact.teacher.revision}",
        "text model": f"{artifact.text_model.repo} at {artifact.text_model.revision}",
        "what trains": f"{_what_trains(recipe)}, {training['trained_parameters']:,} weights "
        f"({training['trained_percent']} %)",
        "training rows": f"{training['rows']:,} from {'; '.join(trained_on(artifact))}",
        "contamination": "; ".join(f"{source.name}: {source.contamination}" for source in artifact.data),
        "steps": f"{training['steps']:,}, best at {training['best_step']:,} "
        f"(held-out recall {training['held_out_recall']:.1f} %)",
        "time": f"{training['seconds']:.0f} s on {training['device']}",
        "run folder": str(folder),
    }
    return {"Settings": settings, "Environment": artifact.environment}


def _what_trains(recipe: LanguageRecipe) -> str:
    stage = recipe.domain or recipe.tune or recipe.align
    if stage is None:
        return f"adapter; text model: {trainable_text(recipe.text_model.trains)}"
    sides = {"text": stage.text, "image": stage.image}
    return "; ".join(f"{side}: {trainable_text(methods)}" for side, methods in sides.items())
