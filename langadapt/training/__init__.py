"""The one optimizer loop and the stages that use it."""

from langadapt.training.distill import DistillOptions, distill
from langadapt.training.loop import FitPlan, FitState, StepLog, fit
from langadapt.training.tune import tune

__all__ = ["DistillOptions", "FitPlan", "FitState", "StepLog", "distill", "fit", "tune"]
