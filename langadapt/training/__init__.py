"""The one optimizer loop and the stages that use it."""

from langadapt.training.align import align
from langadapt.training.distill import RunOptions, distill
from langadapt.training.loop import FitPlan, FitState, StepLog, fit
from langadapt.training.tune import tune

__all__ = ["FitPlan", "FitState", "RunOptions", "StepLog", "align", "distill", "fit", "tune"]
