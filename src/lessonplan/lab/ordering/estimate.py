"""How long a search would take, measured before it begins."""

from __future__ import annotations

import time

from lessonplan.errors import ConfigError
from lessonplan.order.perfect import Engine, permutations
from lessonplan.order.perfect.permutations import large
from lessonplan.order.perfect.search import SearchPlan
from lessonplan.report.formatting import duration

_SAMPLED = 4
_MOST = 10**200  # runs that still are a floating-point number; the estimate then means never


def check_feasible(engine: Engine, plan: SearchPlan, runs: int, workers: int, max_hours: float) -> float:
    """Measure a few runs and raise if all of them would take too long.

    Args:
        engine: of the search.
        plan: its splits.
        runs: of the whole search.
        workers: processes that share them.
        max_hours: what is not too long.

    Returns:
        Seconds of work, of one process: an upper estimate, because few orders share few beginnings.

    Raises:
        ConfigError: the estimate is above ``max_hours``; it says how long and what would be shorter.
    """
    batches = plan.batches(1)
    orders = permutations(len(batches), _SAMPLED, plan.seed)
    engine.train(engine.start(), batches, orders)  # the first call is slower
    began = time.perf_counter()
    engine.train(engine.start(), batches, orders)
    seconds = (time.perf_counter() - began) / len(orders) * float(min(runs, _MOST))
    if seconds / workers > 3600 * max_hours:
        raise ConfigError(
            f"{large(runs)} runs ({len(batches)} batches in an epoch) would take about {_long(seconds / workers)},"
            f" more than max_hours={max_hours:g}: give max_permutations=720 to train a sample of the orders, or"
            " larger batches"
        )
    return seconds


def _long(seconds: float) -> str:
    """A time in the unit a person would use, years included.

    >>> _long(7200), _long(86400 * 365 * 3000)
    ('2.0 h', '3,000 years')
    """
    days = seconds / 86400
    if days < 2:
        return duration(seconds)
    return f"{days:,.0f} days" if days < 1000 else f"{large(int(days / 365))} years"
