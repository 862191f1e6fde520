"""What commands show: results on stdout; progress as bars, or as plain lines without a terminal."""

import json
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import typer
from rich import progress as bars
from rich.console import Console, RenderableType
from rich.text import Text

from langadapt.errors import Progress, Report
from langadapt.files.json import parse_json
from langadapt.files.paths import real_path

if TYPE_CHECKING:
    from langadapt.evaluation.page import Page
    from langadapt.models import LanguageModel

# Messages and bars go to stderr: stdout is for results.
console = Console(stderr=True, highlight=False, markup=False, emoji=False, soft_wrap=True)


class _Rate(bars.ProgressColumn):
    def render(self, task: bars.Task) -> Text:
        speed = task.finished_speed or task.speed
        return Text("" if speed is None else f"{speed:,.1f}/s" if speed < 100 else f"{speed:,.0f}/s", "cyan")


def print_result(result: RenderableType) -> None:
    """Print to stdout, at least 80 columns wide: a cut-off number is worse than a line that wraps."""
    Console(width=max(80, Console().width), markup=False, emoji=False, highlight=False).print(result)


def loaded_model(run: str, device: str | None) -> "LanguageModel":
    """Load the model of a run onto the device that `--device` names."""
    from langadapt.models import load
    from langadapt.models.load import chosen_device

    return load(run, device=chosen_device(device))


def print_json(result: object, *, indent: int | None = None) -> None:
    """Print a result to stdout as JSON, paths as text; a terminal without its letters gets escapes."""
    utf = "utf" in (sys.stdout.encoding or "").lower()
    typer.echo(json.dumps(result, ensure_ascii=not utf, indent=indent, default=str))


def print_scores(table: RenderableType, text: str, as_json: bool, json_file: Path | None) -> None:
    """Print a table, or with `--json` the JSON text alone; write the text where `--json-file` says."""
    if as_json:
        print_json(parse_json(text), indent=2)
    else:
        print_result(table)
    if json_file is not None:
        from langadapt.files.atomic import write_text

        write_text(json_file, text)


def write_report(content: "Page", run: str, page: Path | None, *, name: str) -> None:
    """Write the report page to `page`, or as `name` into the run where its folder is here."""
    from langadapt.evaluation.page import write_page

    target = page or (Path(run) / name if (Path(run) / "artifact.json").is_file() else None)
    if target is not None:
        write_page(target, content)
        console.print(f"report page: {shown(target)}")


@contextmanager
def progress_report() -> Iterator[Report]:
    """A report function that draws one bar per stage, and prints messages above them."""
    if not console.is_terminal:
        yield _plain_lines()
        return
    columns = (
        bars.TextColumn("{task.description}", markup=False),
        bars.BarColumn(),
        bars.MofNCompleteColumn(),
        _Rate(),
        bars.TimeElapsedColumn(),
        bars.TextColumn("left"),
        bars.TimeRemainingColumn(),
        bars.TextColumn("{task.fields[note]}", style="dim", markup=False),
    )
    with bars.Progress(*columns, console=console, speed_estimate_period=20) as drawn:
        tasks: dict[str, bars.TaskID] = {}

        def report(progress: Progress) -> None:
            if not progress.total:
                drawn.console.print(progress.stage)
                return
            if progress.stage not in tasks:
                tasks[progress.stage] = drawn.add_task(progress.stage, total=progress.total, note="")
            drawn.update(tasks[progress.stage], completed=progress.done, note=progress.note)

        yield report


def _plain_lines() -> Report:
    started: dict[str, tuple[float, int]] = {}
    printed: dict[str, float] = {}

    def report(progress: Progress) -> None:
        if not progress.total:
            console.print(progress.stage)
            return
        now = time.monotonic()
        first, base = started.setdefault(progress.stage, (now, progress.done))
        if now - printed.get(progress.stage, 0.0) < 15 and progress.done < progress.total:
            return
        printed[progress.stage] = now
        rate = (progress.done - base) / max(now - first, 1e-9)
        left = f", {rate:,.1f}/s, {(progress.total - progress.done) / rate:.0f} s left" if rate > 0 else ""
        note = f"  {progress.note}" if progress.note else ""
        console.print(f"{progress.stage} {progress.done}/{progress.total}{left}{note}")

    return report


def shown(path: Path) -> str:
    """A path as it is shortest to read: relative to the current folder where it lies in it."""
    try:
        return str(real_path(path).relative_to(Path.cwd()))
    except ValueError:
        return str(path)
