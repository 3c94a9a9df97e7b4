"""Ordering: in which order a network sees its batches."""

from lessonplan.order.base import Orderer
from lessonplan.order.by_score import ByScore, MultiAttempt
from lessonplan.order.loader import OrderedLoader
from lessonplan.order.loss_delta import LossDelta
from lessonplan.order.perfect import Engine, perfect_ordering
from lessonplan.order.spec import ORDERS, parse_order

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
