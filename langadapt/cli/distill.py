"""`langadapt distill`."""

import json
import re
from pathlib import Path
from typing import Annotated, Literal

from typer import Option

from langadapt.cli import options as opt
from langadapt.cli.progress import console, print_json, progress_report, shown
from langadapt.errors import RecipeError
from langadapt.recipes import LanguageRecipe, find_language, override
from langadapt.recipes.find import RecipeFile

HELP = """Train an adapter on parallel sentences: a translation is embedded as CLIP embeds its English side.

Examples:
  langadapt distill --lang zh
  langadapt distill --recipe my/zh.yaml --out runs/zh-mine
  langadapt distill --lang sw --set distill.epochs=3 --set "text_model.trains={last: 2}"

The run folder gets adapter.safetensors, recipe.yaml, artifact.json, log.jsonl and curve.svg. To resume
an interrupted run, repeat the command.
"""

_UNITS = {"": 1, "K": 10**3, "M": 10**6, "G": 10**9, "T": 10**12}


def distill_command(
    lang: opt.LanguageCode = None,
    recipe: opt.RecipePath = None,
    out: Annotated[Path | None, opt.new_folder("Run folder; runs/RECIPE by default.")] = None,
    settings: opt.Settings = None,
    english: Annotated[
        list[Path] | None, Option(help="Table of English text: identity rows beside the pairs.")
    ] = None,
    start: Annotated[str | None, Option(help="Begin from another run's adapter.")] = None,
    state_cache: Annotated[
        str, Option(help="Disk budget of stored hidden states: 20GB; 0 stores none.")
    ] = "8GB",
    state_bits: Annotated[
        Literal["16", "8"], Option(help="Bits per number in them: 8 takes half the disk.")
    ] = "16",
    device: opt.Device = None,
    overwrite: opt.Overwrite = False,
    as_json: opt.AsJson = False,
) -> None:
    given = [f"distill.english={json.dumps([str(path.resolve()) for path in english])}"] if english else []
    if start is not None:
        local = Path(start).expanduser()
        given.append(f"distill.start={json.dumps(str(local.resolve()) if local.is_dir() else start)}")
    recipe_file = override(chosen_recipe(lang, recipe), [*(settings or []), *given])
    budget = parse_bytes(state_cache)
    folder = out or Path("runs") / recipe_file.path.stem

    from langadapt.evaluation.plots import save_curve
    from langadapt.models.load import chosen_device
    from langadapt.training import RunOptions, distill

    options = RunOptions(
        state_cache_bytes=budget,
        state_bits=8 if state_bits == "8" else 16,
        device=chosen_device(device),
        overwrite=overwrite,
        reuse_finished=not (folder / "curve.svg").is_file(),
    )
    with progress_report() as report:
        artifact = distill(recipe_file, folder, report=report, options=options)
    save_curve(folder)
    if as_json:
        print_json({"run": str(folder), **artifact.training})
        return
    size = (folder / "adapter.safetensors").stat().st_size / 1e6
    facts = artifact.training
    console.print(
        f"adapter in {shown(folder)} ({size:.1f} MB), held-out recall {facts['held_out_recall']:.1f} % among "
        f"{facts['held_out_candidates']:,} English sentences, cosine {1 - facts['held_out_loss']:.3f}"
    )
    console.print(f"next: langadapt eval {shown(folder)}")


def chosen_recipe(lang: str | None, recipe: str | None) -> RecipeFile[LanguageRecipe]:
    """Return the recipe that `--lang` or `--recipe` names; exactly one of them must."""
    name = recipe or lang
    if name is None or (recipe and lang):
        raise RecipeError(
            "give one of --lang CODE and --recipe PATH; `langadapt languages list` shows the codes"
        )
    return find_language(recipe if recipe and "/" in recipe else f"./{recipe}" if recipe else name)


def parse_bytes(text: str) -> int:
    """Return `20GB`, `500M` or `0` as a number of bytes (powers of 1000)."""
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([KMGT]?)B?", text.strip().upper())
    if match is None:
        raise RecipeError(f"--state-cache {text}: expected a size such as 20GB, 500MB or 0")
    return int(float(match[1]) * _UNITS[match[2]])
