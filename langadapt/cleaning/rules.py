"""Cleaning rules: their names, order and limits, and the report of what each one did."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Literal, Self

from langadapt.errors import DataError

# Names and meanings, in the order in which the rules run: a row counts for the first rule that drops it.
NORMALISING = {
    "html_entities": "normalised: HTML's names of characters replaced by them",
    "mojibake": "normalised: wrongly decoded characters mended",
    "control_characters": "normalised: invisible characters removed",
    "unicode_nfc": "normalised: Unicode composed form NFC",
    "white_space": "normalised: runs of white space made one space",
    "swapped_exchanged": "normalised: English and target stood in each other's column",
}
DROPPING = {
    "empty": "a side without any letter or digit",
    "length": "a side too short or too long",
    "copy": "source equals target but for case and punctuation",
    "swapped": "English and target stand in each other's column",
    "script": "a side mostly in another script",
    "language": "a side in another language",
    "length_ratio": "lengths far from the corpus' usual ratio",
    "misaligned": "inside a block whose sides have slipped",
    "contaminated": "a side equals a test caption but for case and punctuation",
    "contaminated_near": "a side is within few words of a test caption",
    "duplicate": "the pair stands earlier, but for case and punctuation",
    "near_duplicate": "a pair within few words of it stands earlier",
    "disagreement": "the two sides' embeddings disagree",
    "weight": "left out by its source's weight",
}
CODES = {name: number for number, name in enumerate(DROPPING, start=1)}
"""A row's verdict: 0 kept, else the number of the rule that dropped it."""

EXAMPLES = 3
"""Examples for each rule: the first ones."""

_EXAMPLE_CHARACTERS = 1000


@dataclass(frozen=True, kw_only=True)
class CleaningRules:
    """Limits of the rules. All are part of a build's key."""

    least_words: int = 1
    most_words: int = 200
    most_characters: int = 1000
    script_share: float = 0.5
    """Least share of a side's letters in its own script."""
    known_share: float = 0.8
    """A text counts as foreign only when its column knows less of its words than this."""
    ratio_spread: float = 8.0
    """Most robust standard deviations between a row's length ratio and the usual one."""
    near_share: float = 0.15
    """Words, of both sides together, in which a near duplicate may differ; 0 turns the rule off."""
    leak_share: float = 0.1
    """Words of one side in which a near copy of a test caption may differ."""
    leak_share_both: float = 0.2
    """The same where both sides are near a test caption."""
    swapped: Literal["exchange", "drop"] = "exchange"
    keep_contaminated: bool = False
    least_agreement: float = 0.5
    """Least cosine of the two sides' embeddings, where a model judges them."""
    off: tuple[str, ...] = ()
    """Names of rules that are not to run."""

    def __post_init__(self) -> None:
        known = (*NORMALISING, *DROPPING)
        for name in self.off:
            if name not in known:
                raise DataError(f"no cleaning rule '{name}'; there are: {', '.join(known)}")
        for field in fields(self):
            value = getattr(self, field.name)
            if "share" in field.name and not 0 <= value <= 1:
                raise DataError(f"cleaning: {field.name} must lie between 0 and 1, got {value}")

    def runs(self, name: str) -> bool:
        """Return whether a rule is wanted."""
        return name not in self.off


@dataclass(frozen=True, kw_only=True)
class Example:
    """A row as it was read, and for a duplicate the row that it repeats."""

    source: str
    row: int
    english: str
    target: str
    repeats: str = ""

    @classmethod
    def cut(cls, source: str, row: int, english: str, target: str, *, repeats: str = "") -> Self:
        """Make an example of a row whose texts may be long, or hold half a surrogate pair."""
        cut = (text[:_EXAMPLE_CHARACTERS].encode(errors="replace").decode() for text in (english, target))
        texts = dict(zip(("english", "target"), cut, strict=True))
        return cls(source=source, row=row, repeats=repeats, **texts)


@dataclass(frozen=True, kw_only=True)
class SourceCount:
    """One source: rows read and kept, and what it brings along."""

    name: str
    licence: str
    weight: float
    rows: int
    kept: int


@dataclass(frozen=True, kw_only=True)
class ContaminationCheck:
    """Comparison with test captions: captions of each set, rows found, and how many of them stayed in."""

    sets: Mapping[str, int]
    found: int
    kept: int
    missing: Sequence[str] = ()
    """Test sets of the language that could not be read, with the reason."""


@dataclass(frozen=True, kw_only=True)
class BuildReport:
    """Counts of one build."""

    rows: int
    kept: int
    written: int
    """Rows in the output: a source of weight 2 stands in it twice."""
    normalised: Mapping[str, int]
    dropped: Mapping[str, int]
    examples: Mapping[str, Sequence[Example]]
    off: Mapping[str, str]
    """Rules that did not run, with the reason."""
    notes: Sequence[str]
    """Rules that ran in part, and how well they could."""
    sources: Sequence[SourceCount]
    contamination: ContaminationCheck | None

    def lines(self) -> list[tuple[str, str, str, str]]:
        """Return rule, rows, percent of all rows and meaning, for tables."""
        lines = []
        counts = {**self.normalised, **self.dropped}
        for name, meaning in {**NORMALISING, **DROPPING}.items():
            count = counts.get(name, 0)
            share = f"{100 * count / max(self.rows, 1):.2f}"
            off = self.off.get(name)
            lines.append((name, f"{count:,}", share, meaning) if off is None else (name, "off", "", off))
        return lines

    def summary(self) -> str:
        """Return rows read, kept and written in one line."""
        share = 100 * self.kept / max(self.rows, 1)
        return f"{self.rows:,} rows read, {self.kept:,} kept ({share:.1f} %), {self.written:,} written"


def contamination_lines(check: ContaminationCheck | None) -> list[str]:
    """Say what is known about test captions in the training text."""
    if check is None:
        return ["Contamination: unchecked."]
    sets = ", ".join(f"{name} ({count:,} captions)" for name, count in check.sets.items())
    in_data = f"{check.kept:,} of them are in the data, and every later score says so"
    what = in_data if check.kept else "none was kept"
    lines = [f"Contamination: {check.found:,} rows hold test captions, {what}; checked against {sets}."]
    return lines + [f"Not checked against {line}" for line in check.missing]
