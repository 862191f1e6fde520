"""`langadapt quickstart --tour`: the stages with images on the embedded world, and one page of it all."""

import shlex
from collections.abc import Callable, Sequence
from pathlib import Path

from langadapt.cli.classify import classify_command, eval_classification, prompts_command
from langadapt.cli.evaluate import available_sets, score
from langadapt.cli.progress import console, shown
from langadapt.cli.tune import domain_command, tune_command
from langadapt.evaluation.compare import compare_runs, comparison_tables
from langadapt.evaluation.page import Page, example_searches, write_page
from langadapt.models import load
from langadapt.models.artifact import FACTS
from langadapt.quickstart.world import write_tour

_TUNE = ("tune.epochs=6", "tune.batch_size=128", "tune.learning_rate=2e-3")
_NIGHT = ("domain.epochs=4", "domain.batch_size=16")
_PROMPTS = ("few_shot.steps=40",)
_SHOTS = 8


def tour(folder: Path, run: Path, language: str, settings: Sequence[str] = ()) -> Path:
    """Tune, adapt and learn prompts on a drawn world; return the page. What is finished is not done again.

    `settings` of any stage come after those of the tour.
    """
    console.print(f"drawing scenes and classes in {shown(folder)}")
    write_tour(folder, language)
    tuned, night, prompts = (run.with_name(f"{language}-{name}") for name in ("tuned", "night", "prompts"))
    scenes, shapes = folder / "scenes", folder / "shapes"
    names = folder / f"shapes.{language}.txt"

    def chosen(name: str, own: Sequence[str]) -> list[str]:
        return [*own, *(item for item in settings if item.startswith(f"{name}."))]

    def stage(command: Callable[..., None], start: Path, table: str, out: Path, own: list[str]) -> None:
        pairs, word = folder / f"{table}.{language}.tsv", own[0].partition(".")[0]
        parts = ["--from", start, "--pairs", pairs, "--images", scenes, "--out", out]
        _say(word, *parts, *(part for item in own for part in ("--set", item)))
        if not (out / FACTS).is_file():
            command(start=start, pairs=[str(pairs)], images=scenes, out=out, settings=own)

    stage(tune_command, run, "pairs", tuned, chosen("tune", _TUNE))
    stage(domain_command, tuned, "night", night, chosen("domain", _NIGHT))
    own = chosen("few_shot", _PROMPTS)
    parts = ["--images", shapes, "--classes", names, "--shots", _SHOTS, "--out", prompts, "--no-baselines"]
    _say("prompts", "--model", run, *parts, *(part for item in own for part in ("--set", item)))
    if not (prompts / "scores.json").is_file():
        few = {"classes": names, "shots": _SHOTS, "out": prompts, "baselines": False, "settings": own}
        prompts_command(model=str(run), images=shapes, **few)  # type: ignore[arg-type]
    test = shapes / "test"
    _say("eval", run, "--classify", test, "--classes", names, "--prompts", prompts)
    files = {"classes": names, "prompts": prompts, "json_file": None, "page": None, "device": None}
    classes = eval_classification(str(run), str(test), **files, as_json=False, signatures=False)  # type: ignore[arg-type]
    picture = next(iter(sorted(test.rglob("*.png"))))
    _say("classify", picture, "--prompts", prompts)
    classify_command(images=[picture], prompts=prompts)
    searches = []
    for each in (run, tuned, night):
        _say("eval", each)
        model = load(each)
        sets = available_sets(model.artifact.recipe)
        evaluations = score(model, sets, run=str(each))
        searches = [item for pair in zip(sets, evaluations, strict=True) for item in example_searches(*pair)]
    page = folder / "tour.html"
    title = f"langadapt in {model.artifact.recipe.name}: from sentences to prompts"
    tables = list(comparison_tables(compare_runs([run, tuned, night])))
    write_page(page, Page(title=title, tables=tables, classifications=[classes], searches=searches))
    console.print(f"everything on one page: {shown(page)}")
    return page


def _say(*words: object) -> None:
    console.print("\n" + shlex.join(["langadapt", *map(_short, words)]))


def _short(word: object) -> str:
    return shown(word) if isinstance(word, Path) else str(word)
