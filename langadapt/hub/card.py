"""The model card: metadata for the Hub's search, and the text, from the artifact and its scores alone."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from huggingface_hub import EvalResult, EvalResultEntry, ModelCard, ModelCardData, eval_result_entries_to_yaml
from huggingface_hub.utils import yaml_dump

from langadapt import __version__
from langadapt.errors import RecipeError
from langadapt.evaluation.retrieval import ScoreCard
from langadapt.evaluation.tables import duration, to_markdown
from langadapt.files.templates import templates
from langadapt.hub.licences import LicenceSum, changed_models, licence_sum
from langadapt.metrics.retrieval import CUTOFFS
from langadapt.models import Artifact
from langadapt.models.tuning import has_tuned_images
from langadapt.recipes import HubSource, LanguageRecipe, RetrievalRecipe, data_recipe, trainable_text


@dataclass(frozen=True, kw_only=True)
class CardFacts:
    """What a card is made from."""

    repo: str
    artifact: Artifact
    scores: Sequence[ScoreCard]
    adapter_bytes: int
    has_module: bool
    """Whether sentence-transformers can load the repository."""
    permission: str | None = None
    """Who allowed to publish what a licence forbids, in the publisher's words."""

    @property
    def title(self) -> str:
        return f"{self.artifact.recipe.name} for {Path(self.artifact.teacher.repo).name}"

    @property
    def licences(self) -> LicenceSum:
        return licence_sum(self.artifact.data, (self.artifact.teacher, self.artifact.text_model))


def model_card(facts: CardFacts) -> ModelCard:
    """Build the whole card."""
    return ModelCard(f"---\n{metadata(facts).to_yaml()}\n---\n\n{card_text(facts)}")


def card_text(facts: CardFacts) -> str:
    """Render the Markdown below the metadata."""
    artifact, recipe = facts.artifact, facts.artifact.recipe
    distilled, later_stages = _stages(artifact.training, recipe)
    environment = dict(artifact.environment)
    device = environment.pop("device", distilled.get("device", "unknown"))
    also = f" ({recipe.native_name})" if recipe.native_name != recipe.name else ""
    new_rows = ", embeddings of new subword tokens" if recipe.text_model.extend_vocabulary else ""
    states = [(source.name, source.contamination) for source in artifact.data]
    template = templates("langadapt.hub", escape_html=False).get_template("card.md")
    text = template.render(
        facts=facts,
        artifact=artifact,
        recipe=recipe,
        stage=recipe.distill,
        max_tokens=(recipe.align or recipe.distill).max_tokens,
        language=f"{recipe.name}{also}",
        licences=facts.licences,
        example=json.dumps(artifact.samples.texts[:1] if artifact.samples else [], ensure_ascii=False),
        image_tower_trained=has_tuned_images(artifact.weights),
        trained_part=trainable_text(recipe.text_model.trains) + new_rows,
        changed=[f"`{model.repo}`" for model in changed_models(artifact)],
        scored_sets=[card.label for card in facts.scores if card.student],
        not_scored=sorted(set(recipe.evaluate) - {card.name for card in facts.scores}),
        distilled=distilled,
        later_stages=later_stages,
        device=device,
        software=[f"{name} {version}" for name, version in environment.items()],
        kept=[f"{name} {state}" for name, state in states if state.startswith("kept")],
        dropped=[name for name, state in states if state == "dropped"],
        unchecked=[name for name, state in states if state != "dropped" and not state.startswith("kept")],
        to_markdown=to_markdown,
        first_url=_first_url,
        duration=duration,
        version=__version__,
    )
    return text.strip() + "\n"


def metadata(facts: CardFacts) -> ModelCardData:
    """Build the card's YAML block, with `model-index`."""
    artifact, licences = facts.artifact, facts.licences
    base = [model.repo for model in (artifact.teacher, artifact.text_model) if not model.local]
    datasets = list(dict.fromkeys(source.hub_repo for source in artifact.data if source.hub_repo))
    return ModelCardData(
        language=_hub_languages(artifact.recipe),
        license=licences.licence,
        license_name=licences.name,
        license_link="README.md" if licences.name else None,
        library_name="langadapt",
        pipeline_tag="feature-extraction",
        tags=[*_TAGS, *(("sentence-transformers", "custom_code") if facts.has_module else ())],
        base_model=base or None,
        datasets=datasets or None,
        metrics=["recall"],
        model_name=facts.repo.rpartition("/")[2],
        eval_results=[result for card in facts.scores for result in _results(card)],
        base_model_relation="adapter" if base else None,
    )


def _hub_languages(recipe: LanguageRecipe) -> list[str]:
    codes = (code.partition("-")[0] for code in recipe.languages or (recipe.code,))
    return list(dict.fromkeys(codes))


_TAGS = ("langadapt", "clip", "cross-lingual", "text-to-image-retrieval", "image-to-text-retrieval")


def eval_results(facts: CardFacts) -> str:
    """Return the scores on data sets of the Hub as its `.eval_results/*.yaml` holds them; empty without any.

    The value is mR6 in percent. Source: https://huggingface.co/docs/hub/eval-results.
    """
    entries = []
    for card in facts.scores:
        source = _hub_source(card.name)
        if source is not None and card.student is not None:
            entry = EvalResultEntry(
                dataset_id=source.repo,
                task_id=source.split,
                dataset_revision=source.revision,
                value=round(card.student.mr6, 4),
                source_url=f"https://huggingface.co/{facts.repo}",
                source_name="langadapt model card",
                notes=f"mR6, {card.label}, {card.student.signature}",
            )
            entries.append(entry)
    return yaml_dump(eval_result_entries_to_yaml(entries)) if entries else ""


def _hub_source(name: str) -> HubSource | None:
    """Return where on the Hub a shipped test set lies; None for all others."""
    try:
        source = data_recipe(RetrievalRecipe, name).recipe.source
    except RecipeError:
        return None
    return source if isinstance(source, HubSource) else None


def _results(card: ScoreCard) -> list[EvalResult]:
    if card.student is None:
        return []
    student = card.student
    values = [("mR6", student.mr6)]
    for name, recalls in (("text to image", student.t2i), ("image to text", student.i2t)):
        values += [(f"R@{k}, {name}", getattr(recalls, f"r{k}")) for k in CUTOFFS]
    return [
        EvalResult(
            task_type="image-text-retrieval",
            task_name="Retrieval without images" if card.image_free else "Image-text retrieval",
            dataset_type=card.name,
            dataset_name=card.label,
            metric_type="recall",
            metric_name=name,
            metric_value=round(value, 4),
            metric_args={"signature": student.signature},
        )
        for name, value in values
    ]


_LATER_STAGES = {
    "distilled": "Then it was tuned on pairs of images and captions",
    "before": "Then it was adapted to a domain on pairs of images and captions",
}
"""Under which key the facts of a later stage keep those of the stage before, and what the later stage did."""


def _stages(
    facts: dict[str, Any], recipe: LanguageRecipe
) -> tuple[dict[str, Any], list[tuple[str, dict[str, Any]]]]:
    """Facts of the distillation, then a sentence and the plain facts of each other stage."""
    later: list[tuple[str, dict[str, Any]]] = []
    while (key := next((key for key in _LATER_STAGES if key in facts), None)) is not None:
        later.insert(0, (_LATER_STAGES[key], _plain(facts)))
        facts = facts[key]
    if recipe.align is not None:
        later.insert(0, ("Two encoders were aligned on pairs of images and captions", _plain(facts)))
    return facts, later


def _plain(facts: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in facts.items() if not isinstance(value, dict)}


def _first_url(source: str | None) -> str | None:
    return next((word.strip(",") for word in (source or "").split() if word.startswith("http")), None)
