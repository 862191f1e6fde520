"""`langadapt distill` and `quickstart`."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from typer import Option

from langadapt.cli import options as opt
from langadapt.cli.progress import console, print_json, print_scores, progress_report, shown
from langadapt.errors import DataError, RecipeError, Report
from langadapt.files.paths import real_path, user_path
from langadapt.recipes import LanguageRecipe, TableFiles, find_language, override, shipped_languages
from langadapt.recipes.authoring import UNDETERMINED, new_language
from langadapt.recipes.find import RecipeFile, names_of_languages, universal_recipe

if TYPE_CHECKING:
    from langadapt.training import RunOptions

_UNITS = {"": 1, "K": 10**3, "M": 10**6, "G": 10**9, "T": 10**12}


def distill_command(
    lang: opt.LanguageCode = None,
    recipe: opt.RecipePath = None,
    out: Annotated[Path | None, opt.own_folder("Run folder; runs/RECIPE by default.")] = None,
    settings: opt.Settings = None,
    data: Annotated[
        list[Path] | None, Option(metavar="FILE", help="Your sentences: tables, or ENGLISH and TARGET file.")
    ] = None,
    columns: opt.Columns = None,
    name: Annotated[str | None, Option(help="Name of a language without a recipe; --lang its code.")] = None,
    english: Annotated[
        list[str] | None, Option(metavar="FILE", help="English text without translations: table, or recipe.")
    ] = None,
    start: Annotated[str | None, Option(help="Begin from another run's adapter.")] = None,
    state_cache: Annotated[
        str | None,
        Option(help="Budget of hidden states: 20GB; 0 is none. By default 8GB of disk, or half a GPU."),
    ] = None,
    state_bits: Annotated[Literal["16", "8"], Option(help="Bits per number: 8 takes half the disk.")] = "16",
    track: opt.Track = None,
    device: opt.Device = None,
    overwrite: opt.Overwrite = False,
    as_json: opt.AsJson = False,
) -> None:
    """Train an adapter on parallel sentences: a translation is embedded as CLIP embeds its English side.

    Examples:
      langadapt distill --lang zh
      langadapt distill --recipe my/zh.yaml --out runs/zh-mine
      langadapt distill --lang sw --set "text_model.trains={last: 2}"
      langadapt distill --lang zh,de,sw
      langadapt distill --english captions.tsv
      langadapt distill --lang sw --start universal
      langadapt distill --lang sw --data my.csv
      langadapt distill --lang dje --name Zarma --data news.en --data news.dje

    Several languages share one adapter (runs/zh-de-sw). English text alone makes a universal one, for all
    languages of the default text model (runs/universal), from which others --start.

    With --data, your sentences (TSV, CSV, JSONL, Parquet, or two files whose lines correspond) replace those
    of the recipe: cleaned, with a report, and a tenth held out, on which `langadapt eval` scores the run.
    Their recipes lie in the run folder, so recipe.yaml repeats the run.

    The run folder gets adapter.safetensors, recipe.yaml, artifact.json, log.jsonl and curve.svg. To resume
    an interrupted run, repeat the command.
    """
    _check_own(data, named=bool(lang or recipe or name), described=bool(columns or name))
    alone = ["distill.data=[]"] if english and not (lang or recipe or name or data) else []
    if alone:
        chosen = universal_recipe()
    else:
        chosen = named_language(name, lang, recipe) if name else chosen_recipe(lang, recipe, several=True)
    recipe_file = override(chosen, [*alone, *(settings or []), *beginnings(english or [], start)])
    budget = None if state_cache is None else parse_bytes(state_cache)
    folder = out or Path("runs") / recipe_file.path.stem

    from langadapt.evaluation.plots import save_curve
    from langadapt.models.load import chosen_device
    from langadapt.training import RunOptions, distill

    options = RunOptions(
        state_cache_bytes=budget,
        state_bits=8 if state_bits == "8" else 16,
        device=chosen_device(device),
        overwrite=overwrite,
        track=track,
        reuse_finished=not (folder / "curve.svg").is_file(),
    )
    with progress_report() as report, opt.refused_data_removed(folder):
        if data:
            recipe_file = _own_data(data, opt.parsed_columns(columns), recipe_file, folder, options, report)
        artifact = distill(recipe_file, folder, report=report, options=options)
    save_curve(folder)
    if as_json:
        print_json({"run": folder, **artifact.training})
        return
    _summarise(folder, artifact.training)
    console.print(f"next: langadapt eval {shown(folder)}")


def _check_own(data: list[Path] | None, *, named: bool, described: bool) -> None:
    """Refuse a table without a language, and the description of a table that is not there."""
    if data is None and described:
        raise DataError("--column and --name belong to your own sentences: give --data FILE too")
    if data and not named:
        raise RecipeError(
            f"--data {data[0]}: say its language: --lang CODE, or --name NAME if none is listed"
        )


def _summarise(folder: Path, facts: dict[str, Any]) -> None:
    size = (folder / "adapter.safetensors").stat().st_size / 1e6
    console.print(
        f"adapter in {shown(folder)} ({size:.1f} MB), held-out recall {facts['held_out_recall']:.1f} % among "
        f"{facts['held_out_candidates']:,} English sentences, cosine {1 - facts['held_out_loss']:.3f}"
    )
    if parts := facts.get("held_out_languages"):
        console.print("by language: " + ", ".join(f"{code} {recall:.1f} %" for code, recall in parts.items()))


def beginnings(english: list[str], start: str | None) -> Iterator[str]:
    """Yield settings of the recipe: English text, and a run by its folder, its name or on the Hub."""
    if english:
        names = [str(real_path(name)) if Path(name).is_file() else name for name in english]
        yield f"distill.english={json.dumps(names)}"
    if start is not None:
        places = (user_path(start), Path("runs") / start)
        local = next((str(real_path(path)) for path in places if path.is_dir()), start)
        yield f"distill.start={json.dumps(local)}"


def chosen_recipe(
    lang: str | None, recipe: str | None, *, several: bool = False
) -> RecipeFile[LanguageRecipe]:
    """Return the recipe that `--lang` or `--recipe` names; exactly one of them must."""
    name = recipe or lang
    if name is None or (recipe and lang):
        raise RecipeError("give one of --lang CODE and --recipe PATH; `langadapt languages list` shows codes")
    found = find_language(recipe if recipe and "/" in recipe else f"./{recipe}" if recipe else name)
    if found.recipe.languages and not several:
        raise RecipeError(
            f"{name}: several languages; `distill` learns them together from their recipes' data"
        )
    return found


def named_language(name: str, lang: str | None, recipe: str | None) -> RecipeFile[LanguageRecipe]:
    """Return the shipped recipe of a language's name, else a new one for the code `lang`."""
    shipped = names_of_languages().get(name.casefold())
    if recipe or (lang or shipped or "") in shipped_languages():
        if recipe or (lang and lang != shipped):
            raise RecipeError(f"--name {name} is for a language without a recipe; leave it out")
        return find_language(str(shipped))
    stem = lang or re.sub(r"\W+", "-", name.casefold()).strip("-")
    return RecipeFile(recipe=new_language(lang or UNDETERMINED, name), path=Path(stem), shipped=True)


def _own_data(
    paths: list[Path],
    columns: dict[str, str],
    language: RecipeFile[LanguageRecipe],
    folder: Path,
    options: "RunOptions",
    report: Report,
) -> RecipeFile[LanguageRecipe]:
    """Clean the user's sentences into the run folder and say what was done; return the recipe to train."""
    from langadapt.cleaning.own import prepare_sentences
    from langadapt.data.own import own_sentences
    from langadapt.models.artifact import FACTS

    if (folder / FACTS).is_file() and not options.overwrite:
        raise DataError(f"{folder} holds a finished run; choose another --out, or --overwrite")
    found = own_sentences(paths, language.recipe, columns)
    if isinstance(found.recipe.source, TableFiles):
        sides = found.recipe.columns
        console.print(f"columns: English '{sides.english}', {language.recipe.name} '{sides.target}'")
    own = prepare_sentences(found, language, folder / "data", report=report, overwrite=options.overwrite)
    where = shown(folder / "data" / found.recipe.name)
    console.print(f"{own.report.summary()}; report: {where}/report.md")
    console.print(f"{own.tests:,} sentences are held out for `langadapt eval`: {where}/test.parquet")
    return own.language


def parse_bytes(text: str) -> int:
    """Return `20GB`, `500M` or `0` as a number of bytes (powers of 1000)."""
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([KMGT]?)B?", text.strip().upper())
    if match is None:
        raise RecipeError(f"--state-cache {text}: expected a size such as 20GB, 500MB or 0")
    return int(float(match[1]) * _UNITS[match[2]])


def quickstart_command(
    lang: Annotated[str, Option(help="One of zh, de, sw, ar.")] = "zh",
    folder: Annotated[Path, Option(help="Folder of the drawn world.")] = Path("quickstart"),
    prepare: Annotated[bool, Option("--prepare", help="Draw the world only; train nothing.")] = False,
    tour_too: Annotated[bool, Option("--tour", help="Then tune, adapt, learn prompts and classify.")] = False,
    device: opt.Device = None,
    as_json: opt.AsJson = False,
) -> None:
    """Teach the embedded world's tiny CLIP a language, score it and search with it: minutes on two cores.

    Examples:
      langadapt quickstart
      langadapt quickstart --lang sw
      langadapt quickstart --prepare
      langadapt quickstart --tour

    The folder gets ordinary recipes, data and models. After --prepare, these commands do the same steps:

      langadapt distill --recipe quickstart/zh
      langadapt eval runs/zh
    """
    from langadapt.quickstart.world import TARGETS, write_world

    if lang not in TARGETS:
        raise RecipeError(f"--lang {lang}: the embedded world speaks {', '.join(sorted(TARGETS))}")
    if as_json and tour_too:
        raise RecipeError("--tour prints tables and leaves a page: leave out --json")
    where = None
    if not prepare:
        from langadapt.models.load import chosen_device

        where = chosen_device(device)
    console.print(f"drawing the world in {shown(folder)}")
    write_world(folder)
    recipe_file = find_language(str(folder / lang))
    if prepare:
        console.print(f"next: langadapt distill --recipe {shown(folder)}/{lang}")
        return

    from langadapt.cli.evaluate import available_sets, score
    from langadapt.evaluation.plots import save_curve
    from langadapt.evaluation.retrieval import first_found, score_json, score_report
    from langadapt.models import load
    from langadapt.training import RunOptions, distill

    run = folder / "runs" / lang
    if not (run / "curve.svg").is_file():
        console.print(f"langadapt distill --recipe {shown(folder)}/{lang} --out {shown(run)}")
        with progress_report() as report:
            options = RunOptions(device=where, reuse_finished=True)
            distill(recipe_file, run, report=report, options=options)
        save_curve(run)
    console.print(f"langadapt eval {shown(run)}")
    model = load(run, device=where)
    sets = available_sets(model.artifact.recipe)
    evaluations = score(model, sets, run=str(run))
    cards = [evaluation.card for evaluation in evaluations]
    print_scores(score_report(cards), score_json(cards), as_json, None)
    if as_json:
        return
    if tour_too:
        from langadapt.cli.tour import tour

        tour(folder, run, lang, device=device)
    query, photos = first_found(evaluations[0], sets[0]), shown(folder / "photos")
    console.print(f'next: langadapt search {photos} "{query}" --model {shown(run)} --html found.html')
