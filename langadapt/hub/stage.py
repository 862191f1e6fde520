"""Publish a finished run: stage only what belongs there, check it, upload it in one commit."""

import re
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from huggingface_hub import CommitOperationAdd, HfApi, constants, get_token
from huggingface_hub.errors import HfHubHTTPError, HFValidationError, HTTPError, RepositoryNotFoundError

from langadapt import __version__
from langadapt.errors import DataError, PublishError
from langadapt.evaluation.retrieval import ScoreCard, read_score_cards, score_json
from langadapt.export.sentence_transformers import (
    MODULE_FILES,
    check_module,
    default_probes,
    has_module,
    merged_module,
    write_module_files,
)
from langadapt.files.atomic import whole_folder, write_text
from langadapt.files.fetch import causes, http_status, one_line, with_backoff
from langadapt.hub.card import CardFacts, eval_results, model_card
from langadapt.hub.licences import LicenceSum, changed_models, objections
from langadapt.models import Artifact, LanguageModel, load, read_artifact, write_artifact
from langadapt.models.artifact import FACTS, FILES, SCORES, WEIGHTS, portable

CARD = "README.md"
PUBLISHED = {*FILES, SCORES, CARD}
EVAL_RESULTS = ".eval_results/langadapt.yaml"
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
    if out is None and send:
        check_login()
    place = tempfile.TemporaryDirectory(prefix="langadapt-") if out is None else whole_folder(out)
    with place as name:
        folder = Path(name)
        publication = stage(run, folder, options)
        if send and out is None:
            files = list(publication.sizes)
            commit = upload(folder, files, repo=options.repo, private=private)
            publication = replace(publication, commit=commit)
        return publication


def stage(run: Path, folder: Path, options: StageOptions) -> Publication:
    """Write everything that is published of a run into an empty or missing folder, and check it.

    Raises:
        ModelError: the artifact is damaged, or its base models are not on this machine.
        PublishError: scores or samples are missing or of other weights; a licence, file or base forbids it.
    """
    original = read_artifact(run)
    _file_names(run, allowed={*PUBLISHED, *_REPORTS, *MODULE_FILES, EVAL_RESULTS.partition("/")[0]})
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
    if results := eval_results(facts):
        write_text(folder / EVAL_RESULTS, results)
        files += (EVAL_RESULTS,)
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


def reloaded(folder: Path, original: Artifact) -> tuple[LanguageModel, float]:
    """Load a staged artifact; return it with the largest difference between its samples' numbers.

    A PublishError without samples, or where the model does not reproduce them.
    """
    if original.samples is None:
        raise PublishError("no sample embeddings in the artifact of an early langadapt; train it again")
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
    forbidden = objections(artifact.data, changed_models(artifact))
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
    left = {match[0] for match in own if match and match[1] in allowed}
    stays = left | {"checkpoint", ".model.part", "data", "track", "wandb"}
    foreign = [name for name in found if name not in allowed | stays]
    if foreign:
        raise PublishError(
            f"{folder}: does not belong to an adapter: {', '.join(foreign[:5])}; move it elsewhere, it is "
            "not published"
        )
    return tuple(found)


def module_files(folder: Path, model: LanguageModel) -> tuple[str, ...]:
    """Write the sentence-transformers module, checked against the model; list its files.

    There are none where a base model is a local folder, which nobody could fetch, or no module can hold it.
    """
    if model.artifact.teacher.local or model.artifact.text_model.local or not has_module(model):
        return ()
    check_module(model, merged_module(model), default_probes(model))
    write_module_files(folder, model)
    return MODULE_FILES


def upload(folder: Path, files: Sequence[str], *, repo: str, private: bool) -> str:
    """Upload files of a folder in one commit and return its hash, or the last one's if nothing has changed.

    A repository that does not exist is created; one without artifact.json, which only an adapter's has,
    is left alone. After an interruption, the same call completes the upload. Every failure is a PublishError.
    """
    check_login()
    api = HfApi(library_name="langadapt", library_version=__version__)

    def send() -> str:
        head = _head(api, repo, private=private)
        if head is None:
            api.create_repo(repo, private=private)
        operations = [CommitOperationAdd(name, folder / name) for name in files]
        message = "Publish a langadapt adapter"
        return api.create_commit(repo, operations, commit_message=message, parent_commit=head).oid

    with _refusals(repo):
        return with_backoff(send, what=repo)


def collect(repos: Sequence[str], *, title: str, private: bool) -> str:
    """Put models of one owner into a collection of theirs, made if it is not there; return its address."""
    owner = repos[0].partition("/")[0]
    api = HfApi(library_name="langadapt", library_version=__version__)

    def send() -> str:
        made = api.create_collection(title, namespace=owner, private=private, exists_ok=True)
        for repo in repos:
            api.add_collection_item(made.slug, repo, "model", exists_ok=True)
        return f"{constants.ENDPOINT}/collections/{made.slug}"

    with _refusals(f"collection {owner}/{title}"):
        return with_backoff(send, what=title)


def check_login() -> None:
    """Refuse what would end in a refusal by the Hub: no network, no token."""
    if constants.HF_HUB_OFFLINE:
        raise PublishError("HF_HUB_OFFLINE is set: go online to publish, or write the folder with --out")
    if get_token() is None:
        raise PublishError("you are not logged in to the Hub: run `hf auth login`, or set HF_TOKEN")


@contextmanager
def _refusals(repo: str) -> Iterator[None]:
    try:
        yield
    except HFValidationError as error:
        raise PublishError(f"--repo {repo}: {one_line(error)}") from None
    except (HfHubHTTPError, HTTPError, RuntimeError, OSError, ValueError) as error:
        # No cause: a traceback of the HTTP library may show the request with its headers.
        raise PublishError(_reason(error, repo)) from None


def _head(api: HfApi, repo: str, *, private: bool) -> str | None:
    """Return the repository's last commit; None where it does not exist yet."""
    try:
        info = api.model_info(repo)
    except RepositoryNotFoundError as error:
        if error.response.status_code == 401:
            raise
        return None
    names = {file.rfilename for file in info.siblings or ()} - {".gitattributes"}
    if names and FACTS not in names:
        raise PublishError(f"{repo}: the name is taken by a model of another kind; choose another --repo")
    if private and not info.private:
        raise PublishError(
            f"{repo} is public already, and --private makes only a new repository private; change it in its "
            "settings on the Hub"
        )
    return info.sha


def _reason(error: BaseException, repo: str) -> str:
    for cause in causes(error):
        status = http_status(cause)
        if status in _REASONS:
            return _REASONS[status].format(repo=repo)
        if isinstance(cause, HTTPError) and status is None:
            problem = f"{repo}: the Hub cannot be reached ({one_line(cause)})"
            return f"{problem}; nothing was published, run the same command again to continue"
    return f"{repo}: the Hub refused the upload: {one_line(error)}; nothing was published"


_REASONS: dict[int | None, str] = {
    401: "the Hub does not accept your token (401): run `hf auth login` again, or set HF_TOKEN to one that "
    "may write",
    403: "{repo}: your token may not write there (403): the name belongs to somebody else, or the token can "
    "only read; choose another --repo or a token that may write",
    404: "{repo}: the Hub does not know it (404): no such user or organisation, or your token may not see it",
    409: "{repo}: the Hub reports a conflict (409): the name is taken, or somebody is changing it; run the "
    "command again",
    412: "{repo}: somebody changed it meanwhile (412); look at it, then run the command again",
    429: "{repo}: the Hub asks to wait, too many requests (429); run the command again later",
}
