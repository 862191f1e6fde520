"""`langadapt publish`."""

from pathlib import Path
from typing import Annotated

from typer import Argument, Option

from langadapt.cli import options as opt
from langadapt.cli.progress import console, print_json, shown
from langadapt.errors import ModelError, PublishError

HELP = """Publish an adapter on the Hugging Face Hub, with a card made from its artifact.

The run must have been scored (langadapt eval). It is staged in a temporary folder, loaded again, checked
against the embeddings stored after training, and uploaded in one commit, so nothing incomplete is
visible. After an interruption, repeat the command. A data licence that forbids publishing is an error;
non-commercial and unknown terms are marked in the card.

Examples:
  langadapt publish runs/zh --repo me/clip-zh --dry-run
  langadapt publish runs/zh --repo me/clip-zh --private
  langadapt publish runs/zh --out to-look-at/
"""


def publish_command(
    run: Annotated[Path, Argument(metavar="RUN", help="Folder of a finished and scored run.")],
    repo: Annotated[str | None, Option(metavar="ORG/NAME", help="Repository on the Hub.")] = None,
    private: Annotated[bool, Option("--private", help="Make a new repository private.")] = False,
    dry_run: Annotated[
        bool, Option("--dry-run", help="Stage and check, upload nothing; needs no network.")
    ] = False,
    out: Annotated[Path | None, opt.new_folder("Write the folder here instead of uploading it.")] = None,
    permission: Annotated[
        str | None, Option(metavar="TEXT", help="Who allowed what a licence forbids; it goes into the card.")
    ] = None,
    local_base_models: Annotated[
        bool, Option("--local-base-models", help="Publish even if a base model is a local folder.")
    ] = False,
    as_json: opt.AsJson = False,
) -> None:
    if repo is None and out is None:
        raise PublishError("say where it goes: one of --repo ORG/NAME and --out DIR")
    if repo is not None:
        _check_name(repo)
    if permission is not None and not permission.strip():
        raise PublishError("--permission: say who allowed it; the text goes into the card")
    if not run.is_dir():
        raise ModelError(f"{run}: no such artifact folder")

    from langadapt.hub.stage import StageOptions, publish

    options = StageOptions(
        repo=repo or "org/name", permission=permission, local_base_models=local_base_models
    )
    done = publish(run, options=options, out=out, private=private, send=not dry_run)
    licences = done.licences
    if as_json:
        facts = {
            "repo": repo,
            "commit": done.commit,
            "folder": str(out) if out else None,
            "files": done.sizes,
        }
        licence = licences.name or licences.licence
        print_json({**facts, "licence": licence, "largest_difference": done.largest_difference})
        return
    for name, size in done.sizes.items():
        console.print(f"  {name}  {size:,} bytes")
    console.print(f"samples reproduced to {done.largest_difference:.1e}")
    console.print(f"licence: {licences.name or licences.licence}")
    if licences.unknown:
        console.print(f"the card says that these terms are unknown: {', '.join(licences.unknown)}")
    if licences.noncommercial:
        console.print(f"the card says that these forbid commercial use: {', '.join(licences.noncommercial)}")
    if out is not None:
        console.print(f"folder: {shown(out)}")
    elif done.commit is None:
        console.print(f"nothing was uploaded; without --dry-run this goes to {repo}")
    else:
        console.print(f'published: langadapt.load("{repo}", revision="{done.commit}")')


def _check_name(repo: str) -> None:
    from huggingface_hub.errors import HFValidationError
    from huggingface_hub.utils import validate_repo_id

    try:
        validate_repo_id(repo)
    except HFValidationError as error:
        raise PublishError(f"--repo {repo}: {str(error).splitlines()[0]}") from None
    if repo.count("/") != 1:
        raise PublishError(f"--repo {repo}: expected ORG/NAME")
