"""Publish: stage into a temporary folder, check, upload in one commit."""

import os
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path

from langadapt.errors import PublishError
from langadapt.hub.stage import Staged, StageOptions, stage
from langadapt.hub.upload import upload
from langadapt.models.artifact import FACTS


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
