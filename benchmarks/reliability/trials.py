"""What was tried and what survived, as one table and as JSON."""

import json
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

from rich.console import Console
from rich.table import Table


@dataclass(kw_only=True)
class Trial:
    """One kind of fault: how often it was tried, and what did not survive it."""

    part: str
    name: str
    tried: int = 0
    failures: list[str] = field(default_factory=list)
    note: str = ""
    seconds: float = 0.0

    @property
    def survived(self) -> int:
        """Tries that ended as they should."""
        return self.tried - len(self.failures)

    def count(self, fault: str | None) -> None:
        """Counts one try; `fault` says in one line what was wrong with its end."""
        self.tried += 1
        if fault is not None:
            self.failures.append(fault)


def told(trial: Trial) -> Trial:
    """Says on stderr that a trial is done, and how."""
    failed = "".join(f"\n  {failure}" for failure in trial.failures[:5])
    sys.stderr.write(f"{trial.part}, {trial.name}: {trial.survived} of {trial.tried}{failed}\n")
    sys.stderr.flush()
    return trial


def show(trials: Sequence[Trial], json_file: Path | None) -> bool:
    """Prints the table, and each failure below it; True where everything survived and something was tried."""
    table = Table("part", "what was tried", "times", "survived", "seconds", "", box=None)
    for trial in trials:
        bad = trial.survived < trial.tried or not trial.tried
        table.add_row(
            trial.part,
            trial.name,
            f"{trial.tried:,}",
            f"{trial.survived:,}",
            f"{trial.seconds:.0f}",
            trial.note,
            style="red" if bad else None,
        )
    total = sum(trial.tried for trial in trials)
    table.add_row("", "all", f"{total:,}", f"{sum(t.survived for t in trials):,}", "", "", style="bold")
    console = Console(file=sys.stdout, width=max(110, Console().width))
    console.print(table)
    for trial in trials:
        for failure in trial.failures[:5]:
            console.print(f"{trial.part}, {trial.name}: {failure}", markup=False, highlight=False)
    if json_file is not None:
        rows = [{**asdict(trial), "survived": trial.survived} for trial in trials]
        json_file.parent.mkdir(parents=True, exist_ok=True)
        json_file.write_text(json.dumps(rows, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    return all(trial.tried and not trial.failures for trial in trials)
