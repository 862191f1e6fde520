"""The card's sections on where the weights come from: licences, data, training, contamination, limits."""

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from langadapt.evaluation.cards import ScoreCard
from langadapt.hub.licences import Sum, changed_models
from langadapt.models import Artifact
from langadapt.models.provenance import BaseModel, DataSource
from langadapt.recipes import TextModelRef, trainable_text


def licences(artifact: Artifact, total: Sum, permission: str | None) -> str:
    """Base models with revisions and licences, and what everything means together."""
    rows = "\n".join(
        f"| {role} | {_name(model)} | `{model.revision}` | {_licence(model.licence, model.licence_source)} |"
        for role, model in (("image-text model", artifact.teacher), ("text model", artifact.text_model))
    )
    lines = [f"Together: **`{total.name or total.licence}`**, the strictest of these and of the data's."]
    if total.noncommercial:
        lines.append(f"Commercial use is forbidden by {_listed(total.noncommercial)}.")
    if total.share_alike:
        lines.append("What is made from these weights must be shared under the same terms.")
    if total.unknown:
        lines.append(
            f"Unknown, so neither allowed nor forbidden here: the terms of {_listed(total.unknown)}. Ask "
            "their "
            "authors before you rely on them."
        )
    if permission:
        lines.append(f"Published with a permission, as the publisher states: {permission}")
    changed = [f"`{model.repo}`" for model in changed_models(artifact)]
    held = f"what training changed in {_listed(changed)}" if changed else "no weights of theirs"
    lines.append(
        f"The adapter needs both base models; it holds {held}. Whether weights are a derived work of their "
        "training data is not settled; the stricter reading is taken. This is no legal advice."
    )
    return (
        "## Licences\n\n| | base model | revision | licence |\n|---|---|---|---|\n"
        + rows
        + "\n\n"
        + " ".join(lines)
    )


def data(sources: Sequence[DataSource]) -> str:
    """Corpora with counts, licences, origin and citations."""
    if not sources:
        return "## Data\n\nUnknown: the artifact does not say which corpora it was trained on."
    rows = "\n".join(
        f"| {_link(source.title, source.homepage)} (`{source.name}`) | {source.kind}, en-{source.language} | "
        f"{source.rows:,} | {_licence(source.licence, source.licence_source)} | {_cell(source.origin)}"
        f"{', recipe not verified against its source' if source.unverified else ''} | `{source.fingerprint}` "
        "|"
        for source in sources
    )
    left_out = [f"{source.blank_rows:,} of {source.name}" for source in sources if source.blank_rows]
    blank = f"\n\nRows with a blank side were left out: {', '.join(left_out)}." if left_out else ""
    cited = "".join(f"\n- `{s.name}`: {' '.join(s.citation.split())}" for s in sources if s.citation)
    citations = f"\n\nPlease cite:\n{cited}" if cited else ""
    return (
        "## Data\n\n| corpus | kind | rows | licence | from | fingerprint |\n|---|---|---|---|---|---|\n"
        f"{rows}{blank}{citations}"
    )


_LATER = {
    "distilled": "Then it was tuned on pairs of images and captions",
    "before": "Then it was adapted to a domain on pairs of images and captions",
}

"""Under which key a later stage keeps the facts of the run that it began with, and what it did."""


def training(artifact: Artifact) -> str:
    """Settings, share of trained weights, and what it cost; of a tuned artifact all stages."""
    recipe, facts, later = artifact.recipe, artifact.training, ""
    while (key := next((key for key in _LATER if key in facts), None)) is not None:
        told = {name: value for name, value in facts.items() if not isinstance(value, dict)}
        lines = "\n".join(f"| {name.replace('_', ' ')} | {_cell(value)} |" for name, value in told.items())
        later = f"\n\n{_LATER[key]}:\n\n| | |\n|---|---|\n{lines}{later}"
        facts = facts[key]
    stage, shape = recipe.distill, recipe.adapter
    device = artifact.environment.get("device", facts["device"])
    versions = (f"{name} {value}" for name, value in artifact.environment.items() if name != "device")
    settings = {
        "method": f"distillation on parallel sentences: {stage.distance} distance to the image-text model's "
        f"embedding of the English side, plus {stage.info_nce_weight:g} x in-batch InfoNCE at temperature "
        f"{stage.temperature:g}",
        "adapter": f"{shape.layers} Transformer layers of width {shape.bottleneck_dim}, {shape.heads} heads, "
        f"states `{shape.states}`, {shape.pooling} pooling, dropout {shape.dropout:g}",
        "trained weights": f"{facts['trained_parameters']:,}, {facts['trained_percent']:g} % of the student",
        "optimizer": f"AdamW, learning rate {stage.learning_rate:g}, {stage.warmup_fraction:.0%} warm-up, "
        f"cosine, weight decay {stage.weight_decay:g}, batch {stage.batch_size}, seed {stage.seed}",
        "English rows": f"{stage.identity_fraction:.0%} beside the rows of the language",
        "length": f"{stage.epochs} x {facts['rows']:,} rows, {facts['steps']:,} steps",
        "checkpoint": f"step {facts['best_step']:,}, by recall of {facts['held_out_rows']:,} held-out "
        f"sentences ({facts['held_out_recall']:.1f} %); no test caption was looked at",
        "time": f"{_duration(facts['seconds'])} on {device}, all starts together, embeddings of the frozen "
        "models included where they were not cached",
        "energy": "not measured",
        "software": ", ".join(versions),
    }
    rows = "\n".join(f"| {name} | {value} |" for name, value in settings.items())
    return f"## Training and cost\n\n| | |\n|---|---|\n{rows}{later}"


def contamination(artifact: Artifact) -> str:
    """What is known about test captions in the training text, and what is not."""
    said = {source.name: str(asdict(source).get("contamination", "unchecked")) for source in artifact.data}
    kept = [f"{name} {state}" for name, state in said.items() if state.startswith("kept")]
    dropped = [name for name, state in said.items() if state == "dropped"]
    unknown = [name for name, state in said.items() if state != "dropped" and not state.startswith("kept")]
    lines = []
    if kept:
        lines.append("**Rows that hold test captions were trained on**, so scores are too high:")
        lines.append(f"{_listed(kept)}.")
    if dropped:
        lines.append(f"Compared with test captions, and rows that hold one left out: {_listed(dropped)}.")
    if unknown or not said:
        where = _listed(unknown) if unknown else "no corpus is stated"
        lines.append("Unknown whether the training text holds captions of the test sets, or translations of")
        lines.append(f"them, because it was not compared: {where}.")
    lines.append(
        "No English sentence that was held out to choose the checkpoint was trained on. Unknown: what"
    )
    lines.append("the base models saw when they were pretrained.")
    return "## Contamination\n\n" + " ".join(lines)


def limits(artifact: Artifact, scores: Sequence[ScoreCard]) -> str:
    """What the numbers do not say."""
    recipe = artifact.recipe
    lines = [
        f"The student imitates `{artifact.teacher.repo}`: what that model does not see in an image, or sees "
        "with a "
        f"bias, is not found in {recipe.name} either.",
        f"It was scored on {_listed([card.label for card in scores if card.student])} and on nothing else; "
        "other kinds of "
        "text and of images may do worse.",
        f"Texts are cut after {recipe.distill.max_tokens} tokens.",
        "It embeds the whole text as one vector: counting, negation and who does what to whom are weak "
        "points of such "
        "models. That was not measured here.",
        "One seed, one run: how much another run would differ is not known.",
    ]
    if artifact.teacher.local or artifact.text_model.local:
        lines.insert(
            0,
            "**A base model is a folder that is not on the Hub.** Without that folder, of the very same "
            "content, the "
            "adapter cannot be used.",
        )
    return "## Limits\n\n" + "\n".join(f"- {line}" for line in lines)


def trains_text(ref: TextModelRef) -> str:
    """The recipe's choice in its own words."""
    chosen = trainable_text(ref.trains)
    return f"{chosen}, rows of new tokenizer pieces" if ref.extend_vocabulary else chosen


def _name(model: BaseModel) -> str:
    return (
        f"`{model.repo}` (a folder)"
        if model.local
        else _link(model.repo, f"https://huggingface.co/{model.repo}")
    )


def _licence(licence: str, source: str | None) -> str:
    where = (source or "").split()
    url = next((word.strip(",") for word in where if word.startswith("http")), None)
    return _link(licence, url)


def _link(text: str, url: str | None) -> str:
    return f"[{_cell(text)}]({url})" if url else _cell(text)


def _cell(value: Any) -> str:
    return " ".join(str(value).split()).replace("|", "\\|")


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names) or "nothing"


def _duration(seconds: float) -> str:
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"
