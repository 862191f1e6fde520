"""From a run folder and its evaluations to the files that people look at."""

import random
from pathlib import Path

from langadapt.data.retrieval import RetrievalSet
from langadapt.evaluation.page import Search
from langadapt.evaluation.retrieval import Evaluation, best_images
from langadapt.evaluation.sections import Thumbnail
from langadapt.models.artifact import Artifact
from langadapt.recipes import LanguageRecipe


def example_searches(
    retrieval: RetrievalSet, evaluation: Evaluation, *, queries: int = 8, images: int = 5
) -> list[Search]:
    """Some captions of a test set and what the student finds for them, drawn by lot, not by success."""
    if retrieval.images is None:
        return []
    rows = sorted(random.Random(0).sample(range(len(retrieval.texts)), min(queries, len(retrieval.texts))))
    found = []
    for row, places in zip(rows, best_images(evaluation, rows, count=images), strict=True):
        right = int(retrieval.image_of_text[row])
        found.append(
            Search(
                query=retrieval.texts[row],
                english=retrieval.english[row] if retrieval.english else None,
                language=retrieval.language,
                images=[
                    Thumbnail(
                        path=retrieval.images[place],
                        label=retrieval.images[place].name,
                        correct=place == right,
                    )
                    for place in places
                ],
            )
        )
    return found


def run_facts(artifact: Artifact, folder: Path) -> dict[str, dict[str, str]]:
    """What was run, for the page."""
    recipe, training = artifact.recipe, artifact.training
    settings = {
        "language": f"{recipe.name} ({recipe.code})",
        "teacher": f"{artifact.teacher.repo} at {artifact.teacher.revision}",
        "text model": f"{artifact.text_model.repo} at {artifact.text_model.revision}",
        "what trains": f"{_what_trains(recipe)}, {training['trained_parameters']:,} weights "
        f"({training['trained_percent']} %)",
        "training rows": f"{training['rows']:,} from {', '.join(training['data'])}",
        "contamination": "; ".join(f"{source.name}: {source.contamination}" for source in artifact.data),
        "steps": f"{training['steps']:,}, best at {training['best_step']:,} "
        f"(held-out recall {training['held_out_recall']:.1f} %)",
        "time": f"{training['seconds']:.0f} s on {training['device']}",
        "run folder": str(folder),
    }
    return {"Settings": settings, "Environment": artifact.environment}


def _what_trains(recipe: LanguageRecipe) -> str:
    stage = recipe.domain or recipe.tune
    if stage is None:
        return f"adapter + {recipe.text_model.trains} text model of the student"
    sides = {"text": stage.text, "image": stage.image}
    return "; ".join(f"{side}: {', '.join(map(str, methods))}" for side, methods in sides.items())
