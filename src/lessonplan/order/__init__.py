"""Ordering: in which order a network sees its batches."""

from lessonplan.lazy import importer
from lessonplan.order.base import Orderer
from lessonplan.order.by_score import ByScore, MultiAttempt
from lessonplan.order.loss_delta import LossDelta
from lessonplan.order.perfect import Engine, perfect_ordering
from lessonplan.order.teacher import TeacherLed
from lessonplan.order.text import ORDERS, parse_order

__all__ = [
    "ORDERS",
    "ByScore",
    "Engine",
    "LossDelta",
    "MultiAttempt",
    "Orderer",
    "TeacherLed",
    "parse_order",
    "perfect_ordering",
]

__all__ += ["OrderedLoader"]

# It lives above, where select, order and mix come together.
__getattr__ = importer(__name__, {"OrderedLoader": "lessonplan.supply.ordered_loader"})
