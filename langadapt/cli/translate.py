"""`langadapt data translate`."""

import glob
import json
import re
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

from typer import Argument, Option

from langadapt.cli import options as opt
from langadapt.cli.progress import console, print_json, progress_report, shown
from langadapt.errors import DataError, RecipeError
from langadapt.files.paths import user_path
from langadapt.recipes import ParallelRecipe, data_recipe, dump_recipe
from langadapt.recipes.data import TableFiles


def translate_command(
    english: Annotated[str, Argument(metavar="ENGLISH", help="TSV, CSV, JSONL, Parquet, or a recipe.")],
    lang: Annotated[str, Option(help="Code of the target language, for the recipe.")],
    model: Annotated[str, Option(metavar="MODEL[@REVISION]", help="Translation model: Hub or folder.")],
    out: Annotated[Path, opt.new_file("--out", "File to write: .tsv or .parquet.")],
    column: Annotated[str, Option(help="Column of the English texts.")] = "english",
    target_code: Annotated[str | None, Option(help="Code of the language in the model: swh_Latn.")] = None,
    source_code: Annotated[str | None, Option(help="Code of English in the model, if it is unusual.")] = None,
    beams: Annotated[int, Option(min=1, help="Width of the beam search; 1 is greedy.")] = 1,
    licence: Annotated[str, Option(help="Licence of the English texts; recipes state it.")] = "unknown",
    model_licence: Annotated[str, Option(help="Licence of the translation model.")] = "unknown",
    measure: Annotated[str | None, Option(metavar="RECIPE", help="Recipe of human translations.")] = None,
    device: opt.Device = None,
    as_json: opt.AsJson = False,
) -> None:
    """Translate English sentences into a language, and measure the translation.

    OUT (.tsv or .parquet) gets columns english and target, and a recipe beside it that names model, revision
    and licences. To resume an interrupted translation, repeat the command.

    Examples:
      langadapt data translate captions.tsv --lang de \\
          --model models/opus-mt-en-de --out data/de.tsv
      langadapt data translate captions.tsv --lang sw --out data/sw.tsv \\
          --measure my/flores.yaml \\
          --model facebook/nllb-200-distilled-600M --target-code swh_Latn

    --measure takes a parallel recipe of human translations that were used for nothing else, translates their
    English side and prints BLEU and chrF++ with their signatures.
    """
    recipe_path = out.with_suffix(".yaml")
    _check_names(lang, out, recipe_path)
    if not user_path(english).is_file():
        data_recipe(ParallelRecipe, english)

    from langadapt.data.parallel import load_parallel, write_translated
    from langadapt.errors import counted
    from langadapt.files.atomic import write_text
    from langadapt.models import resolve_model
    from langadapt.models.load import chosen_device
    from langadapt.models.translator import load_translator, named_model, translation_scores

    texts, title, recipe_licence = _english(english, column)
    human = None if measure is None else load_parallel(data_recipe(ParallelRecipe, measure))
    source = resolve_model(named_model(model))
    translator = load_translator(
        source, source_code=source_code, target_code=target_code, beams=beams, device=chosen_device(device)
    )
    licences = (recipe_licence or licence, model_licence)
    title = f"{title}, translated by {source.repo} at {source.revision}"
    scores = None

    def finish(target: list[str]) -> None:
        nonlocal scores
        if human is not None:
            translated = translator.translate(human.english)
            scores = translation_scores(translated, human.target, language=lang)
            write_text(out.with_suffix(".scores.json"), json.dumps(asdict(scores), indent=2) + "\n")
        rows = sum(bool(text.strip()) for text in target)
        write_text(recipe_path, dump_recipe(_recipe(out, title, lang, licences, rows)))

    with progress_report() as report:
        target = write_translated(
            out,
            texts,
            translator.translate,
            key=f"{source.revision} {translator.prefix} {translator.first_token} {beams}",
            progress=counted(report, "translate"),
            finish=finish,
        )
    blank = sum(not text.strip() for text in target)
    if as_json:
        found = {"out": out, "recipe": recipe_path, "rows": len(target) - blank, "blank": blank}
        print_json({**found, "scores": scores and asdict(scores)})
        return
    left_out = f", {blank} blank translations left out" if blank else ""
    console.print(f"{len(target) - blank} rows in {shown(out)}{left_out}; recipe {shown(recipe_path)}")
    if scores is not None:
        console.print(f"chrF++ {scores.chrf:.1f} on {scores.rows} rows  {scores.chrf_signature}")
        console.print(f"BLEU {scores.bleu:.1f}  {scores.bleu_signature}")


def _recipe(out: Path, title: str, language: str, licences: tuple[str, str], rows: int) -> ParallelRecipe:
    """Make the recipe that reads the table; licences are the English side's and the model's."""
    return ParallelRecipe(
        name=out.stem,
        title=title,
        licence=" AND ".join(dict.fromkeys(licences)),
        licence_source=f"English side: {licences[0]}; translation model: {licences[1]}",
        language=language,
        source=TableFiles(kind="files", paths=(out.name,)),
        expected_rows=rows,
    )


def _check_names(lang: str, out: Path, recipe: Path) -> None:
    if not re.fullmatch("[a-z]{2,3}", lang):
        raise RecipeError(f"--lang {lang}: expected a code of two or three small letters")
    if not re.fullmatch(r"[a-z0-9][a-z0-9._-]*", out.stem):
        raise RecipeError(f"--out {out}: its recipe's name takes only small letters, digits, '-' and '_'")
    unfinished = any(out.parent.glob(f".{glob.escape(out.name)}.parts-*"))
    if recipe.exists() and not unfinished:
        raise DataError(f"{recipe} is there already; remove it or choose another --out")


def _english(name: str, column: str) -> tuple[list[str], str, str | None]:
    """Return distinct texts in order, their title, and the licence that their recipe states."""
    from langadapt.data.parallel import load_parallel
    from langadapt.data.readers import read_table

    if Path(name).is_file() and not name.endswith((".yaml", ".yml")):
        texts = [row.values[0] for row in read_table(Path(name), (column,))]
        title, licence = Path(name).name, None
    else:
        found = data_recipe(ParallelRecipe, name)
        texts = list(load_parallel(found).english)
        title, licence = f"English side of {found.recipe.name}", found.recipe.licence
    return list(dict.fromkeys(" ".join(text.split()) for text in texts)), title, licence
