"""`langadapt quickstart --tour`: the stages with images on the embedded world, and one page of it all."""

import shlex
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from langadapt.cli.classify import classify_command, eval_classification, prompts_command
from langadapt.cli.evaluate import available_sets, score
from langadapt.cli.progress import console, shown
from langadapt.cli.tune import domain_command, tune_command
from langadapt.data.classification import read_class_names
from langadapt.evaluation.compare import compare_runs, comparison_tables
from langadapt.evaluation.domain import read_domain_report
from langadapt.evaluation.page import Page, example_searches, write_page
from langadapt.models import load, read_artifact
from langadapt.models.artifact import FACTS
from langadapt.models.load import chosen_device
from langadapt.quickstart.world import write_tour

_TUNE = ("tune.epochs=6", "tune.batch_size=128", "tune.learning_rate=2e-3")
_DUSK = ("domain.epochs=6", "domain.batch_size=32", "domain.blend=0.5")
_PROMPTS = ("few_shot.steps=40",)
_SHOTS = 8


def tour(
    folder: Path, run: Path, language: str, settings: Sequence[str] = (), *, device: str | None = None
) -> Path:
    """Tune, adapt and learn prompts on a drawn world; return the page. What is finished is not done again.

    `settings` of any stage come after those of the tour.
    """
    console.print(f"drawing scenes and classes in {shown(folder)}")
    write_tour(folder, language)
    tuned, dusk, prompts = (run.with_name(f"{language}-{name}") for name in ("tuned", "dusk", "prompts"))
    shapes, names = folder / "shapes", folder / f"shapes.{language}.txt"

    def chosen(name: str, own: Sequence[str]) -> list[str]:
        return [*own, *(item for item in settings if item.startswith(f"{name}."))]

    def table(name: str) -> Path:
        return folder / f"{name}.{language}.tsv"

    def stage(command: Callable[..., None], out: Path, own: list[str], start: Path, **files: Path) -> None:
        options = {"from": start, **files, "out": out}
        parts = [part for name, path in options.items() for part in (f"--{name.replace('_', '-')}", path)]
        _say(own[0].partition(".")[0], *parts, *(part for item in own for part in ("--set", item)))
        if not (out / FACTS).is_file():
            more = {**files, "pairs": [str(files["pairs"])]}
            command(**more, start=start, out=out, settings=own, device=device)

    stage(tune_command, tuned, chosen("tune", _TUNE), run, pairs=table("pairs"), images=folder / "scenes")
    unseen = {"test": table("dusk-test"), "test_images": folder / "dusk-test"}
    own = chosen("domain", _DUSK)
    stage(domain_command, dusk, own, tuned, pairs=table("dusk"), images=folder / "dusk", **unseen)
    own = chosen("few_shot", _PROMPTS)
    parts = ["--images", shapes, "--classes", names, "--shots", _SHOTS, "--out", prompts, "--no-baselines"]
    _say("prompts", "--model", run, *parts, *(part for item in own for part in ("--set", item)))
    if not (prompts / "scores.json").is_file():
        few = {"classes": names, "shots": _SHOTS, "out": prompts, "baselines": False, "settings": own}
        prompts_command(model=str(run), images=shapes, device=device, **few)  # type: ignore[arg-type]
    test = shapes / "test"
    _say("eval", run, "--classify", test, "--classes", names, "--prompts", prompts)
    files = {"classes": names, "prompts": prompts, "json_file": None, "page": None, "device": device}
    classes = eval_classification(str(run), str(test), **files, as_json=False, signatures=False)  # type: ignore[arg-type]
    picture = next(iter(sorted(test.rglob("*.png"))))
    _say("classify", picture, "--prompts", prompts)
    classify_command(images=[picture], prompts=prompts, device=device)
    searches = []
    for each in (run, tuned):
        _say("eval", each)
        model = load(each, device=chosen_device(device))
        sets = available_sets(model.artifact.recipe)
        evaluations = score(model, sets, run=str(each))
        searches = [item for pair in zip(sets, evaluations, strict=True) for item in example_searches(*pair)]
    english = {item.shown: item.english[0] for item in read_class_names(names)}
    labels = tuple(f"{label} ({english[label]})" for label in classes.classes)
    page = folder / "tour.html"
    write_page(
        page,
        Page(
            title=f"Tour of langadapt: {model.artifact.recipe.name}, from sentences to prompts",
            summary=_summary(run, tuned, dusk),
            tables=list(comparison_tables(compare_runs([run, tuned]))),
            domain=read_domain_report(dusk),
            classifications=[replace(classes, classes=labels)],
            searches=searches,
        ),
    )
    console.print(f"everything on one page: {shown(page)}")
    return page


def _summary(run: Path, tuned: Path, dusk: Path) -> str:
    """Say what each run learned, from what, and what is shown."""
    sentences, scenes, dark = (read_artifact(path).training["rows"] for path in (run, tuned, dusk))
    name = read_artifact(run).recipe.name
    return (
        f"A tiny CLIP that knows only English learns {name} in drawn scenes. Run {run.name} learned from "
        f"{sentences:,} sentences with English translations and no image, run {tuned.name} went on with "
        f"{scenes:,} scenes and captions, and run {dusk.name} with {dark:,} scenes in half the light, a "
        f"domain of its own. Prompts were learned for {run.name}, from {_SHOTS} pictures of each shape. All "
        f"scores are on pictures that no step trained on; the searches at the end are those of {tuned.name}."
    )


def _say(*words: object) -> None:
    console.print("\n" + shlex.join(["langadapt", *map(_short, words)]))


def _short(word: object) -> str:
    return shown(word) if isinstance(word, Path) else str(word)
