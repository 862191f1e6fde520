"""The one optimizer loop and the stages that use it."""

from langadapt.training.distill import distill
from langadapt.training.log import StepLog
from langadapt.training.loop import FitState, Stage, fit
from langadapt.training.plan import FitPlan
from langadapt.training.run import RunOptions
from langadapt.training.tune import align, tune

__all__ = ["FitPlan", "FitState", "RunOptions", "Stage", "StepLog", "align", "distill", "fit", "tune"]
