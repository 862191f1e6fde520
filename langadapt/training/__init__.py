"""The one optimizer loop and the stages that use it."""

from langadapt.training.align import align
from langadapt.training.distill import DistillOptions, distill
from langadapt.training.loop import FitPlan, FitState, StepLog, fit
from langadapt.training.tune import tune

__all__ = ["DistillOptions", "FitPlan", "FitState", "StepLog", "align", "distill", "fit", "tune"]
