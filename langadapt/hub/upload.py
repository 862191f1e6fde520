"""Upload in one commit to the Hub; every failure is one line, and no line contains a token."""

from collections.abc import Sequence
from pathlib import Path

from huggingface_hub import CommitOperationAdd, HfApi, constants, get_token
from huggingface_hub.errors import HfHubHTTPError, HFValidationError, HTTPError, RepositoryNotFoundError

from langadapt import __version__
from langadapt.errors import PublishError
from langadapt.files.fetch import one_line, with_backoff


def upload(folder: Path, files: Sequence[str], *, repo: str, private: bool, marker: str) -> str:
    """Upload files of a folder in one commit and return its hash, or the last one's if nothing has changed.

    A repository that does not exist is created; one without the file `marker`, which only an adapter's has,
    is left alone. After an interruption, the same call completes the upload. Every failure is a PublishError.
    """
    if constants.HF_HUB_OFFLINE:
        raise PublishError("HF_HUB_OFFLINE is set: go online to publish, or write the folder with --out")
    if get_token() is None:
        raise PublishError("you are not logged in to the Hub: run `hf auth login`, or set HF_TOKEN")
    api = HfApi(library_name="langadapt", library_version=__version__)

    def send() -> str:
        head = _head(api, repo, private=private, marker=marker)
        if head is None:
            api.create_repo(repo, private=private)
        operations = [CommitOperationAdd(name, folder / name) for name in files]
        commit = api.create_commit(
            repo, operations, commit_message="Publish a langadapt adapter", parent_commit=head
        )
        return commit.oid

    try:
        return with_backoff(send, what=repo)
    except HFValidationError as error:
        raise PublishError(f"--repo {repo}: {one_line(error)}") from None
    except (HfHubHTTPError, HTTPError, RuntimeError, OSError, ValueError) as error:
        # No cause: a traceback of the HTTP library may show the request with its headers.
        raise PublishError(_reason(error, repo)) from None


def _head(api: HfApi, repo: str, *, private: bool, marker: str) -> str | None:
    """Return the repository's last commit; None where it does not exist yet."""
    try:
        info = api.model_info(repo)
    except RepositoryNotFoundError as error:
        if error.response.status_code == 401:
            raise
        return None
    names = {file.rfilename for file in info.siblings or ()} - {".gitattributes"}
    if names and marker not in names:
        raise PublishError(f"{repo}: the name is taken by a model of another kind; choose another --repo")
    if private and not info.private:
        raise PublishError(
            f"{repo} is public already, and --private makes only a new repository private; change it in its "
            "settings on the Hub"
        )
    return info.sha


def _reason(error: BaseException, repo: str) -> str:
    cause: BaseException | None = error
    while cause is not None:
        status = getattr(getattr(cause, "response", None), "status_code", None)
        if status in _REASONS:
            return _REASONS[status].format(repo=repo)
        if isinstance(cause, HTTPError) and status is None:
            return (
                f"{repo}: the Hub cannot be reached ({one_line(cause)}); nothing was published, run the same "
                "command again to continue"
            )
        cause = cause.__cause__ or cause.__context__
    return f"{repo}: the Hub refused the upload: {one_line(error)}; nothing was published"


_REASONS = {
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
