"""Ordering: in which order a network sees its batches."""

import importlib
from typing import Any

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
    "Orderer",
    "parse_order",
    "perfect_ordering",
]

__all__ += ["OrderedLoader"]


def __getattr__(name: str) -> Any:
    """``OrderedLoader`` lives above, where select, order and mix come together."""
    if name == "OrderedLoader":
        return importlib.import_module("lessonplan.supply.ordered_loader").OrderedLoader
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
