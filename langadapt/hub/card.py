"""The model card: metadata for the Hub's search, and the text, from the artifact and its scores alone."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from huggingface_hub import EvalResult, ModelCard, ModelCardData

from langadapt import __version__
from langadapt.evaluation.cards import ScoreCard
from langadapt.evaluation.tables import to_markdown
from langadapt.hub import origin
from langadapt.hub.licences import Sum, licence_sum
from langadapt.models import Artifact
from langadapt.models.tuning import has_tuned_images


@dataclass(frozen=True, kw_only=True)
class Usage:
    """How to use the adapter in one tool."""

    title: str
    text: str
    """Markdown."""
    files: tuple[str, ...] = ()
    """What the tool needs beside the artifact's own files."""


@dataclass(frozen=True, kw_only=True)
class CardFacts:
    """What a card is made from."""

    repo: str
    """`org/name`."""
    artifact: Artifact
    scores: Sequence[ScoreCard]
    adapter_bytes: int
    usages: Sequence[Usage]
    permission: str | None = None
    """Who allowed to publish what a licence forbids, in the publisher's words."""

    @property
    def title(self) -> str:
        return f"{self.artifact.recipe.name} for {Path(self.artifact.teacher.repo).name}"

    @property
    def licences(self) -> Sum:
        return licence_sum(self.artifact.data, (self.artifact.teacher, self.artifact.text_model))


def model_card(facts: CardFacts) -> ModelCard:
    """The whole card."""
    parts = (
        _head(facts),
        _usages(facts.usages),
        section(facts.scores, facts.artifact.recipe.evaluate),
        origin.licences(facts.artifact, facts.licences, facts.permission),
        origin.data(facts.artifact.data),
        origin.training(facts.artifact),
        origin.contamination(facts.artifact),
        origin.limits(facts.artifact, facts.scores),
        _check(facts),
    )
    body = "\n\n".join(part.strip() for part in parts)
    return ModelCard(f"---\n{metadata(facts).to_yaml()}\n---\n\n{body}\n", ignore_metadata_errors=False)


def metadata(facts: CardFacts) -> ModelCardData:
    """The card's YAML block, with `model-index`."""
    artifact, licences = facts.artifact, facts.licences
    base = [model.repo for model in (artifact.teacher, artifact.text_model) if not model.local]
    datasets = list(dict.fromkeys(source.hub_repo for source in artifact.data if source.hub_repo))
    return ModelCardData(
        language=[artifact.recipe.code],
        license=licences.licence,
        license_name=licences.name,
        license_link="README.md" if licences.name else None,
        library_name="langadapt",
        pipeline_tag="feature-extraction",
        tags=["langadapt", "clip", "cross-lingual", "text-to-image-retrieval", "image-to-text-retrieval"],
        base_model=base or None,
        datasets=datasets or None,
        metrics=["recall"],
        model_name=facts.repo.rpartition("/")[2],
        eval_results=[result for card in facts.scores for result in _results(card)],
        base_model_relation="adapter" if base else None,
    )


def _results(card: ScoreCard) -> list[EvalResult]:
    if card.student is None:
        return []
    student = card.student
    values = [("mR6", student.mr6)]
    for name, recalls in (("text to image", student.t2i), ("image to text", student.i2t)):
        values += [(f"R@{k}, {name}", getattr(recalls, f"r{k}")) for k in (1, 5, 10)]
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


def _head(facts: CardFacts) -> str:
    artifact = facts.artifact
    recipe, licences = artifact.recipe, facts.licences
    also = f" ({recipe.native_name})" if recipe.native_name != recipe.name else ""
    warning = (
        "\n\n**Not for commercial use**: see [licences](#licences)."
        if not licences.commercial
        else "\n\n**Some terms are unknown**: see [licences](#licences)."
        if licences.unknown
        else ""
    )
    script = f"{', '.join(recipe.scripts)}, written {_DIRECTIONS[recipe.direction]}"
    trains = origin.trains_text(recipe.text_model)
    images = (
        "Its image tower was trained too, so images must be indexed with this adapter."
        if has_tuned_images(artifact.weights)
        else f"That model is frozen: images that it indexed can be searched in {recipe.name} as they are."
    )
    return f"""# {facts.title}

An adapter of {facts.adapter_bytes / 1e6:.1f} MB with which texts in {recipe.name}{also} are embedded where
`{artifact.teacher.repo}` embeds their English translation. {images}{warning}

| | |
|---|---|
| language | {recipe.name}{also}, ISO 639-3 `{recipe.iso639_3}`, script {script} |
| image-text model | `{artifact.teacher.repo}` at `{artifact.teacher.revision}` |
| text model | `{artifact.text_model.repo}` at `{artifact.text_model.revision}`, trains: `{trains}` |
| embeddings | {artifact.target_dim} dimensions, unit length |
| licence | `{licences.name or licences.licence}` |"""


_DIRECTIONS = {"ltr": "left to right", "rtl": "right to left"}


def _usages(usages: Sequence[Usage]) -> str:
    return "## How to use it\n\n" + "\n\n".join(f"### {usage.title}\n\n{usage.text}" for usage in usages)


def _check(facts: CardFacts) -> str:
    samples = facts.artifact.samples
    texts = "".join(f"\n- {text}" for text in samples.texts) if samples else " none"
    return f"""## What was checked before publishing

The files were loaded again and embedded these texts as the student did at the end of its training, to 1e-5 in
every number; `samples.safetensors` holds the embeddings:
{texts}

`artifact.json` holds a SHA-256 of the artifact's files; one that was changed is refused by `langadapt.load`.
Weights: `{facts.artifact.digest}`. Written by langadapt {__version__}."""


def section(scores: Sequence[ScoreCard], asked: Sequence[str]) -> str:
    """Markdown of all score cards; of the recipe's test sets also those that were not scored."""
    parts = [
        "## Scores\n\nRecalls in percent; t2i: texts search images, i2t: images search texts. mR6 is the "
        "mean of the six. Ties count against the model, and the interval is a bootstrap over images. "
        "*Teacher, English*: the frozen model on the English captions of the same images. *Teacher, raw "
        "captions*: the frozen model on the same captions as the student. *Retention*: mR6 of the student / "
        "mR6 of the teacher on English."
    ]
    parts += [to_markdown(card.table()) for card in scores]
    missing = sorted(set(asked) - {card.name for card in scores})
    if missing:
        parts.append(f"Not scored, though the recipe names them: {', '.join(missing)}.")
    return "\n\n".join(parts)
