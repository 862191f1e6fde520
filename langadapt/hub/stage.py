"""Stage a finished run for publication: write only what belongs there, and check it."""

import os
import re
import shutil
import tempfile
from dataclasses import dataclass, replace
from pathlib import Path

from langadapt.errors import DataError, PublishError
from langadapt.evaluation.cards import ScoreCard, read_score_cards, score_json
from langadapt.export import default_probes, write_module_files
from langadapt.export.sentence_transformers import MODULE_FILES, check_module, merged_module
from langadapt.files.atomic import write_text
from langadapt.hub.card import CardFacts, model_card
from langadapt.hub.licences import LicenceSum, changed_models, objections
from langadapt.hub.upload import upload
from langadapt.models import Artifact, LanguageModel, load, read_artifact, write_artifact
from langadapt.models.artifact import FACTS, FILES, SCORES, WEIGHTS
from langadapt.recipes.find import with_paths

CARD = "README.md"
PUBLISHED = {*FILES, SCORES, CARD}
TOLERANCE = 1e-5
# What the commands write into a run folder beside the artifact.
_REPORTS = {
    "log.jsonl", "curve.svg", "report.html", "classification.json", "classification.html", "confusion.svg",
    "domain.json", "hard-pairs.jsonl",
}  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class StageOptions:
    """Choices of the publisher."""

    repo: str = "org/name"
    """Repository on the Hub, also named in the card's examples."""
    permission: str | None = None
    """Who allowed to publish what a licence forbids; goes into the card."""
    local_base_models: bool = False
    """Publish although a base model is a local folder that others do not have."""


@dataclass(frozen=True, kw_only=True)
class Publication:
    """A folder that was staged, and perhaps published."""

    sizes: dict[str, int]
    """Bytes of each file."""
    licences: LicenceSum
    largest_difference: float
    """Between the numbers of the samples before and after reloading."""
    commit: str | None = None
    """Hash on the Hub; None where nothing was uploaded."""


def publish(
    run: Path, *, options: StageOptions, out: Path | None = None, private: bool = False, send: bool = True
) -> Publication:
    """Publish a finished and scored run; raises as `stage` and `upload` do.

    Args:
        out: write the folder here instead of uploading it; it must not exist, or be empty.
        private: whether a new repository is private.
        send: False stages and checks only.
    """
    if out is not None and out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise PublishError(f"--out {out}: exists and is not an empty folder; choose another one")
    parent = out.resolve().parent if out is not None else None
    if parent is not None:
        parent.mkdir(parents=True, exist_ok=True)
    # On the same disk as its destination, so that it gets there in one move.
    temporary = Path(tempfile.mkdtemp(prefix=".langadapt-", dir=parent))
    try:
        publication = stage(run, temporary, options)
        if out is not None:
            temporary.chmod(0o755)
            os.replace(temporary, out)
        elif send:
            commit = upload(
                temporary, list(publication.sizes), repo=options.repo, private=private, marker=FACTS
            )
            publication = replace(publication, commit=commit)
        return publication
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def stage(run: Path, folder: Path, options: StageOptions) -> Publication:
    """Write everything that is published of a run into an empty or missing folder, and check it.

    Raises:
        ModelError: the artifact is damaged, or its base models are not on this machine.
        PublishError: there are no scores, or scores of other weights; a licence forbids it; a file does not
            belong there; a base model is a local folder; the samples are not reproduced.
    """
    original = read_artifact(run)
    _file_names(run, allowed=PUBLISHED | _REPORTS)
    scores = read_scores(run, original)
    _check_publishable(original, options)
    artifact = portable(original)
    write_artifact(folder, artifact)
    model, largest = reloaded(folder, original)
    write_text(folder / SCORES, score_json(scores) + "\n")
    module = module_files(folder, model)
    facts = CardFacts(
        repo=options.repo,
        artifact=artifact,
        scores=scores,
        adapter_bytes=(folder / WEIGHTS).stat().st_size,
        has_module=bool(module),
        permission=options.permission,
    )
    write_text(folder / CARD, str(model_card(facts)).rstrip() + "\n")
    files = _file_names(folder, allowed=PUBLISHED.union(module))
    sizes = {name: (folder / name).stat().st_size for name in files}
    return Publication(sizes=sizes, licences=facts.licences, largest_difference=largest)


def read_scores(run: Path, artifact: Artifact) -> list[ScoreCard]:
    """Read the score cards of a run; a PublishError without any, or if they belong to other weights."""
    path, command = run / SCORES, f"langadapt eval {run}"
    if not path.is_file():
        raise PublishError(f"{run}: no {SCORES} in it; score the adapter first: {command}")
    try:
        cards = read_score_cards(path)
    except DataError as error:
        raise PublishError(f"{error}: {command}") from error
    scored = [card for card in cards if card.student is not None]
    if not scored:
        raise PublishError(f"{path}: no score of the student in it; score the adapter: {command}")
    for card in scored:
        if f"+{artifact.digest}|" not in f"{card.signature}|":
            raise PublishError(
                f"{path}: {card.name} was scored with other weights than those of {WEIGHTS} "
                f"({artifact.digest}); score the adapter again: {command}"
            )
    return cards


def portable(artifact: Artifact) -> Artifact:
    """Remove this machine's paths from an artifact: only the names of folders and recipe files stay."""
    recipe, models = artifact.recipe, (artifact.teacher, artifact.text_model)
    teacher, text_model = (
        replace(model, repo=Path(model.repo).name) if model.local else model for model in models
    )
    names = {recipe.teacher.repo: teacher.repo, recipe.text_model.repo: text_model.repo}
    bare = with_paths(recipe, _name, lambda name: names.get(name) or _name(name))
    return replace(artifact, recipe=bare, teacher=teacher, text_model=text_model)


def reloaded(folder: Path, original: Artifact) -> tuple[LanguageModel, float]:
    """Load a staged artifact; return it with the largest difference between its samples' numbers.

    A PublishError without samples, or where the model does not reproduce them.
    """
    if original.samples is None:
        raise PublishError(
            "the artifact stores no sample embeddings, it was written by an early langadapt; train it again"
        )
    roles = {"teacher": original.teacher, "text_model": original.text_model}
    folders = {role: base.repo if base.local else None for role, base in roles.items()}
    model = load(folder, teacher=folders["teacher"], text_model=folders["text_model"])
    embedded = model.encode_text(list(original.samples.texts), exact=True)
    largest = (embedded - original.samples.embeddings).abs().max().item()
    if not largest <= TOLERANCE:  # also refuses NaN
        raise PublishError(
            f"after reloading, the samples differ by up to {largest:.1e} from the student's after training "
            f"({TOLERANCE:.0e} is allowed); compare the library versions here with those in {FACTS}"
        )
    return model, largest


def _check_publishable(artifact: Artifact, options: StageOptions) -> None:
    models = (artifact.teacher, artifact.text_model)
    forbidden = objections(artifact.data, models, stored=changed_models(artifact))
    if forbidden and options.permission is None:
        raise PublishError(
            f"not published: {'; '.join(forbidden)}. If you have a permission, say who gave it: "
            "--permission TEXT"
        )
    local = [model.repo for model in models if model.local]
    if local and not options.local_base_models:
        raise PublishError(
            f"base models that nobody else can fetch: {', '.join(local)}; train on a model of the Hub, or "
            "publish with --local-base-models for those who have the same folders"
        )


def _file_names(folder: Path, *, allowed: set[str]) -> tuple[str, ...]:
    found = sorted(path.name for path in folder.iterdir())
    own = (re.fullmatch(r"\.(.+)\.\w+\.tmp", name) for name in found)  # of a write that was killed
    left = {match[0] for match in own if match and match[1] in allowed} | {"checkpoint", ".model.part"}
    foreign = [name for name in found if name not in allowed | left]
    if foreign:
        raise PublishError(
            f"{folder}: does not belong to an adapter: {', '.join(foreign[:5])}; move it elsewhere, it is "
            "not published"
        )
    return tuple(found)


def _name(recipe: str) -> str:
    return Path(recipe).stem if "/" in recipe or recipe.endswith((".yaml", ".yml")) else recipe


def module_files(folder: Path, model: LanguageModel) -> tuple[str, ...]:
    """Write the sentence-transformers module, checked against the model; list its files.

    There are none where a base model is a local folder, which nobody could fetch.
    """
    if model.artifact.teacher.local or model.artifact.text_model.local:
        return ()
    check_module(model, merged_module(model), default_probes(model))
    write_module_files(folder, model)
    return MODULE_FILES
