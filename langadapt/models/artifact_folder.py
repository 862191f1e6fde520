"""An artifact's folder: found here or on the Hub, and refused when it is not as it was written."""

import hashlib
import json
from pathlib import Path
from typing import Any

from huggingface_hub import snapshot_download
from huggingface_hub.errors import (
    HfHubHTTPError,
    HFValidationError,
    HTTPError,
    LocalEntryNotFoundError,
)

from langadapt.data.hub_retry import WrongHashError, fetched, one_line
from langadapt.errors import ModelError

FORMAT_VERSION = 2
WEIGHTS, RECIPE, FACTS, SCORES = "adapter.safetensors", "recipe.yaml", "artifact.json", "scores.json"
SAMPLES, VOCABULARY = "samples.safetensors", "vocabulary.json"
FILES = (WEIGHTS, RECIPE, FACTS, SAMPLES, VOCABULARY)
"""All that `load` reads; the last two are not in every artifact."""
_PICKLED = {".bin", ".ckpt", ".joblib", ".pickle", ".pkl", ".pt", ".pth"}


def artifact_folder(path_or_repo: str, revision: str | None) -> Path:
    """The folder of an artifact; what lies on the Hub is fetched, the artifact's own files only.

    Raises:
        ModelError: neither here nor on the Hub.
    """
    local = Path(path_or_repo).expanduser()
    if local.is_dir():
        return local
    if path_or_repo.startswith((".", "/", "~")) or path_or_repo.count("/") != 1:
        raise ModelError(f"{path_or_repo}: no such artifact folder")
    try:
        return fetched(
            lambda: snapshot_download(path_or_repo, revision=revision, allow_patterns=list(FILES)),
            what=path_or_repo,
        )
    except LocalEntryNotFoundError:
        raise ModelError(
            f"{path_or_repo}: no such folder here, and the Hub cannot be reached for an artifact of that name"
        ) from None
    except WrongHashError as error:
        raise ModelError(f"{path_or_repo}: {error}; try again later") from None
    except (HfHubHTTPError, HFValidationError, HTTPError) as error:
        raise ModelError(
            f"{path_or_repo}: no such folder here, no such artifact on the Hub: {one_line(error)}"
        ) from None


def check_files(folder: Path) -> None:
    """Refuses a folder that is no artifact, or that holds what no artifact holds.

    Raises:
        ModelError: a file of the artifact is missing, one leads out of the folder, or one is pickled.
    """
    for name in (FACTS, RECIPE, WEIGHTS):
        if not (folder / name).is_file():
            raise ModelError(
                f"{folder}: no {name} in it; an artifact is the folder that `langadapt distill` wrote"
            )
    root = folder.resolve()
    # The Hub's cache keeps the files of all revisions in one folder and links to them.
    blobs = root.parents[1] / "blobs" if root.parent.name == "snapshots" else root
    for path in sorted(folder.iterdir()):
        target = path.resolve()
        if not (target.is_relative_to(root) or target.is_relative_to(blobs)):
            raise ModelError(
                f"{folder}: {path.name} leads out of the folder, to {target}; put the file itself there"
            )
        if path.suffix.lower() in _PICKLED:
            raise ModelError(
                f"{folder}: {path.name} may be pickled, and such a file can run anything when it is opened; "
                "an artifact has none: remove it, or fetch the artifact again"
            )


def sealed(facts: dict[str, Any]) -> dict[str, Any]:
    """Facts with a SHA-256 over all of them, so that a change by hand is noticed."""
    rest = {key: value for key, value in facts.items() if key != "seal"}
    plain = json.dumps(rest, sort_keys=True, ensure_ascii=False)
    return {**rest, "seal": hashlib.sha256(plain.encode()).hexdigest()}


def check_unchanged(folder: Path, facts: dict[str, Any]) -> None:
    """Compares facts and files with the sums that were taken when they were written.

    Raises:
        ModelError: something is not what was written.
    """
    again = "fetch or train the artifact again"
    if facts["format_version"] == 1:
        files = {WEIGHTS: facts["weights_sha256"]} if "weights_sha256" in facts else {}
    else:
        files = facts["files"]
        if facts["seal"] != sealed(facts)["seal"]:
            raise ModelError(f"{folder}: {FACTS} was changed after it was written; {again}")
        if not {WEIGHTS, RECIPE} <= files.keys():
            raise ModelError(f"{folder}: {FACTS} has no sums of {WEIGHTS} and {RECIPE}; {again}")
    for name, written in files.items():
        if Path(name).name != name:
            raise ModelError(f"{folder}: {FACTS} names a file outside the folder: {name}")
        if not (folder / name).is_file():
            raise ModelError(f"{folder}: no {name} in it, which {FACTS} names; {again}")
        if file_hash(folder / name) != written:
            raise ModelError(f"{folder}: {name} is not the file that was written; {again}")


def file_hash(path: Path) -> str:
    """SHA-256 of a file, as hex digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
