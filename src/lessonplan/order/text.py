"""Orderers written as text: ``"loss-delta:candidates=8,on=external,warmup=5ep"``, ``"multi-attempt:k=16"``."""

from __future__ import annotations

from typing import Any

from lessonplan.errors import ConfigError, unknown
from lessonplan.order.base import Orderer
from lessonplan.order.by_score import ByScore, MultiAttempt
from lessonplan.order.loss_delta import LossDelta
from lessonplan.order.teacher import TeacherLed
from lessonplan.parts.own import is_own, own_class
from lessonplan.text_options import read_options

ORDERS: dict[str, type[Orderer]] = {cls.name: cls for cls in (MultiAttempt, LossDelta, TeacherLed, ByScore)}
NO_ORDER = ("none",)


def parse_order(text: str) -> Orderer | None:
    """Make an orderer from its text.

    Args:
        text: ``name`` or ``name:option=value,...``; ``none`` gives None. A teacher's run may stand first, as in
            ``teacher:RUN,k=8``. An order of your own is ``module:Class`` or ``FILE.py:Class``, options after
            another colon; scores that are functions can only be given in Python.

    Raises:
        ConfigError: the name or an option is unknown, or a value does not fit; the nearest name is offered.

    >>> parse_order("multi-attempt:k=16,order=weighted").config()
    {'name': 'multi-attempt', 'k': 16, 'order': 'weighted'}
    >>> parse_order("los-delta")
    Traceback (most recent call last):
    ...
    lessonplan.errors.ConfigError: unknown order 'los-delta': did you mean 'loss-delta'? ...
    """
    name, _, options = text.strip().partition(":")
    if name in NO_ORDER:
        if options:
            raise ConfigError(f"{name!r} takes no options, but {options!r} was given")
        return None
    cls: Any = ORDERS.get(name)
    if cls is None and is_own(text):
        own = own_class(text, Orderer, "order")
        cls, options = own.target, own.options
    if cls is None:
        raise unknown("order", name, [*ORDERS, *NO_ORDER])
    given, _ = read_options(cls, options, first=getattr(cls, "first_option", None))
    order: Orderer = cls(**given)
    return order
