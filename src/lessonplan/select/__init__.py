"""Selection: which samples deserve a backward pass."""

from typing import TYPE_CHECKING, Any

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
    "SelectedBatches",
    "Selecting",
    "Selection",
    "SelectionStages",
    "SelectiveBackprop",
    "Selector",
    "TopK",
    "TopQuantile",
    "Uniform",
    "batches",
    "holdout_losses",
    "parse_select",
    "scoring",
    "smallest_raw_batch",
]

if TYPE_CHECKING:
    from lessonplan.supply.loops import SelectedBatches
    from lessonplan.supply.loops import selected_batches as batches


def __getattr__(name: str) -> Any:
    """What lives where select, order and mix come together, which is above them."""
    if name in ("SelectedBatches", "batches"):
        from lessonplan.supply import loops

        return loops.SelectedBatches if name == "SelectedBatches" else loops.selected_batches
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
