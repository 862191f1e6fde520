"""Train, score and publish a set of adapters with the package's own commands; repeat the command to go on.

python -m tools.publish_all ORG --dry-run
python -m tools.publish_all ORG --lang zh --lang sw --photos photos/
"""

import shlex
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer
from huggingface_hub.errors import HFValidationError
from huggingface_hub.utils import validate_repo_id
from typer import Argument, Option

from langadapt.errors import DataError, LangadaptError
from langadapt.models.artifact import FACTS, SCORES
from langadapt.recipes import LanguageRecipe, ParallelRecipe, find_language, shipped_languages
from langadapt.recipes.find import RecipeFile, data_recipe

# Milliseconds of two cores for a pair, the first time and in each later pass: benchmarks/SPEED.md.
_SMALL, _BASE = (3.9, 0.93), (6.5, 0.97)
_DAY_HOURS = 24.0

Run = Callable[[Sequence[str]], int]


@dataclass(frozen=True, kw_only=True)
class Task:
    """One language: what it takes and what is there already."""

    name: str
    """As `--lang` takes it, or the path of a recipe."""
    run: Path
    recipe: LanguageRecipe
    rows: int
    """Pairs that its data recipes count; 0 where none does."""

    @property
    def hours(self) -> float:
        """Two cores' hours of training, from measured rates."""
        first, later = _SMALL if "small" in self.recipe.text_model.repo else _BASE
        batches = -(-self.rows // self.recipe.distill.batch_size)
        passes = self.recipe.distill.epochs * (self.recipe.distill.passes(batches) if batches else 1)
        return self.rows * (first + (passes - 1) * later) / 3.6e6

    @property
    def commands(self) -> list[list[str]]:
        """What has to run before the adapter can be published: nothing where it is trained and scored."""
        option = "--recipe" if "/" in self.name else "--lang"
        train = ["distill", option, self.name, "--out", str(self.run)]
        score = ["eval", str(self.run)]
        if not ((self.run / FACTS).is_file() and (self.run / "curve.svg").is_file()):
            return [train, score]
        return [] if (self.run / SCORES).is_file() else [score]


def checked_languages() -> list[str]:
    """Return the shipped languages whose prompts and data somebody chose."""
    recipes = {name: find_language(name).recipe for name in shipped_languages()}
    return [name for name, recipe in recipes.items() if recipe.prompts and recipe.code == name]


def task(name: str, runs: Path) -> Task:
    """Read a language's recipe and count its pairs."""
    found: RecipeFile[LanguageRecipe] = find_language(name)
    counts = []
    for data in found.recipe.distill.data:
        inside = data if found.shipped or "/" not in data else str(found.folder / data)
        corpus = data_recipe(ParallelRecipe, inside).recipe
        counts.append(corpus.expected_rows or corpus.source.max_rows or 0)
    return Task(name=name, run=runs / found.path.stem, recipe=found.recipe, rows=sum(counts))


def publish_command(each: Task, owner: str, private: bool) -> list[str]:
    """Publish one run, and add it to the collection."""
    return ["publish", "--all", str(each.run), "--repo", f"{owner}/clip", *(["--private"] if private else [])]


def space_command(first: Task, owner: str, photos: Path) -> list[str]:
    """Write the Space of a published adapter."""
    given = ["--format", "space", "--images", str(photos), "--out", str(first.run.parent / "space")]
    return ["export", f"{owner}/clip-{first.run.name}", *given, "--overwrite"]


def check(tasks: Sequence[Task], owner: str, photos: Path | None, private: bool) -> None:
    """Refuse at once what would fail after days; a DataError."""
    runs = [each.run for each in tasks]
    if twice := sorted({str(run) for run in runs if runs.count(run) > 1}):
        raise DataError(f"--lang: two of them have the run folder {twice[0]}; name each language once")
    try:
        validate_repo_id(f"{owner}/clip")
    except HFValidationError:
        raise DataError(f"ORG '{owner}' is not a name on the Hub; give a user or an organisation") from None
    if photos is not None and not photos.is_dir():
        raise DataError(f"--photos {photos}: no such folder")
    if photos is not None and private:
        raise DataError("--photos: a Space cannot read private adapters; leave out --private, or the photos")


def plan(tasks: Sequence[Task]) -> Iterator[str]:
    """Say what there is to do, in which order, and what it may cost."""
    yield f"{'language':24} {'text model':24} {'pairs':>10} {'epochs':>6} {'hours*':>7}"
    for each in tasks:
        recipe, model = each.recipe, each.recipe.text_model.repo.rpartition("/")[2]
        numbers = f"{each.rows or '?':>10} {recipe.distill.epochs:>6} {each.hours:>7.1f}"
        yield f"{recipe.name[:24]:24} {model[:24]:24} {numbers}" + ("" if each.commands else "  done")
    hours = sum(each.hours for each in tasks if each.commands)
    yield f"* an estimate: hours of two cores at the rates of benchmarks/SPEED.md; {hours:,.0f} left"
    if hours > _DAY_HOURS:
        times = f"{hours / _DAY_HOURS:.0f} times as fast"
        yield f"  they fit a day on a device that is {times}; no GPU was measured"


def langadapt_command(arguments: Sequence[str]) -> int:
    """Run a command of langadapt in a process of its own; return its exit code."""
    return subprocess.run([sys.executable, "-m", "langadapt", *arguments], check=False).returncode


def run_group(commands: Sequence[Sequence[str]], run: Run) -> str:
    """Run commands one after the other; return the one that failed, or an empty text.

    A signal that ends a command ends this program, too; the same call goes on from there.
    """
    for command in commands:
        code = run(command)
        if code >= 128 or code < 0:
            raise SystemExit(code if code > 0 else 128 - code)
        if code:
            return shlex.join(["langadapt", *command])
    return ""


def publish_all(tasks: Sequence[Task], run: Run, owner: str, photos: Path | None, private: bool) -> list[str]:
    """Train, score and publish what is left, one language after the other; return the commands that failed.

    A language that fails stops no other one.
    """
    failed, published = [], []
    for each in tasks:
        problem = run_group([*each.commands, publish_command(each, owner, private)], run)
        failed += [problem] if problem else []
        published += [] if problem else [each]
    if photos is not None and published:
        problem = run_group([space_command(published[0], owner, photos)], run)
        failed += [problem] if problem else []
    return failed


def main(
    owner: Annotated[str, Argument(metavar="ORG", help="User or organisation on the Hub.")],
    lang: Annotated[list[str] | None, Option(help="Only these languages, or paths of recipes.")] = None,
    runs: Annotated[Path, Option(help="Folder of the run folders.")] = Path("runs"),
    photos: Annotated[Path | None, Option(help="Photos for a Space; their licence must allow it.")] = None,
    private: Annotated[bool, Option("--private", help="Repositories and collection are private.")] = False,
    dry_run: Annotated[bool, Option("--dry-run", help="Print the plan; run nothing.")] = False,
) -> None:
    """Train, score and publish adapters: the cheapest first, as ORG/clip-CODE, in the collection `clip`."""
    try:
        tasks = sorted(
            (task(name, runs) for name in lang or checked_languages()), key=lambda each: each.hours
        )
        check(tasks, owner, photos, private)
    except LangadaptError as error:
        typer.echo(f"publish_all: {error}", err=True)
        raise typer.Exit(2) from None
    for line in plan(tasks):
        typer.echo(line)
    if dry_run:
        commands = [one for each in tasks for one in (*each.commands, publish_command(each, owner, private))]
        commands += [] if photos is None else [space_command(tasks[0], owner, photos)]
        for command in commands:
            typer.echo(shlex.join(["langadapt", *command]))
        return
    failed = publish_all(tasks, langadapt_command, owner, photos, private)
    for line in failed:
        typer.echo(f"failed: {line}", err=True)
    if failed:
        typer.echo("publish_all: the other commands are done; the same command goes on", err=True)
        raise typer.Exit(2)
    if photos is not None:
        typer.echo(
            f"look at the Space first: python {runs}/space/app.py; then, as docs/export.md says, hf upload"
        )


if __name__ == "__main__":
    typer.run(main)
