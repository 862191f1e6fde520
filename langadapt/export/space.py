"""A folder for a Space of the Hugging Face Hub: the demo page over some images, in a container."""

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

from langadapt import __version__
from langadapt.data.images import list_images
from langadapt.errors import DataError, ModelError
from langadapt.evaluation.page import small_jpeg
from langadapt.files.atomic import whole_folder, write_text
from langadapt.files.paths import user_path
from langadapt.files.templates import templates
from langadapt.models import read_artifact, write_artifact
from langadapt.models.artifact import FACTS, BaseModel, portable

_FILES = ("app.py", "requirements.txt", "Dockerfile", "README.md")
_LONG_SIDE_PIXELS = 1600


def export_space(run: str, images: Path, out: Path, *, overwrite: bool = False) -> dict[str, Any]:
    """Write a Space that serves the demo page of a model over the images of a folder.

    Args:
        run: run folder, whose artifact (and base models that are folders) is copied, or `org/name` on the
            Hub, which the Space fetches.
        images: folder; its images are written anew, at most 1,600 pixels wide or high, without metadata.
        out: appears when it is whole; `overwrite` replaces a folder that is not empty.

    Returns:
        `model`, as the Space names it; `images`, their number; `failed`, a line for each that cannot be read.

    Raises:
        LangadaptError: no readable image, a teacher that is itself a local run, nothing at `run`.
    """
    artifact, is_local = read_artifact(run), user_path(run).is_dir()
    paths, failed = list_images(images), list[str]()
    with whole_folder(out, overwrite=overwrite) as folder:
        for path in paths:
            target = folder / "images" / path.relative_to(images)
            try:
                raw = small_jpeg(path, long_side_pixels=_LONG_SIDE_PIXELS)
            except DataError as error:
                failed.append(str(error))
            else:
                target.parent.mkdir(parents=True, exist_ok=True)
                target.with_name(f"{path.name}.jpg").write_bytes(raw)
        if len(failed) == len(paths):
            raise DataError(f"{images}: no image in it can be read; name the folder that the Space shows")
        if is_local:
            portable_artifact = replace(
                portable(artifact),
                teacher=_copied(artifact.teacher, folder / "teacher"),
                text_model=_copied(artifact.text_model, folder / "text_model"),
            )
            write_artifact(folder / "model", portable_artifact)
        facts = {"model": "model" if is_local else run, "images": len(paths) - len(failed), "failed": failed}
        source = templates("langadapt.export", escape_html=False)
        for name in _FILES:
            template = source.get_template(f"space/{name}.txt")
            write_text(folder / name, template.render(artifact=artifact, version=__version__, **facts) + "\n")
    return facts


def _copied(base: BaseModel, place: Path) -> BaseModel:
    """Copy a base model that is a folder; the artifact names it by a path that begins at the Space."""
    if not base.local:
        return base
    if (Path(base.repo) / FACTS).is_file():
        raise ModelError(f"{base.repo}: an aligned run; publish it, train on that, and export again")
    shutil.copytree(base.repo, place)
    return replace(base, repo=place.name)
