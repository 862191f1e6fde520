"""What the doctor found: numbers and facts, no judgement."""

from dataclasses import asdict, dataclass
from typing import Any

from langadapt.doctor.coverage import Coverage
from langadapt.doctor.probe import Estimate


@dataclass(frozen=True, kw_only=True)
class Candidate:
    """A text model and what its tokenizer makes of the language."""

    repo: str
    revision: str | None
    own: bool
    """The one that the recipe names."""
    licence: str
    coverage: Coverage | None
    missing: str | None
    """Why there is no coverage: the model is not on this machine, ..."""


@dataclass(frozen=True, kw_only=True)
class Pairs:
    """Parallel sentences, counted by the cleaning."""

    rows: int
    kept: int
    """Rows that cleaning leaves."""
    contaminated: int
    """Rows with a test caption among the dropped ones."""
    dropped: dict[str, int]
    """Dropped rows by rule."""


@dataclass(frozen=True, kw_only=True)
class Licences:
    """All licences, and what they mean together for the weights that are learnt."""

    stated: dict[str, str]
    together: str
    commercial: bool
    unknown: tuple[str, ...]
    noncommercial: tuple[str, ...]
    objections: tuple[str, ...]
    """Why the weights may not be published."""


@dataclass(frozen=True, kw_only=True)
class Findings:
    """Everything about one language recipe on this machine."""

    code: str
    name: str
    recipe: str
    """As the command line names it: `--lang sw`, `--recipe my/sw.yaml`."""
    sample: str
    """What the tokenizers were measured on."""
    candidates: tuple[Candidate, ...]
    extended: int
    """New pieces that the recipe asks for already."""
    pairs: Pairs | None
    missing_data: tuple[str, ...]
    test_captions: int
    missing_tests: tuple[str, ...]
    licences: Licences
    estimate: Estimate | None
    no_models: str | None
    """Why teacher or text model cannot be had."""

    @property
    def own(self) -> Candidate:
        """The recipe's text model."""
        return next(item for item in self.candidates if item.own)

    def to_dict(self) -> dict[str, Any]:
        """Plain values under stable keys."""
        return asdict(self)
