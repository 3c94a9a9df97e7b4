"""Ordering: in which order a network sees its batches."""

from typing import TYPE_CHECKING, Any

from lessonplan.order.base import Orderer
from lessonplan.order.by_score import ByScore, MultiAttempt
from lessonplan.order.loss_delta import LossDelta
from lessonplan.order.perfect import Engine, perfect_ordering
from lessonplan.order.text import ORDERS, parse_order

__all__ = [
    "ORDERS",
    "ByScore",
    "Engine",
    "LossDelta",
    "MultiAttempt",
    "OrderedLoader",
    "Orderer",
    "parse_order",
    "perfect_ordering",
]

if TYPE_CHECKING:
    from lessonplan.supply.ordered_loader import OrderedLoader


def __getattr__(name: str) -> Any:
    """``OrderedLoader`` lives where select, order and mix come together, which is above them."""
    if name == "OrderedLoader":
        from lessonplan.supply.ordered_loader import OrderedLoader

        return OrderedLoader
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
