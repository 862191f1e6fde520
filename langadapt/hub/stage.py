"""A run folder becomes the folder that is published: what belongs there and no more, and checked."""

import json
import os
import shutil
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from langadapt.errors import PublishError
from langadapt.evaluation.cards import ScoreCard, score_json
from langadapt.export import default_probes, write_module_files
from langadapt.export.agreement import agreement
from langadapt.export.sentence_transformers import MODULE_FILES, merged_module
from langadapt.files.atomic import write_text
from langadapt.hub.card import CardFacts, Usage, model_card
from langadapt.hub.licences import Sum, changed_models, objections
from langadapt.hub.upload import upload
from langadapt.models import Artifact, LanguageModel, load, read_artifact, write_artifact
from langadapt.models.artifact import FACTS, FILES, SCORES, WEIGHTS
from langadapt.models.provenance import BaseModel

CARD = "README.md"

PUBLISHED = {*FILES, SCORES, CARD}

TOLERANCE = 1e-5

# What the commands write into a run folder beside the artifact.
_OF_A_RUN = {*PUBLISHED, "log.jsonl", "curve.svg", "report.html"}


@dataclass(frozen=True, kw_only=True)
class StageOptions:
    """What the publisher decides."""

    repo: str = "org/name"
    """Where it will lie; stands in the card's examples."""
    permission: str | None = None
    """Who allowed to publish what a licence forbids; goes into the card."""
    local_base_models: bool = False
    """Publish though a base model is a folder that others do not have."""


@dataclass(frozen=True, kw_only=True)
class Staged:
    """A folder that is ready to be published."""

    folder: Path
    files: tuple[str, ...]
    """Everything in it that is published, relative."""
    licences: Sum
    largest_difference: float
    """Of a sample's number after the reload."""


def stage(run: Path, folder: Path, options: StageOptions | None = None) -> Staged:
    """Writes everything that is published into a folder and checks it.

    Args:
        run: folder of a finished and scored run; nothing in it changes.
        folder: an empty or missing folder.
        options: of the publisher.

    Raises:
        ModelError: the artifact is damaged or its base models are not here.
        PublishError: no scores, or scores of other weights; a licence forbids it; a foreign file; a base
            model that others cannot fetch; samples that do not come out again.
    """
    options = options or StageOptions()
    original = read_artifact(run)
    _refuse_foreign(run, _OF_A_RUN)
    scores = read_scores(run, original)
    _refuse_terms(original, options.permission)
    _refuse_local(original, options)
    artifact = portable(original)
    write_artifact(folder, artifact)
    model, largest = reloaded(folder, original)
    write_text(folder / SCORES, score_json(scores) + "\n")
    usages = [step(folder, model, options.repo) for step in TOOLS]
    facts = CardFacts(
        repo=options.repo,
        artifact=artifact,
        scores=scores,
        adapter_bytes=(folder / WEIGHTS).stat().st_size,
        usages=usages,
        permission=options.permission,
    )
    write_text(folder / CARD, str(model_card(facts)).rstrip() + "\n")
    files = _refuse_foreign(folder, PUBLISHED.union(*(usage.files for usage in usages)))
    return Staged(folder=folder, files=files, licences=facts.licences, largest_difference=largest)


def read_scores(run: Path, artifact: Artifact) -> list[ScoreCard]:
    """The score cards of a run.

    Raises:
        PublishError: there are none, or they are of other weights than the artifact's.
    """
    path = run / SCORES
    if not path.is_file():
        raise PublishError(f"{run}: no {SCORES} in it; score the adapter first: langadapt eval {run}")
    try:
        cards = [ScoreCard.from_dict(card) for card in json.loads(path.read_text(encoding="utf-8"))["cards"]]
    except (ValueError, KeyError, TypeError) as error:
        raise PublishError(f"{path}: damaged; score the adapter again: langadapt eval {run}") from error
    scored = [card for card in cards if card.student is not None]
    if not scored:
        raise PublishError(f"{path}: no score of the student in it; score the adapter: langadapt eval {run}")
    for card in scored:
        if f"+{artifact.digest}|" not in f"{card.signature}|":
            raise PublishError(
                f"{path}: {card.name} was scored with other weights than those of {WEIGHTS} "
                f"({artifact.digest}); "
                f"score the adapter again: langadapt eval {run}"
            )
    return cards


def portable(artifact: Artifact) -> Artifact:
    """The artifact without this machine's paths: of folders and of recipe files only the names stay."""
    recipe = artifact.recipe
    teacher, text_model = (_portable_model(model) for model in (artifact.teacher, artifact.text_model))
    bare = recipe.model_copy(
        update={
            "teacher": recipe.teacher.model_copy(update={"repo": teacher.repo}),
            "text_model": recipe.text_model.model_copy(update={"repo": text_model.repo}),
            "distill": recipe.distill.model_copy(update={"data": tuple(map(_name, recipe.distill.data))}),
            "tune": recipe.tune and recipe.tune.with_paths(_name),
            "domain": recipe.domain and recipe.domain.with_paths(_name),
            "evaluate": tuple(map(_name, recipe.evaluate)),
        }
    )
    return replace(artifact, recipe=bare, teacher=teacher, text_model=text_model)


def reloaded(folder: Path, original: Artifact) -> tuple[LanguageModel, float]:
    """Loads a staged artifact and compares its samples; the model, and the largest difference of a number.

    Raises:
        PublishError: it has no samples, or they do not come out again.
    """
    if original.samples is None:
        raise PublishError(
            "the artifact stores no sample embeddings, it was written by an early langadapt; train it again"
        )
    places = {
        role: model.repo
        for role, model in (("teacher", original.teacher), ("text_model", original.text_model))
        if model.local
    }
    model = load(folder, **places)
    said = model.encode_text(list(original.samples.texts), exact=True)
    largest = (said - original.samples.embeddings).abs().max().item()
    if not largest <= TOLERANCE:  # nor is NaN
        raise PublishError(
            f"loaded again, the samples differ by up to {largest:.1e} from what the student said after its "
            f"training ({TOLERANCE:.0e} is allowed); compare the library versions here with those in {FACTS}"
        )
    return model, largest


def _refuse_terms(artifact: Artifact, permission: str | None) -> None:
    models = (artifact.teacher, artifact.text_model)
    forbidden = objections(artifact.data, models, stored=changed_models(artifact))
    if forbidden and permission is None:
        raise PublishError(
            f"not published: {'; '.join(forbidden)}. If you were allowed to, say by whom: --permission TEXT"
        )


def _refuse_local(artifact: Artifact, options: StageOptions) -> None:
    local = [model.repo for model in (artifact.teacher, artifact.text_model) if model.local]
    if local and not options.local_base_models:
        raise PublishError(
            f"base models that nobody else can fetch: {', '.join(local)}; train on a model of the Hub, or "
            "publish "
            "with --local-base-models for those who have the same folders"
        )


def _refuse_foreign(folder: Path, known: set[str]) -> tuple[str, ...]:
    found = sorted(path.name for path in folder.iterdir())
    foreign = [name for name in found if name not in known]
    if foreign:
        raise PublishError(
            f"{folder}: does not belong to an adapter: {', '.join(foreign[:5])}; move it elsewhere, it is "
            "not published"
        )
    return tuple(found)


def _portable_model(model: BaseModel) -> BaseModel:
    return replace(model, repo=Path(model.repo).name) if model.local else model


def _name(recipe: str) -> str:
    return Path(recipe).stem if "/" in recipe or recipe.endswith((".yaml", ".yml")) else recipe


@dataclass(frozen=True, kw_only=True)
class Publication:
    """What was published."""

    staged: Staged
    sizes: dict[str, int]
    """Bytes of each file."""
    commit: str | None
    """Hash on the Hub; None where nothing was uploaded."""


def publish(
    run: Path,
    *,
    options: StageOptions,
    out: Path | None = None,
    private: bool = False,
    send: bool = True,
) -> Publication:
    """Publishes a run.

    Args:
        run: folder of a finished and scored run.
        options: repository, and what the publisher states.
        out: write the folder here instead of uploading it; it must not exist, or be empty.
        private: whether a new repository is private.
        send: False stages and checks only.

    Raises:
        LangadaptError: see `stage` and `upload`.
    """
    if out is not None and out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise PublishError(f"--out {out}: exists and is not an empty folder; choose another one")
    parent = out.resolve().parent if out is not None else None
    if parent is not None:
        parent.mkdir(parents=True, exist_ok=True)
    # Beside its final place, so that it gets there in one move.
    temporary = Path(tempfile.mkdtemp(prefix=".langadapt-", dir=parent))
    try:
        staged = stage(run, temporary, options)
        sizes = {name: (temporary / name).stat().st_size for name in staged.files}
        commit = None
        if out is not None:
            temporary.chmod(0o755)
            os.replace(temporary, out)
        elif send:
            commit = upload(
                temporary,
                staged.files,
                repo=options.repo,
                private=private,
                marker=FACTS,
                message="Publish a langadapt adapter",
            )
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return Publication(staged=staged, sizes=sizes, commit=commit)


def _langadapt(folder: Path, model: LanguageModel, repo: str) -> Usage:
    artifact = model.artifact
    places = "".join(
        f', {role}="path/of/{base.repo}"'
        for role, base in (("teacher", artifact.teacher), ("text_model", artifact.text_model))
        if base.local
    )
    return Usage(
        title="langadapt",
        text=f"""```bash
pip install langadapt
```

```python
import langadapt

model = langadapt.load("{repo}"{places})  # revision="..." pins a commit
text = model.encode_text({_example(model)})  # float32 [1, {artifact.target_dim}], unit rows
images = model.encode_images(["a.jpg", "b.jpg"])  # float32 [2, {artifact.target_dim}]
print(text @ images.T)
```""",
    )


def _sentence_transformers(folder: Path, model: LanguageModel, repo: str) -> Usage:
    """Adds the module's files where it embeds as the model does; says so where it cannot."""
    if model.artifact.teacher.local or model.artifact.text_model.local:
        return Usage(
            title="sentence-transformers",
            text="Not from this repository: a base model is a folder that is not on the Hub. Whoever has "
            "it can write a folder that holds everything: `langadapt export`, below.",
        )
    agreement(model, merged_module(model), default_probes(model)).within(
        TOLERANCE, what="the sentence-transformers module"
    )
    write_module_files(folder, model)
    return Usage(
        title="sentence-transformers",
        text=f"""Without langadapt. `trust_remote_code=True` runs `langadapt_module.py` of this repository;
read it first.

```python
from PIL import Image
from sentence_transformers import SentenceTransformer

model = SentenceTransformer("{repo}", trust_remote_code=True)
texts = model.encode({_example(model)})
images = model.encode([Image.open("photo.jpg")])
print(model.similarity(texts, images))
```""",
        files=MODULE_FILES,
    )


def _onnx(folder: Path, model: LanguageModel, repo: str) -> Usage:
    return Usage(
        title="ONNX, and a folder with everything inside",
        text=f"""```bash
langadapt export {repo} --format onnx --out onnx
langadapt export {repo} --format sentence-transformers --out with-base-models
```""",
    )


def _example(model: LanguageModel) -> str:
    samples = model.artifact.samples
    return json.dumps(list(samples.texts[:1] if samples else ()), ensure_ascii=False)


TOOLS: tuple[Callable[[Path, LanguageModel, str], Usage], ...] = (_langadapt, _sentence_transformers, _onnx)

"""Each gets the folder, the adapter loaded from it, and the repository's name; it writes its files there."""
