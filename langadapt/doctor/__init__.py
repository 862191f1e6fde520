"""Before anything is trained: will it work, with what, and what should be done first."""

from langadapt.doctor.examine import examine
from langadapt.doctor.verdict import Findings, Verdict, verdict

__all__ = ["Findings", "Verdict", "examine", "verdict"]
