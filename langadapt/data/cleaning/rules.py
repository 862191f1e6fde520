"""Which rules run, in which order, and with which limits."""

from dataclasses import dataclass, fields
from typing import Literal

from langadapt.errors import DataError

MENDING = ("control_characters", "unicode_nfc", "white_space", "swapped_mended")
DROPPING = (
    "empty",
    "length",
    "copy",
    "swapped",
    "script",
    "language",
    "length_ratio",
    "misaligned",
    "contaminated",
    "contaminated_near",
    "duplicate",
    "near_duplicate",
    "disagreement",
    "weight",
)
"""In the order in which they run: a row counts for the first rule that drops it."""
CODES = {name: number for number, name in enumerate(DROPPING, start=1)}
"""A row's fate: 0 kept, else the number of the rule that dropped it."""
MEANING = {
    "control_characters": "mended: invisible characters removed",
    "unicode_nfc": "mended: Unicode composed form NFC",
    "white_space": "mended: runs of white space made one space",
    "swapped_mended": "mended: English and target stood in each other's column",
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
    swapped: Literal["mend", "drop"] = "mend"
    keep_contaminated: bool = False
    least_agreement: float = 0.5
    """Least cosine of the two sides' embeddings, where a model judges them."""
    off: tuple[str, ...] = ()
    """Names of rules that are not to run."""

    def __post_init__(self) -> None:
        known = (*MENDING, *DROPPING)
        for name in self.off:
            if name not in known:
                raise DataError(f"no cleaning rule '{name}'; there are: {', '.join(known)}")
        for field in fields(self):
            value = getattr(self, field.name)
            if "share" in field.name and not 0 <= value <= 1:
                raise DataError(f"cleaning: {field.name} must lie between 0 and 1, got {value}")

    def runs(self, name: str) -> bool:
        """Whether a rule is wanted."""
        return name not in self.off
