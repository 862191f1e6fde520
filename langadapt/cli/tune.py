"""`langadapt tune`."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from langadapt.cli.options import AsJson, Device, LanguageCode, Overwrite, TableImages
from langadapt.cli.progress import console, progress_report, shown
from langadapt.errors import RecipeError
from langadapt.recipes import TuneStage

if TYPE_CHECKING:
    from langadapt.models import Artifact
from typing import Literal, TypeVar

from langadapt.recipes import (
    AlignStage,
    DomainStage,
    LanguageRecipe,
    ModelRef,
    find_language,
    override,
    with_absolute_paths,
    with_values,
)
from langadapt.recipes.find import RecipeFile

TUNE_HELP = """Tune a distilled student, and the image tower if asked, on images with captions.

If no epoch is better than the distilled student on held-out images, the result is that student.

Examples:

  langadapt tune --lang sw --pairs captions.jsonl

  langadapt tune --from runs/sw --pairs captions.csv --images photos/ --out runs/sw-tuned

  langadapt tune --from runs/sw --pairs shard-0.tar --set "tune.text=\\[bitfit, projection]"

  langadapt tune --from runs/sw --pairs captions.tsv --pairs-fraction 0.1,0.3,1

The table has the columns image and caption, and english if you have it. To resume an interrupted run,
repeat the command.
"""


def tune_command(
    lang: LanguageCode = None,
    recipe: Annotated[
        str | None,
        typer.Option("--recipe", help="Recipe with a tune stage; by default the run's own."),
    ] = None,
    pairs: Annotated[
        list[str] | None,
        typer.Option("--pairs", help="Table, tar shard or pair recipe; by default the recipe's tune.pairs."),
    ] = None,
    images: TableImages = None,
    start: Annotated[
        Path | None,
        typer.Option("--from", help="Run folder of the distilled student; runs/LANG by default."),
    ] = None,
    out: Annotated[Path | None, typer.Option("--out", help="Run folder; FROM-tuned by default.")] = None,
    settings: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="Change a value of the stage: tune.epochs=5."),
    ] = None,
    fractions: Annotated[
        str, typer.Option("--pairs-fraction", help="Shares of the images, one run each: 0.1,0.3,1.")
    ] = "1",
    device: Device = None,
    overwrite: Overwrite = False,
    as_json: AsJson = False,
) -> None:
    shares = _shares(fractions)
    begin = chosen_student(start, lang)
    folder = out or begin.with_name(begin.name + "-tuned")

    from langadapt.evaluation.plots import save_svg, training_curve
    from langadapt.models.load import chosen_device
    from langadapt.training import RunOptions, tune

    _, stage = chosen_stage(TuneStage, begin, recipe or lang, pairs, settings)
    several = len(shares) > 1 and not overwrite
    options = RunOptions(
        device=chosen_device(device), overwrite=overwrite, reuse_finished=several, images=images
    )
    made: dict[float, Artifact] = {}
    with progress_report() as report:
        for share in shares:
            place = folder if len(shares) == 1 else folder / f"pairs-{share:g}"
            made[share] = tune(
                begin, place, stage=stage, report=report, options=options, pairs_fraction=share
            )
            save_svg(place / "curve.svg", training_curve(place))
    if len(shares) > 1:
        _learning_curve(folder, made)
    if as_json:
        rows = [{"pairs_fraction": share, **artifact.training} for share, artifact in made.items()]
        typer.echo(json.dumps(rows if len(rows) > 1 else rows[0], ensure_ascii=False))
        return
    for share, artifact in made.items():
        facts = artifact.training
        gain = f"{facts['start_recall']:.1f} to {facts['held_out_recall']:.1f} %"
        verdict = "no better than the distilled student, which it stays" if facts["fell_back"] else gain
        console.print(
            f"{facts['rows']:,} captions of {facts['images']:,} images (share {share:g}): {verdict}"
        )
    scored = folder if len(shares) == 1 else folder / f"pairs-{shares[-1]:g}"
    console.print(f"next: langadapt eval {shown(scored)}")


def _shares(text: str) -> list[float]:
    try:
        shares = [float(part) for part in text.split(",")]
    except ValueError as error:
        raise RecipeError(f"--pairs-fraction {text}: expected numbers such as 0.1,0.3,1") from error
    if not all(0 < share <= 1 for share in shares):
        raise RecipeError(f"--pairs-fraction {text}: each share lies above 0 and is at most 1")
    return sorted(set(shares))


def _learning_curve(folder: Path, made: "dict[float, Artifact]") -> None:
    """Held-out recall against the number of captions, as SVG and JSON."""
    from langadapt.evaluation.plots import save_learning_curve
    from langadapt.files.atomic import write_text

    facts = [artifact.training for artifact in made.values()]
    points = [(float(item["rows"]), float(item["held_out_recall"])) for item in facts]
    start = float(facts[0]["start_recall"])
    save_learning_curve(folder / "learning-curve.svg", points, start=start)
    rows = [{"captions": int(x), "held_out_recall": y, "start_recall": start} for x, y in points]
    write_text(folder / "learning-curve.json", json.dumps(rows, indent=2) + "\n")
    console.print(f"learning curve: {shown(folder / 'learning-curve.svg')}")


S = TypeVar("S", bound=TuneStage)


def chosen_student(start: Path | None, lang: str | None) -> Path:
    """The run folder that `--from` names, or the one of `--lang`."""
    if start is None and lang is None:
        raise RecipeError("say which student to begin with: --from RUN, or --lang CODE for runs/CODE")
    return start or Path("runs") / str(lang)


def named_pairs(pairs: list[str]) -> tuple[str, ...]:
    """The pairs of the command line, those that are files as absolute paths."""
    return tuple(str(Path(name).resolve()) if Path(name).exists() else name for name in pairs)


def chosen_stage(
    kind: type[S], begin: Path, named: str | None, pairs: list[str] | None, settings: list[str] | None
) -> tuple[LanguageRecipe, S]:
    """The student's recipe, and the stage with pairs and settings of the command line.

    Args:
        kind: which stage.
        begin: run folder of the student.
        named: code or path of a recipe with the stage; None takes the student's.
        pairs: from the command line; none: the recipe's.
        settings: `tune.key=value`, or `domain.key=value`.

    Raises:
        RecipeError: no pairs, a recipe of another language, a setting of another stage.
    """
    from langadapt.models import read_artifact

    own = RecipeFile(recipe=read_artifact(begin).recipe, path=begin / "recipe.yaml", shipped=True)
    found = own if named is None else find_language(named)
    name: Literal["domain", "tune"] = "domain" if issubclass(kind, DomainStage) else "tune"
    base = with_absolute_paths(found)
    if found.recipe.code != own.recipe.code:
        theirs = own.recipe.code
        raise RecipeError(f"{found.path} is for '{found.recipe.code}', the student speaks '{theirs}'")
    stage = getattr(base, name)
    if pairs:
        said = named_pairs(pairs)
        stage = kind(pairs=said) if stage is None else stage.model_copy(update={"pairs": said})
    if stage is None:
        raise RecipeError(f"{found.path}: has no {name} stage; name your images and captions: --pairs FILE")
    wrong = next((item for item in settings or [] if not item.startswith(f"{name}.")), None)
    if wrong is not None:
        raise RecipeError(f"--set {wrong}: only values of this stage can change, such as {name}.epochs=5")
    ready = RecipeFile(recipe=base.model_copy(update={name: stage}), path=found.path, shipped=True)
    changed = getattr(override(ready, settings or []).recipe, name)
    assert isinstance(changed, kind)
    return own.recipe, changed


ALIGN_HELP = """Train a new image-text model from an image encoder, a text encoder and images with captions.

Examples:

  langadapt align --image-model google/vit-base-patch16-224-in21k --pairs captions.tsv --images photos/ \\
      --text-model google-bert/bert-base-uncased --out models/mine

  langadapt align --image-model models/mobilenet --text-model models/minilm --pairs captions.tsv \\
      --out models/mine --set text=full --set image=locked

The result is a VisionTextDualEncoderModel in transformers' own format; a language recipe can name it as
its teacher. To resume an interrupted run, repeat the command.
"""


def align_command(
    image_model: Annotated[str, typer.Option("--image-model", help="Vision encoder: folder, or org/name.")],
    text_model: Annotated[str, typer.Option("--text-model", help="Text encoder: folder, or org/name.")],
    pairs: Annotated[list[str], typer.Option("--pairs", help="Table, tar shard or pair recipe.")],
    out: Annotated[Path, typer.Option("--out", help="Folder of the model.")],
    images: TableImages = None,
    settings: Annotated[
        list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Change a value: epochs=5.")
    ] = None,
    device: Device = None,
    overwrite: Overwrite = False,
    as_json: AsJson = False,
) -> None:
    if not pairs:
        raise RecipeError("name your images and captions: --pairs FILE")
    stage = with_values(AlignStage, AlignStage(pairs=named_pairs(pairs)), settings or [])

    from langadapt.models.load import chosen_device
    from langadapt.training import RunOptions, align

    options = RunOptions(device=chosen_device(device), overwrite=overwrite, images=images)
    with progress_report() as report:
        facts = align(
            ModelRef(repo=image_model),
            ModelRef(repo=text_model),
            out,
            stage=stage,
            report=report,
            options=options,
        )
    if as_json:
        typer.echo(json.dumps(facts, ensure_ascii=False))
        return
    console.print(f"model in {shown(out)}, held-out recall (mR6) {facts['held_out_recall']:.1f} %")
    console.print(f"next: name it in a language recipe, teacher: {{repo: {shown(out)}}}")
