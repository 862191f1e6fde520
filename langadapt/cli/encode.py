"""`langadapt encode`, `export` and `publish`: what leaves langadapt."""

import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from typer import Argument, Option

from langadapt.cli import options as opt
from langadapt.cli.progress import console, print_json, shown
from langadapt.errors import DataError, LangadaptError, ModelError, PublishError
from langadapt.files.paths import real_path

if TYPE_CHECKING:
    from langadapt.hub.stage import Publication

Format = Literal["sentence-transformers", "transformers", "onnx", "space", "open-clip"]


def encode_command(
    model: opt.RunName,
    texts: Annotated[Path, Argument(metavar="FILE", help="UTF-8 text file, one text per line; - is stdin.")],
    out: Annotated[Path | None, opt.new_file("--out", "Float32 rows: .npy, or .parquet with texts.")] = None,
    also: Annotated[list[str] | None, Option(metavar="RUN", help="Another language, same teacher.")] = None,
    language: Annotated[str | None, Option(help="Code of the texts' language; detected by default.")] = None,
    as_json: Annotated[bool, Option("--json", help="Print one JSON list per text.")] = False,
    device: opt.Device = None,
) -> None:
    """Encode texts, one per line, into the teacher's embedding space.

    Examples:
      langadapt encode runs/zh captions.txt --out captions.npy
      langadapt encode runs/zh captions.txt --out captions.parquet
      echo 一只狗 | langadapt encode runs/zh - --json
      langadapt encode runs/zh queries.txt --also runs/de --also runs/sw \\
          --out queries.npy

    With --also the texts may be in several languages. Each text's language is detected unless --language
    names it.
    """
    if (out is None) == (not as_json):
        raise DataError("say where the embeddings go: one of --out FILE.npy, FILE.parquet and --json")
    if out is not None:
        opt.check_suffix(out, "--out")
    lines = _text_lines(texts)

    from langadapt.models import load_set
    from langadapt.models.load import chosen_device

    loaded = load_set([model, *(also or [])], device=chosen_device(device))
    embedded = loaded.encode_text(lines, language=language).numpy()
    if out is None:
        for row in embedded:
            print_json([round(float(value), 7) for value in row])
        return
    from langadapt.search.index import export_texts

    export_texts(lines, embedded, out)
    console.print(f"{len(embedded)} texts, {embedded.shape[1]} dimensions in {shown(out)}")


def _text_lines(path: Path) -> list[str]:
    """Texts of a UTF-8 file, or of stdin for `-`, one per line; an empty line is refused."""
    try:
        raw = sys.stdin.buffer.read() if str(path) == "-" else path.read_bytes()
        text = raw.decode("utf-8-sig")
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        line = raw[: error.start].count(b"\n") + 1
        raise DataError(f"{path}: line {line} is not UTF-8; save the file as UTF-8") from error
    lines = [line.rstrip("\r") for line in text.removesuffix("\n").split("\n")]
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            raise DataError(f"{path}: line {number} is empty; each line is one text")
    return lines


def export_command(
    run: opt.RunName,
    form: Annotated[Format, Option("--format", help="Tool that will load it.")],
    out: Annotated[Path, opt.new_folder("The folder to write.")],
    int8: Annotated[bool, Option("--int8", help="onnx: also a text tower with 8-bit weights.")] = False,
    texts: Annotated[Path | None, Option(help="Texts to compare on; by default the artifact's own.")] = None,
    images: Annotated[Path | None, Option(metavar="DIR", help="space: images that its page shows.")] = None,
    overwrite: Annotated[bool, Option("--overwrite", help="Replace a folder that is not empty.")] = False,
    as_json: opt.AsJson = False,
) -> None:
    """Write a model for another tool, and check its embeddings against langadapt's.

    Examples:
      langadapt export runs/zh --format sentence-transformers --out zh-st
      langadapt export runs/zh --format onnx --out zh-onnx
      langadapt export runs/zh --format onnx --int8 --texts captions.txt \\
          --out zh-onnx-int8
      langadapt export me/clip-zh --format space --images photos/ --out zh-space

    sentence-transformers: texts and images, both base models included; loading it does not need langadapt.
    transformers: a dual encoder (aligned with pooling=pooler, or a tuned CLIP) without added modules.
    onnx: text tower and image tower, with tokenizer and preprocessing; --int8 adds a text tower with 8-bit
    weights and measures on --texts how far its embeddings move.
    space: the search page over a folder of images, to upload as a Space of the Hugging Face Hub.
    """
    if form == "open-clip":
        raise ModelError(
            "--format open-clip: open_clip has no text tower that could hold the adapter (one pooler and one "
            "projection follow its text model); take sentence-transformers or onnx for the texts, and "
            "open_clip's own image tower for the images where the teacher is a CLIP that it has"
        )
    if int8 and form != "onnx":
        raise DataError("--int8 is for --format onnx")
    if texts is not None and form == "space":
        raise DataError("--texts is for models, not for --format space")
    if (images is None) == (form == "space"):
        raise DataError("--images DIR names the images of --format space; give both, or neither")
    if images is not None:
        _export_space(run, images, out, overwrite=overwrite, as_json=as_json)
        return
    given = None if texts is None else _text_lines(texts)

    from langadapt.export.onnx import export_onnx
    from langadapt.export.sentence_transformers import default_probes, export_sentence_transformers
    from langadapt.export.transformers import export_transformers
    from langadapt.models import load

    model = load(run)
    probes = default_probes(model, texts=given)
    if form == "onnx":
        facts = export_onnx(model, out, probes=probes, int8=int8, overwrite=overwrite)
    elif form == "transformers":
        facts = export_transformers(model, out, probes=probes, overwrite=overwrite)
    else:
        facts = export_sentence_transformers(model, out, probes=probes, overwrite=overwrite)
    if as_json:
        print_json({"out": out, **facts})
        return
    found = facts["agreement"]
    console.print(
        f"{form} in {shown(out)}; largest difference from the model {found['text_difference']:.1e} on "
        f"{found['texts']} texts, {found['image_difference']:.1e} on {found['images']} images"
    )
    if "int8" in facts:
        cost = facts["int8"]
        console.print(
            f"8-bit text tower: {cost['bytes'] / 1e6:.1f} MB instead of {cost['float_bytes'] / 1e6:.1f} MB; "
            f"cosine with the float model on {cost['texts']} texts: mean {cost['mean_cosine']:.4f}, "
            f"lowest {cost['lowest_cosine']:.4f}"
        )
    console.print(f"how to use it: {shown(out)}/README.md")


def _export_space(run: str, images: Path, out: Path, *, overwrite: bool, as_json: bool) -> None:
    from langadapt.export.space import export_space

    facts = export_space(run, images, out, overwrite=overwrite)
    if as_json:
        print_json({"out": out, **facts})
        return
    for line in facts["failed"]:
        console.print(f"left out: {line}")
    console.print(f"Space of {facts['images']:,} images in {shown(out)}; try it: python {shown(out)}/app.py")


def publish_command(
    runs: Annotated[list[Path], Argument(metavar="RUN...", help="Folder of a finished and scored run.")],
    repo: Annotated[str | None, Option(metavar="ORG/NAME", help="Repository on the Hub.")] = None,
    every: Annotated[
        bool, Option("--all", help="Several runs, each as ORG/NAME-RUN, in one collection called NAME.")
    ] = False,
    private: Annotated[bool, Option("--private", help="Make a new repository private.")] = False,
    dry_run: Annotated[bool, Option("--dry-run", help="Stage and check; needs no network.")] = False,
    out: Annotated[Path | None, opt.new_folder("Write the folder here instead of uploading it.")] = None,
    permission: Annotated[
        str | None, Option(metavar="TEXT", help="Who allowed what a licence forbids; it goes into the card.")
    ] = None,
    local_base_models: Annotated[
        bool, Option("--local-base-models", help="Publish even if a base model is a local folder.")
    ] = False,
    as_json: opt.AsJson = False,
) -> None:
    """Publish an adapter on the Hugging Face Hub, with a card made from its artifact.

    The run must have been scored (langadapt eval). It is staged in a temporary folder, loaded again, checked
    against the embeddings stored after training, and uploaded in one commit, so nothing incomplete is
    visible. After an interruption, repeat the command. A data licence that forbids publishing is an error;
    non-commercial and unknown terms are marked in the card.

    Examples:
      langadapt publish runs/zh --repo me/clip-zh --dry-run
      langadapt publish runs/zh --repo me/clip-zh --private
      langadapt publish runs/zh --out to-look-at/
      langadapt publish --all runs/* --repo me/clip
    """
    if (repo is None and (out is None or every)) or (every and out is not None):
        raise PublishError("say where it goes: one of --repo ORG/NAME and --out DIR; --all takes --repo")
    if len(runs) > 1 and not every:
        raise PublishError(f"{len(runs)} runs: add --all to publish each as ORG/NAME-RUN")
    names = {run: f"{repo}-{real_path(run).name}" if every else repo for run in runs}
    if every and len({*names.values()}) < len(runs):
        raise PublishError("--all: two of these runs have one folder name and so one repository; rename one")
    for target in filter(None, names.values()):
        _check_name(target)
    if permission is not None and not permission.strip():
        raise PublishError("--permission: say who allowed it; the text goes into the card")
    if missing := [run for run in runs if not run.is_dir()]:
        raise ModelError(f"{missing[0]}: no such artifact folder")

    from langadapt.hub.stage import StageOptions, collect, publish

    given = StageOptions(permission=permission, local_base_models=local_base_models)
    published: dict[str, Publication] = {}
    for run, name in names.items():
        options = replace(given, repo=name or given.repo)
        try:
            done = publish(run, options=options, out=out, private=private, send=not dry_run)
        except LangadaptError as error:
            if not every:
                raise
            console.print(f"not published: {shown(run)}: {error}")
            continue
        published[options.repo] = done
        if not as_json:
            _show_publication(done, repo=name, out=out)
    if as_json:
        rows = [_publication_facts(done, repo and at, out) for at, done in published.items()]
        print_json(rows if every else rows[0])
    if every and published and not dry_run and repo:
        address = collect(list(published), title=repo.partition("/")[2], private=private)
        console.print(f"collection: {address}")
    if lost := len(runs) - len(published):
        raise PublishError(f"{lost} of {len(runs)} runs were not published; the reasons stand above")


def _publication_facts(done: "Publication", repo: str | None, out: Path | None) -> dict[str, object]:
    folder, licence = None if out is None else str(out), done.licences.name or done.licences.licence
    facts = {"repo": repo, "commit": done.commit, "folder": folder, "files": done.sizes}
    return {**facts, "licence": licence, "largest_difference": done.largest_difference}


def _show_publication(done: "Publication", *, repo: str | None, out: Path | None) -> None:
    from huggingface_hub import constants

    licences = done.licences
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
        console.print(f"published: {constants.ENDPOINT}/{repo}")
        console.print(f'langadapt.load("{repo}", revision="{done.commit}")')


def _check_name(repo: str) -> None:
    from huggingface_hub.errors import HFValidationError
    from huggingface_hub.utils import validate_repo_id

    try:
        validate_repo_id(repo)
    except HFValidationError as error:
        raise PublishError(f"--repo {repo}: {str(error).splitlines()[0]}") from None
    if repo.count("/") != 1:
        raise PublishError(f"--repo {repo}: expected ORG/NAME")
