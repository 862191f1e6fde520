"""`langadapt domain`."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from langadapt.cli.evaluate import available_sets
from langadapt.cli.options import AsJson, Device, LanguageCode, Overwrite, TableImages
from langadapt.cli.progress import console, print_result, progress_report, shown
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
    pairs: Annotated[
        list[str] | None,
        typer.Option(
            "--pairs", help="Table, tar shard or pair recipe; by default the recipe's domain.pairs."
        ),
    ] = None,
    lang: LanguageCode = None,
    recipe: Annotated[
        str | None,
        typer.Option("--recipe", help="Recipe with a domain stage; by default the run's own."),
    ] = None,
    images: TableImages = None,
    start: Annotated[
        Path | None,
        typer.Option("--from", help="Run folder of a distilled or tuned student; runs/LANG by default."),
    ] = None,
    out: Annotated[Path | None, typer.Option("--out", help="Run folder; FROM-domain by default.")] = None,
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
    settings: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="Change a value of the stage: domain.epochs=5."),
    ] = None,
    device: Device = None,
    overwrite: Overwrite = False,
    as_json: AsJson = False,
) -> None:
    for given, folder, name in ((general, general_images, "general"), (test, test_images, "test")):
        if folder is not None and given is None:
            raise DataError(f"--{name}-images describes captions: give --{name} FILE too")
    begin = chosen_student(start, lang)
    place = out or begin.with_name(begin.name + "-domain")

    from langadapt.data.retrieval import retrieval_from_files
    from langadapt.evaluation.domain import before_after, compared, held_out_row, scored, write_report
    from langadapt.evaluation.tables import to_terminal
    from langadapt.files.atomic import write_text
    from langadapt.models.artifact import FACTS
    from langadapt.models.load import chosen_device
    from langadapt.training import RunOptions, tune

    own, stage = chosen_stage(DomainStage, begin, recipe or lang, pairs, settings)
    told_of = (place / "report.html").is_file()
    if (place / FACTS).is_file() and told_of and not overwrite:
        raise DataError(f"{place} holds a finished run; choose another --out, or --overwrite")
    domain_sets = [] if test is None else [retrieval_from_files(test, test_images, language=own.code)]
    general_sets = (
        available_sets(own)
        if general is None
        else [retrieval_from_files(general, general_images, language=own.code)]
    )
    sets = [("domain", item) for item in domain_sets] + [("general", item) for item in general_sets]
    where = chosen_device(device)
    options = RunOptions(
        device=where, overwrite=overwrite, reuse_finished=not (told_of or overwrite), images=images
    )
    with progress_report() as report:
        before = scored(begin, sets, where, report)
        artifact = tune(begin, place, stage=stage, report=report, options=options)
        after = scored(place, sets, where, report)
    facts = artifact.training
    rows = [held_out_row(facts), *compared(sets, before, after)]
    told = {"scores": [asdict(row) for row in rows], **facts["domain"], "fell_back": facts["fell_back"]}
    write_text(place / "domain.json", json.dumps(told, indent=2, ensure_ascii=False) + "\n")
    write_report(place, artifact, rows, told, images)
    if as_json:
        typer.echo(json.dumps(told, ensure_ascii=False))
        return
    print_result(to_terminal([before_after(rows)]))
    if facts["fell_back"]:
        console.print(
            "no step was better on the held-out pairs: the result is the student that it began with"
        )
    console.print(f"report page: {shown(place / 'report.html')}")
    console.print(f"hardest pairs: {shown(place / 'hard-pairs.jsonl')}")
