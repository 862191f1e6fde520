"""`langadapt tune`, `domain` and `align`."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, TypeVar

from typer import Option

from langadapt.cli import options as opt
from langadapt.cli.evaluate import available_sets
from langadapt.cli.progress import console, print_json, print_result, progress_report, shown
from langadapt.errors import DataError, RecipeError
from langadapt.files.paths import real_path, user_path
from langadapt.recipes import AlignStage, DomainStage, ModelRef, TextModelRef, TuneStage, dump_recipe
from langadapt.recipes.authoring import UNDETERMINED, plain_recipe
from langadapt.recipes.find import (
    TABLES,
    RecipeFile,
    find_language,
    override,
    with_absolute_paths,
    with_values,
)

S = TypeVar("S", bound=TuneStage)


def tune_command(
    lang: opt.LanguageCode = None,
    recipe: opt.StageRecipe = None,
    pairs: opt.PairNames = None,
    images: opt.TableImages = None,
    columns: opt.Columns = None,
    start: opt.StudentRun = None,
    out: Annotated[Path | None, opt.own_folder("Run folder; FROM-tuned by default.")] = None,
    settings: opt.Settings = None,
    fractions: Annotated[str, Option("--pairs-fraction", help="Shares of images, a run each: 0.1,1.")] = "1",
    track: opt.Track = None,
    device: opt.Device = None,
    overwrite: opt.Overwrite = False,
    as_json: opt.AsJson = False,
) -> None:
    """Tune a distilled student, and the image tower if asked, on images with captions.

    If no epoch is better than the distilled student on held-out images, the result is that student.

    Examples:
      langadapt tune --lang sw --pairs captions.jsonl
      langadapt tune --from runs/sw --pairs captions.csv --images photos/ \\
          --out runs/sw-tuned
      langadapt tune --from runs/sw --pairs shard-0.tar \\
          --set "tune.text=[bitfit, projection]"
      langadapt tune --from runs/sw --pairs captions.tsv \\
          --pairs-fraction 0.1,0.3,1

    The table has columns for image and caption, and the English side if you have it; their names are guessed.
    To resume an interrupted run, repeat the command.
    """
    shares = _shares(fractions)
    begin = chosen_student(start, lang)
    folder = out or begin.with_name(begin.name + "-tuned")

    from langadapt.evaluation.plots import save_curve
    from langadapt.models.load import chosen_device
    from langadapt.training import RunOptions, tune

    given = GivenPairs.of(pairs, images, columns, folder=folder, overwrite=overwrite)
    several = len(shares) > 1
    reuse = several or not (folder / "curve.svg").is_file()
    where = chosen_device(device)
    options = RunOptions(device=where, overwrite=overwrite, reuse_finished=reuse, images=images, track=track)
    rows = []
    first = folder / f"pairs-{shares[0]:g}" if several else folder
    with progress_report() as report, opt.refused_data_removed(folder, first):
        stage = chosen_stage(TuneStage, begin, recipe or lang, given, settings or [])
        for share in shares:
            run = folder / f"pairs-{share:g}" if several else folder
            made = tune(begin, run, stage=stage, report=report, options=options, pairs_fraction=share)
            rows.append({"pairs_fraction": share, **made.training})
            save_curve(run)
    if several:
        _learning_curve(folder, rows)
    if as_json:
        print_json(rows if several else rows[0])
        return
    for facts in rows:
        gain = f"{facts['start_recall']:.1f} to {facts['held_out_recall']:.1f} %"
        verdict = "no better than the distilled student, which it stays" if facts["fell_back"] else gain
        counts = f"{facts['rows']:,} captions of {facts['images']:,} images"
        console.print(f"{counts} (share {facts['pairs_fraction']:g}): {verdict}")
    console.print(f"next: langadapt eval {shown(run)}")


def _shares(text: str) -> list[float]:
    try:
        shares = [float(part) for part in text.split(",")]
    except ValueError as error:
        raise RecipeError(f"--pairs-fraction {text}: expected numbers such as 0.1,0.3,1") from error
    if not all(0 < share <= 1 for share in shares):
        raise RecipeError(f"--pairs-fraction {text}: each share lies above 0 and is at most 1")
    return sorted(set(shares))


def _learning_curve(folder: Path, facts: list[dict[str, Any]]) -> None:
    from langadapt.evaluation.plots import save_learning_curve
    from langadapt.files.atomic import write_text

    points = [(float(item["rows"]), float(item["held_out_recall"])) for item in facts]
    start = float(facts[0]["start_recall"])
    save_learning_curve(folder / "learning-curve.svg", points, start=start)
    rows = [{"captions": int(x), "held_out_recall": y, "start_recall": start} for x, y in points]
    write_text(folder / "learning-curve.json", json.dumps(rows, indent=2) + "\n")
    console.print(f"learning curve: {shown(folder / 'learning-curve.svg')}")


def chosen_student(start: Path | None, lang: str | None) -> Path:
    """The run folder that `--from` names, or the one of `--lang`."""
    if start is None and lang is None:
        raise RecipeError("say which student to begin with: --from RUN, or --lang CODE for runs/CODE")
    return Path(str(opt.existing(str(start or Path("runs") / str(lang)))))


@dataclass(frozen=True, kw_only=True)
class GivenPairs:
    """The pairs of the command line; a table gets a recipe in the run folder, which repeats the run."""

    names: tuple[str, ...]
    images: Path | None
    columns: dict[str, str]
    folder: Path
    overwrite: bool

    @classmethod
    def of(
        cls, names: list[str] | None, images: Path | None, columns: list[str] | None, **more: Any
    ) -> "GivenPairs":
        """Check the options that belong together."""
        if columns and not names:
            raise DataError("--column describes your own table: give --pairs FILE too")
        for name in names or ():
            if name.endswith((*TABLES, ".yaml", ".yml")) and not user_path(name).is_file():
                raise DataError(f"--pairs {name}: no such file")
        return cls(names=tuple(names or ()), images=images, columns=opt.parsed_columns(columns), **more)

    def recipes(self, language: Sequence[str]) -> tuple[str, ...]:
        """Return names and paths of recipes; `language` are the language's code and names."""
        from langadapt.data.pairs import own_pairs
        from langadapt.files.atomic import write_text

        paths = []
        for name in self.names:
            path = user_path(name)
            if path.is_file() and path.suffix not in (".yaml", ".yml"):
                found = own_pairs(path, language, self.images, self.columns)
                text, path = dump_recipe(found.recipe), self.folder / "data" / f"{found.recipe.name}.yaml"
                if path.is_file() and path.read_text(encoding="utf-8") != text and not self.overwrite:
                    raise DataError(f"{path} was made of other data; choose another --out, or --overwrite")
                write_text(path, text)
            paths.append(str(real_path(path)) if path.is_file() else name)
        return tuple(paths)


def chosen_stage(kind: type[S], begin: Path, named: str | None, pairs: GivenPairs, settings: list[str]) -> S:
    """Return the stage of the recipe `named`, or of the student's own, with the command line's values."""
    from langadapt.data.own import language_names
    from langadapt.models import read_artifact

    own = RecipeFile(recipe=read_artifact(begin).recipe, path=begin / "recipe.yaml", shipped=True)
    found = own if named is None else find_language(named)
    base, name = with_absolute_paths(found), kind.name
    if found.recipe.code not in (own.recipe.code, *own.recipe.languages):
        raise RecipeError(f"{found.path} is for '{found.recipe.code}', the student for '{own.recipe.code}'")
    stage = getattr(base, name)
    if pairs.names:
        names = pairs.recipes(language_names(own.recipe))
        stage = kind(pairs=names) if stage is None else stage.model_copy(update={"pairs": names})
    if stage is None:
        raise RecipeError(f"{found.path}: has no {name} stage; name your images and captions: --pairs FILE")
    wrong = next((item for item in settings if not item.startswith(f"{name}.")), None)
    if wrong is not None:
        raise RecipeError(f"--set {wrong}: only values of this stage can change, such as {name}.epochs=5")
    ready = RecipeFile(recipe=base.model_copy(update={name: stage}), path=found.path, shipped=True)
    changed = getattr(override(ready, settings).recipe, name)
    assert isinstance(changed, kind)
    return changed


def domain_command(
    pairs: opt.PairNames = None,
    lang: opt.LanguageCode = None,
    recipe: opt.StageRecipe = None,
    images: opt.TableImages = None,
    columns: opt.Columns = None,
    start: opt.StudentRun = None,
    out: Annotated[Path | None, opt.own_folder("Run folder; FROM-domain by default.")] = None,
    general: Annotated[Path | None, Option(help="Captions outside the domain (image, caption).")] = None,
    general_images: Annotated[Path | None, Option(help="Folder of their images.")] = None,
    test: Annotated[Path | None, Option(help="Unseen captions of the domain (image, caption).")] = None,
    test_images: Annotated[Path | None, Option(help="Folder of their images.")] = None,
    settings: opt.Settings = None,
    track: opt.Track = None,
    device: opt.Device = None,
    overwrite: opt.Overwrite = False,
    as_json: opt.AsJson = False,
) -> None:
    """Adapt a student and its image tower to a domain, on images with captions.

    Only adapters inside both towers train. The difficulty of each pair is recorded, and
    domain.sampling.strength=1 draws difficult pairs more often (off by default, see docs/domain.md). If no
    epoch is better on held-out images, the result is the student that it started from.

    The report shows general test sets before and after (what was forgotten), easy and hard pairs, how often
    each was drawn, and the hardest pairs as pictures: wrong captions are often among them.

    Examples:
      langadapt domain --lang zh --pairs shop.jsonl
      langadapt domain --from runs/zh-tuned --pairs shop.csv --images photos/ \\
          --out runs/zh-shop
      langadapt domain --lang zh --pairs shop.jsonl --general captions.tsv \\
          --general-images other-photos/
      langadapt domain --lang zh --pairs shop.jsonl \\
          --set domain.sampling.strength=1
      langadapt domain --lang zh --pairs shop.jsonl --set domain.blend=0.7

    Without --general, the command scores the test sets of the student's recipe that are on this machine. To
    resume an interrupted run, repeat the command.
    """
    for table, folder, name in ((general, general_images, "general"), (test, test_images, "test")):
        if folder is not None and table is None:
            raise DataError(f"--{name}-images describes captions: give --{name} FILE too")
    begin = chosen_student(start, lang)
    run = out or begin.with_name(begin.name + "-domain")

    from langadapt.data.retrieval import own_captions
    from langadapt.evaluation.domain import adapt_to_domain, before_after
    from langadapt.evaluation.tables import to_terminal
    from langadapt.models import read_artifact
    from langadapt.models.load import chosen_device
    from langadapt.training import RunOptions

    given = GivenPairs.of(pairs, images, columns, folder=run, overwrite=overwrite)
    own = read_artifact(begin).recipe
    sets = [] if general else [("general", item) for item in available_sets(own)]
    for kind, file, folder in (("general", general, general_images), ("domain", test, test_images)):
        if file is not None:
            sets.insert(0, (kind, own_captions(own, file, folder)))
    options = RunOptions(device=chosen_device(device), overwrite=overwrite, images=images, track=track)
    with progress_report() as report, opt.refused_data_removed(run):
        stage = chosen_stage(DomainStage, begin, recipe or lang, given, settings or [])
        rows, facts = adapt_to_domain(begin, run, stage=stage, tests=sets, report=report, options=options)
    if as_json:
        print_json(facts)
        return
    print_result(to_terminal([before_after(rows)]))
    if facts["fell_back"]:
        console.print("no step was better on the held-out pairs: the result is the student of the start")
    console.print(f"report page: {shown(run / 'report.html')}")
    console.print(f"hardest pairs: {shown(run / 'hard-pairs.jsonl')}")


def align_command(
    image_model: Annotated[str, Option(help="Vision encoder: folder, or org/name.")],
    text_model: Annotated[str, Option(help="Text encoder: folder, or org/name.")],
    pairs: Annotated[list[str], Option(help="Table, tar shard or pair recipe.")],
    out: Annotated[Path, opt.own_folder("Run folder.")],
    lang: Annotated[
        str | None, Option(help="The captions' language, its prompts and tests; else English.")
    ] = None,
    prefix: Annotated[str | None, Option(help="Put before each text; else as the text model says.")] = None,
    images: opt.TableImages = None,
    columns: opt.Columns = None,
    settings: opt.Settings = None,
    track: opt.Track = None,
    device: opt.Device = None,
    overwrite: opt.Overwrite = False,
    as_json: opt.AsJson = False,
) -> None:
    """Train a new image-text model from an image encoder, a text encoder and images with captions.

    Examples:
      langadapt align --image-model google/vit-base-patch16-224-in21k \\
          --pairs captions.tsv --images photos/ \\
          --text-model google-bert/bert-base-uncased --out runs/mine
      langadapt align --image-model models/mobilenet --text-model models/minilm \\
          --pairs captions.tsv \\
          --out runs/mine --set "text=[adapters, layer_norm, projection]"

    Each tower trains as in tune: text and image take locked, full, layer_norm, bitfit, adapters, layer, lora,
    last, embeddings; new projections always train. The result is an artifact like a distilled one: eval,
    search, classify, tune and publish take it, and a language recipe can name it as its teacher. To resume an
    interrupted run, repeat the command.
    """
    given = GivenPairs.of(pairs, images, columns, folder=out, overwrite=overwrite)
    stage = with_values(AlignStage, AlignStage(pairs=given.names), settings or [])
    language = None if lang is None else with_absolute_paths(find_language(lang))

    from langadapt.data.own import language_names
    from langadapt.evaluation.plots import save_curve
    from langadapt.models.load import chosen_device
    from langadapt.training import RunOptions, align

    options = RunOptions(device=chosen_device(device), overwrite=overwrite, images=images, track=track)
    with progress_report() as report, opt.refused_data_removed(out):
        names = (UNDETERMINED,) if language is None else language_names(language)
        stage = stage.model_copy(update={"pairs": given.recipes(names)})
        models = ModelRef(repo=image_model), TextModelRef(repo=text_model, prefix=prefix)
        artifact = align(
            plain_recipe(*models, language=language, align=stage), out, report=report, options=options
        )
    save_curve(out)
    if as_json:
        print_json(artifact.training)
        return
    console.print(f"held-out recall (mR6) {artifact.training['held_out_recall']:.1f} %")
    console.print(f"next: langadapt eval {shown(out)} --captions FILE --images FOLDER")
