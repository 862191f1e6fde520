"""`langadapt domain`."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.table import Table

from langadapt.cli.curve import training_curve
from langadapt.cli.evaluate import own_sets
from langadapt.cli.options import AsJson, Device, LanguageCode, Overwrite, TableImages
from langadapt.cli.pairs_stage import chosen_stage, named_pairs
from langadapt.cli.progress import console, print_result, progress_report, shown
from langadapt.errors import DataError, RecipeError
from langadapt.recipes import DomainStage, find_language
from langadapt.recipes.find import Found

if TYPE_CHECKING:
    import torch

    from langadapt.data.retrieval_set import RetrievalSet
    from langadapt.evaluation.domain_section import BeforeAfter
    from langadapt.metrics.retrieval import RetrievalScores
    from langadapt.models import Artifact
    from langadapt.progress import Report

HELP = """Adapt a student and its image tower to a domain (a shop, a newspaper) by images with captions.

Everything stays frozen but adapters inside both towers. The difficulty of each pair is kept, and
domain.sampling.strength=1 draws difficult pairs more often (off by default, see docs/domain.md). Where no
step is better on held-out images, the result is the student that it began with.

The report shows general test sets before and after (what was forgotten), easy and hard pairs, how the draws
moved, and the hardest pairs as pictures: wrong captions are often among them.

Examples:

  langadapt domain --lang zh --pairs shop.jsonl

  langadapt domain --from runs/zh-tuned --pairs shop.csv --images photos/ --out runs/zh-shop

  langadapt domain --lang zh --pairs shop.jsonl --general captions.tsv --general-images other-photos/

  langadapt domain --lang zh --pairs shop.jsonl --set domain.sampling.strength=1

  langadapt domain --lang zh --pairs shop.jsonl --set domain.blend=0.7

Without --general the test sets of the student's recipe are scored that are on this machine. An interrupted
run goes on when the same command is given again.
"""
_SHOWN_PAIRS = 24


def domain_command(
    pairs: Annotated[
        list[str] | None,
        typer.Option(
            "--pairs", help="Table, tar shard or pair recipe; the recipe's domain.pairs unless said."
        ),
    ] = None,
    lang: LanguageCode = None,
    recipe: Annotated[
        str | None,
        typer.Option("--recipe", help="Recipe with a domain stage; the run's own unless said."),
    ] = None,
    images: TableImages = None,
    start: Annotated[
        Path | None,
        typer.Option("--from", help="Run folder of the distilled or tuned student; runs/CODE unless said."),
    ] = None,
    out: Annotated[Path | None, typer.Option("--out", help="Run folder; FROM-domain unless said.")] = None,
    general: Annotated[
        Path | None, typer.Option("--general", help="Captions outside the domain: image, caption.")
    ] = None,
    general_images: Annotated[
        Path | None, typer.Option("--general-images", help="Folder of their images.")
    ] = None,
    test: Annotated[
        Path | None, typer.Option("--test", help="Captions of the domain that no step sees: image, caption.")
    ] = None,
    test_images: Annotated[Path | None, typer.Option("--test-images", help="Folder of their images.")] = None,
    settings: Annotated[
        list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Change a value: domain.epochs=5.")
    ] = None,
    device: Device = None,
    overwrite: Overwrite = False,
    as_json: AsJson = False,
) -> None:
    if start is None and lang is None:
        raise RecipeError("say which student to adapt: --from RUN, or --lang CODE for runs/CODE")
    for given, folder, name in ((general, general_images, "general"), (test, test_images, "test")):
        if folder is not None and given is None:
            raise DataError(f"--{name}-images describes captions: give --{name} FILE too")
    begin = start or Path("runs") / str(lang)
    place = out or begin.with_name(begin.name + "-domain")

    from langadapt.data.retrieval import retrieval_from_files
    from langadapt.data.write_text import write_text
    from langadapt.models import read_artifact
    from langadapt.models.artifact import FACTS
    from langadapt.models.device import chosen_device
    from langadapt.training import DistillOptions, tune

    named_recipe = recipe or lang
    own = Found(recipe=read_artifact(begin).recipe, path=begin / "recipe.yaml", shipped=True)
    found = own if named_recipe is None else find_language(named_recipe)
    stage = chosen_stage(DomainStage, found, own, named_pairs(pairs), settings or [])
    told_of = (place / "report.html").is_file()
    if (place / FACTS).is_file() and told_of and not overwrite:
        raise DataError(f"{place} holds a finished run; choose another --out, or --overwrite")
    code = own.recipe.code
    domain_sets = [] if test is None else [retrieval_from_files(test, test_images, language=code)]
    general_sets = (
        own_sets(own.recipe)
        if general is None
        else [retrieval_from_files(general, general_images, language=code)]
    )
    sets = [("domain", item) for item in domain_sets] + [("general", item) for item in general_sets]
    where = chosen_device(device)
    options = DistillOptions(device=where, overwrite=overwrite, reuse_finished=not (told_of or overwrite))
    with progress_report() as report:
        before = _scored(begin, sets, where, report)
        artifact = tune(begin, place, stage=stage, report=report, options=options, images=images)
        after = _scored(place, sets, where, report)
    facts = artifact.training
    rows = [_held_out(facts), *_compared(sets, before, after)]
    told = {"scores": [asdict(row) for row in rows], **facts["domain"], "fell_back": facts["fell_back"]}
    write_text(place / "domain.json", json.dumps(told, indent=2, ensure_ascii=False) + "\n")
    _write_report(place, artifact, rows, told, images)
    if as_json:
        typer.echo(json.dumps(told, ensure_ascii=False))
        return
    print_result(_table(rows))
    if facts["fell_back"]:
        console.print(
            "no step was better on the held-out pairs: the result is the student that it began with"
        )
    if not general_sets:
        console.print("forgetting was not measured: name captions outside the domain, --general FILE")
    console.print(f"report page: {shown(place / 'report.html')}")
    console.print(f"hardest pairs: {shown(place / 'hard-pairs.jsonl')}")


def _scored(
    run: Path, sets: "list[tuple[str, RetrievalSet]]", device: "torch.device", report: "Report"
) -> "list[RetrievalScores]":
    """The student of a run on each set."""
    from langadapt.evaluation.retrieval import evaluate_retrieval
    from langadapt.models import load
    from langadapt.progress import Progress

    if not sets:
        return []
    model, found = load(run, device=device), []
    for _, retrieval in sets:

        def images_done(done: int, total: int) -> None:
            report(Progress(stage=f"{run.name}: images of {retrieval.name}", done=done, total=total))  # noqa: B023

        card = evaluate_retrieval(retrieval, model, progress=images_done).card
        assert card.student is not None
        found.append(card.student)
    return found


def _compared(
    sets: "list[tuple[str, RetrievalSet]]", before: "list[RetrievalScores]", after: "list[RetrievalScores]"
) -> "list[BeforeAfter]":
    from langadapt.evaluation.domain_section import BeforeAfter

    return [
        BeforeAfter(
            name=retrieval.name,
            kind=kind,
            before=one.mr6,
            after=other.mr6,
            signatures=(one.signature, other.signature),
        )
        for (kind, retrieval), one, other in zip(sets, before, after, strict=True)
    ]


def _held_out(facts: dict[str, Any]) -> "BeforeAfter":
    from langadapt.evaluation.domain_section import BeforeAfter

    return BeforeAfter(
        name=f"{facts['held_out_rows']:,} held-out pairs",
        kind="domain",
        before=facts["start_recall"],
        after=facts["held_out_recall"],
        signatures=None,
    )


def _write_report(
    place: Path, artifact: "Artifact", rows: "list[BeforeAfter]", facts: dict[str, Any], images: Path | None
) -> None:
    from langadapt.data.pairs import load_pairs
    from langadapt.evaluation.domain_section import DomainReport, HardPair
    from langadapt.evaluation.page import Page, write_page
    from langadapt.evaluation.summary import run_facts
    from langadapt.training.domain_record import HARD_PAIRS, read_sampling

    stage = artifact.recipe.domain
    assert stage is not None
    known = {str(image): image for name in stage.pairs for image in load_pairs(name, images=images).images}
    lines = (place / HARD_PAIRS).read_text(encoding="utf-8").splitlines()[:_SHOWN_PAIRS]
    hardest = [HardPair(**{**pair, "image": known[pair["image"]]}) for pair in map(json.loads, lines)]
    report = DomainReport(scores=rows, facts=facts, sampling=list(read_sampling(place)), hardest=hardest)
    page = Page(
        title=f"{artifact.recipe.name}, adapted to a domain",
        summary=f"{artifact.training['rows']:,} training captions of {artifact.training['images']:,} images.",
        domain=report,
        curve=training_curve(place),
        facts=run_facts(artifact, place),
    )
    write_page(place / "report.html", page)


def _table(rows: "list[BeforeAfter]") -> Table:
    table = Table(box=None, padding=(0, 1, 0, 0), pad_edge=False, header_style="")
    table.add_column("mR6")
    for header in ("before", "after", "change"):
        table.add_column(header, justify="right", no_wrap=True)
    for row in rows:
        name = f"{row.kind}: {row.name}"
        table.add_row(name, f"{row.before:.1f}", f"{row.after:.1f}", f"{row.after - row.before:+.1f}")
    return table
