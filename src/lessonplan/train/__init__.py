"""Training: the loop, its budget, its settings, its checkpoints."""

from lessonplan.settings import Settings
from lessonplan.train.budget import Budget
from lessonplan.train.callbacks import Callback
from lessonplan.train.classifier import Classifier, load
from lessonplan.train.fitting import Run, fit
from lessonplan.train.lr_range import LrRange, find_lr
from lessonplan.train.trainer import NotFinite, Trainer

__all__ = [
    "Budget",
    "Callback",
    "Classifier",
    "LrRange",
    "NotFinite",
    "Run",
    "Settings",
    "Trainer",
    "find_lr",
    "fit",
    "load",
]
