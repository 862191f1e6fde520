"""`langadapt domain`."""

from pathlib import Path
from typing import Annotated

import typer

from langadapt.cli.evaluate import available_sets
from langadapt.cli.options import (
    AsJson,
    Device,
    LanguageCode,
    Overwrite,
    PairNames,
    Settings,
    StageRecipe,
    StudentRun,
    TableImages,
    new_folder,
)
from langadapt.cli.progress import console, print_json, print_result, progress_report, shown
from langadapt.cli.tune import chosen_stage, chosen_student
from langadapt.errors import DataError
from langadapt.recipes import DomainStage

HELP = """Adapt a student and its image tower to a domain (a shop, a newspaper), on images with captions.

Only adapters inside both towers train. The difficulty of each pair is recorded, and
domain.sampling.strength=1 draws difficult pairs more often (off by default, see docs/domain.md). If no
epoch is better on held-out images, the result is the student that it started from.

The report shows general test sets before and after (what was forgotten), easy and hard pairs, how often
each was drawn, and the hardest pairs as pictures: wrong captions are often among them.

Examples:
  langadapt domain --lang zh --pairs shop.jsonl
  langadapt domain --from runs/zh-tuned --pairs shop.csv --images photos/ --out runs/zh-shop
  langadapt domain --lang zh --pairs shop.jsonl --general captions.tsv --general-images other-photos/
  langadapt domain --lang zh --pairs shop.jsonl --set domain.sampling.strength=1
  langadapt domain --lang zh --pairs shop.jsonl --set domain.blend=0.7

Without --general, the command scores the test sets of the student's recipe that are on this machine. To
resume an interrupted run, repeat the command.
"""


def domain_command(
    pairs: PairNames = None,
    lang: LanguageCode = None,
    recipe: StageRecipe = None,
    images: TableImages = None,
    start: StudentRun = None,
    out: Annotated[Path | None, new_folder("Run folder; FROM-domain by default.")] = None,
    general: Annotated[
        Path | None, typer.Option("--general", help="Captions outside the domain (columns image, caption).")
    ] = None,
    general_images: Annotated[
        Path | None, typer.Option("--general-images", help="Folder of their images.")
    ] = None,
    test: Annotated[
        Path | None, typer.Option("--test", help="Unseen captions of the domain (columns image, caption).")
    ] = None,
    test_images: Annotated[Path | None, typer.Option("--test-images", help="Folder of their images.")] = None,
    settings: Settings = None,
    device: Device = None,
    overwrite: Overwrite = False,
    as_json: AsJson = False,
) -> None:
    for given, folder, name in ((general, general_images, "general"), (test, test_images, "test")):
        if folder is not None and given is None:
            raise DataError(f"--{name}-images describes captions: give --{name} FILE too")
    begin = chosen_student(start, lang)
    run = out or begin.with_name(begin.name + "-domain")

    from langadapt.data.retrieval import retrieval_from_files
    from langadapt.evaluation.domain import adapt_to_domain, before_after
    from langadapt.evaluation.tables import to_terminal
    from langadapt.models.load import chosen_device
    from langadapt.training import RunOptions

    own, stage = chosen_stage(DomainStage, begin, recipe or lang, pairs, settings)
    sets = [] if general else [("general", item) for item in available_sets(own)]
    for kind, file, folder in (("general", general, general_images), ("domain", test, test_images)):
        if file is not None:
            sets.insert(0, (kind, retrieval_from_files(file, folder, language=own.code)))
    options = RunOptions(device=chosen_device(device), overwrite=overwrite, images=images)
    with progress_report() as report:
        rows, facts = adapt_to_domain(begin, run, stage=stage, tests=sets, report=report, options=options)
    if as_json:
        print_json(facts)
        return
    print_result(to_terminal([before_after(rows)]))
    if facts["fell_back"]:
        console.print(
            "no step was better on the held-out pairs: the result is the student that it began with"
        )
    console.print(f"report page: {shown(run / 'report.html')}")
    console.print(f"hardest pairs: {shown(run / 'hard-pairs.jsonl')}")
