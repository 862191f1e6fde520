"""From a model reference to a local folder and the revision that it really has."""

import hashlib
from dataclasses import dataclass
from pathlib import Path

from huggingface_hub import snapshot_download
from huggingface_hub.errors import (
    GatedRepoError,
    HfHubHTTPError,
    HFValidationError,
    HTTPError,
    LocalEntryNotFoundError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)

from langadapt.data.hub_retry import fetched, one_line
from langadapt.errors import ModelError
from langadapt.models.towers import MODEL_FILES
from langadapt.recipes import ModelRef


@dataclass(frozen=True, kw_only=True)
class ResolvedModel:
    """A base model on this disk.

    `revision` is the commit hash of a Hub repository, or `sha256:` and 16 digits over a local folder's files.
    Where weights were tuned since, `+` and a digest of the changes follow.
    """

    repo: str
    revision: str
    path: Path

    @property
    def label(self) -> str:
        """Name and short revision, as they stand in a signature."""
        base, plus, changes = self.revision.removeprefix("sha256:").partition("+")
        return f"{Path(self.repo).name}@{base[:12]}{plus}{changes}"


def resolve_model(ref: ModelRef) -> ResolvedModel:
    """Finds a base model: a local folder if there is one of that name, else the Hub.

    Args:
        ref: repo and revision; a relative local path starts at the current folder.

    Raises:
        ModelError: not found, gated, no such revision, Hub unreachable, or no safetensors weights in it.
    """
    local = Path(ref.repo).expanduser()
    if local.is_dir():
        if not list(local.glob("*.safetensors")):
            raise ModelError(
                f"{ref.repo}: no safetensors weights in it, and other formats are never opened; save the "
                "model again with save_pretrained"
            )
        return ResolvedModel(repo=str(local.resolve()), revision=folder_hash(local), path=local.resolve())
    if ref.repo.startswith((".", "/", "~")) or ref.repo.count("/") != 1:
        raise ModelError(f"{ref.repo}: no such model folder")
    path = _download(ref)
    if not list(path.glob("*.safetensors")):
        raise ModelError(
            f"{ref.repo} at {ref.revision or 'main'} has no safetensors weights, and other formats are never "
            "opened; name a revision that has them (often one of the repository's pull requests) "
            "or convert it into a local folder"
        )
    return ResolvedModel(repo=ref.repo, revision=path.name, path=path)


def _download(ref: ModelRef) -> Path:
    where = f"{ref.repo} at revision {ref.revision or 'main'}"
    try:
        return fetched(
            lambda: snapshot_download(ref.repo, revision=ref.revision, allow_patterns=MODEL_FILES), what=where
        )
    except GatedRepoError:
        raise ModelError(
            f"{where} is gated: accept its terms at https://huggingface.co/{ref.repo} and run `hf auth login`"
        ) from None
    except RevisionNotFoundError:
        raise ModelError(f"{where}: the Hub has no such revision; see its history on the Hub") from None
    except (RepositoryNotFoundError, HFValidationError):
        raise ModelError(
            f"{where}: no such model on the Hub and no folder of that name here; if it is private run "
            "`hf auth login`"
        ) from None
    except LocalEntryNotFoundError:
        raise ModelError(
            f"{where}: the Hub cannot be reached and the model is not in the local cache; go online once, or "
            "give a local folder as repo"
        ) from None
    except (HfHubHTTPError, HTTPError, OSError) as error:
        # No cause: a traceback of the HTTP library may show the request with its headers.
        raise ModelError(f"{where}: download failed: {one_line(error)}") from None


def folder_hash(folder: Path) -> str:
    """Content hash of a local model folder's configuration, tokenizer and weights."""
    digest = hashlib.sha256()
    files = sorted({path for pattern in MODEL_FILES for path in folder.glob(pattern)})
    for path in files:
        digest.update(path.name.encode())
        digest.update(path.stat().st_size.to_bytes(8, "little"))
        with path.open("rb") as file:
            while block := file.read(1 << 20):
                digest.update(block)
    return f"sha256:{digest.hexdigest()[:16]}"
