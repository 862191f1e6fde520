"""The one optimizer loop and the stages that use it."""

from langadapt.training.distill import DistillOptions, distill
from langadapt.training.loop import FitPlan, FitState, StepLog, fit
from langadapt.training.progress import Progress, Report

__all__ = ["DistillOptions", "FitPlan", "FitState", "Progress", "Report", "StepLog", "distill", "fit"]
