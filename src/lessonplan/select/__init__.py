"""Selection: which samples deserve a backward pass."""

from lessonplan.lazy import importer
from lessonplan.network.untouched import asked as scoring
from lessonplan.select.asking import Scoring
from lessonplan.select.base import Filter, Part, Scored, Selector
from lessonplan.select.batchwise import Batchwise, smallest_raw_batch
from lessonplan.select.control import MatchedRandom
from lessonplan.select.epochwise import Epochwise
from lessonplan.select.filters import AccuracyFilter, MarginFilter
from lessonplan.select.published import (
    ActiveBias,
    GradientNorm,
    InfoBatch,
    RecencyBias,
    RhoLoss,
    SelectiveBackprop,
    holdout_losses,
)
from lessonplan.select.selection import Selection
from lessonplan.select.selectors import LossWeighted, QSplit, RandomSubset, TopK, TopQuantile, Uniform
from lessonplan.select.stages import SelectionStages
from lessonplan.select.stages import SelectionStages as Selecting
from lessonplan.select.text import PARTS, parse_select

__all__ = [
    "PARTS",
    "AccuracyFilter",
    "ActiveBias",
    "Batchwise",
    "Epochwise",
    "Filter",
    "GradientNorm",
    "InfoBatch",
    "LossWeighted",
    "MarginFilter",
    "MatchedRandom",
    "Part",
    "QSplit",
    "RandomSubset",
    "RecencyBias",
    "RhoLoss",
    "Scored",
    "Scoring",
    "Selecting",
    "Selection",
    "SelectionStages",
    "SelectiveBackprop",
    "Selector",
    "TopK",
    "TopQuantile",
    "Uniform",
    "holdout_losses",
    "parse_select",
    "scoring",
    "smallest_raw_batch",
]

__all__ += ["SelectedBatches", "batches"]

# What lives above, where select, order and mix come together, under its older address.
__getattr__ = importer(
    __name__,
    {
        "SelectedBatches": "lessonplan.supply.loops",
        "batches": "lessonplan.supply.loops:selected_batches",
    },
)
