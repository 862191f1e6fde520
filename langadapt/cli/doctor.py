"""`langadapt doctor`."""

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import typer
from rich.console import Group
from rich.table import Table
from rich.text import Text

from langadapt.cli import options as opt
from langadapt.cli.distill import chosen_recipe
from langadapt.cli.progress import print_json, print_result, progress_report
from langadapt.recipes import override

if TYPE_CHECKING:
    from langadapt.doctor.verdict import Findings, Verdict


def doctor_command(
    lang: opt.LanguageCode = None,
    recipe: opt.RecipePath = None,
    settings: opt.Settings = None,
    device: opt.Device = None,
    as_json: opt.AsJson = False,
) -> None:
    """Predict whether training will work for a language: text model, data, licences, time.

    It examines tokenizers, data (cleaned in a temporary folder), test captions in them, licences, time and
    disk. The verdict is ready, trainable with changes, or not yet, with the reasons and the next command. It
    trains nothing. What is not on this machine is reported as missing, not guessed.

    Examples:
      langadapt doctor --lang qu
      langadapt doctor --recipe my/ha.yaml --json
    """
    found = override(chosen_recipe(lang, recipe), settings or [])
    named = f"--recipe {recipe}" if recipe else f"--lang {lang}"

    from langadapt.doctor.examine import examine
    from langadapt.doctor.verdict import verdict
    from langadapt.models.load import chosen_device

    with progress_report() as report:
        findings = examine(found, named=named, device=chosen_device(device), report=report)
    judged = verdict(findings)
    if as_json:
        print_json({**asdict(findings), "expected": findings.expected, "verdict": asdict(judged)}, indent=2)
        return
    _print(findings, judged)


def _print(found: "Findings", judged: "Verdict") -> None:
    from langadapt.evaluation.tables import duration

    title = f"{found.name} ({found.code})"
    print_result(Text.assemble((title, "bold"), f", tokenizers measured on {found.sample}"))
    print_result(_tokenizers(found))
    rest = Table("", "", box=None, show_header=False, padding=(0, 1, 0, 0), pad_edge=False)
    if (pairs := found.pairs) is not None:
        dropped = ", ".join(f"{rule} {count:,}" for rule, count in pairs.dropped.items()) or "nothing"
        rest.add_row("pairs", f"{pairs.kept:,} of {pairs.rows:,} after cleaning; dropped: {dropped}")
        checked = f"against {found.test_captions:,} captions of its test sets"
        rows = f"{pairs.contaminated:,} rows, {checked}" if found.test_captions else "not checked"
        rest.add_row("contamination", rows)
    if found.alignment is not None:
        what = "of the translations found by the untrained text model"
        rest.add_row("alignment", f"{found.alignment:.0f} % {what}")
    if found.expected is not None:
        what = "of CLIP's English score, where the pairs are captions and English captions stand beside"
        rest.add_row("expected", f"about {100 * found.expected:.0f} % {what}")
    stated = ", ".join(f"{_short(name)}: {licence}" for name, licence in found.licences.stated.items())
    rest.add_row("licences", stated)
    use = "commercial use allowed" if found.licences.commercial else "non-commercial only"
    rest.add_row("together", found.licences.together + ("" if found.licences.unknown else f", {use}"))
    if (time := found.estimate) is not None:
        parts = (time.seconds, time.teacher_seconds, time.states_seconds, time.train_seconds)
        whole, teacher, states, train = map(duration, parts)
        steps = f"{time.steps:,} steps {train}"
        rest.add_row("time", f"about {whole} on {time.device}: teacher {teacher}, states {states}, {steps}")
        stores = f"stores {time.store_bytes / 1e9:.2f} GB (free {time.free_bytes / 1e9:.0f} GB)"
        rest.add_row("disk", f"{stores}, artifact {time.artifact_bytes / 1e6:.1f} MB")
    print_result(rest)
    colour = {"ready": "green", "trainable with changes": "yellow", "not yet": "red"}[judged.tier]
    print_result(Text(judged.tier, f"bold {colour}"))
    lines = [f"- {line}" for line in judged.reasons] + [f"  note: {line}" for line in judged.notes]
    typer.echo("\n".join([*lines, f"next: {judged.next}"]))


def _tokenizers(found: "Findings") -> Group:
    """What was measured, in a table; what is not here, in a line for each reason."""
    table = Table(box=None, padding=(0, 1, 0, 0), pad_edge=False)
    table.add_column("\ntext model", overflow="fold")
    for head in ("tokens /word", "tokens /char", "times English", "unknown %", "letters %", "aligned %"):
        table.add_column(head.replace(" ", "\n"), justify="right", no_wrap=True)
    absent: dict[str, list[str]] = {}
    for item in found.candidates:
        name, one = _short(item.repo) + (" (recipe)" if item.own else ""), item.coverage
        if one is None:
            absent.setdefault(item.missing or "", []).append(name)
            continue
        table.add_row(
            name,
            f"{one.tokens_per_word:.2f}",
            f"{one.tokens_per_character:.2f}",
            "" if one.times_english is None else f"{one.times_english:.2f}",
            f"{one.unknown_percent:.1f}",
            f"{one.letters_percent:.0f}",
            "" if item.alignment is None else f"{item.alignment:.0f}",
        )
    lines = [Text(f"{reason}: {', '.join(names)}", "dim") for reason, names in absent.items()]
    return Group(*([table] if table.row_count else []), *lines)


def _short(repo: str) -> str:
    """A folder by its own name alone."""
    return Path(repo).name if Path(repo).is_absolute() else repo
