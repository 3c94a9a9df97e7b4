"""Published selectors, through the same interface as our own."""

from lessonplan.select.published.active_bias import ActiveBias
from lessonplan.select.published.gradient_norm import GradientNorm
from lessonplan.select.published.infobatch import InfoBatch
from lessonplan.select.published.recency_bias import RecencyBias
from lessonplan.select.published.rho_loss import RhoLoss, holdout_losses
from lessonplan.select.published.selective_backprop import SelectiveBackprop

__all__ = [
    "ActiveBias",
    "GradientNorm",
    "InfoBatch",
    "RecencyBias",
    "RhoLoss",
    "SelectiveBackprop",
    "holdout_losses",
]
