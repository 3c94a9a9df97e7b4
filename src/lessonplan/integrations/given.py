"""What a loop of others is given to mix with."""

from __future__ import annotations

from lessonplan.errors import ConfigError
from lessonplan.mix.base import Mix
from lessonplan.mix.unmixed import Unmixed
from lessonplan.plan import Plan


def mix_for(given: Mix | Plan | str, loop: str) -> Mix:
    """The mix of what was given; of an empty plan one that hands batches on as they are.

    Args:
        given: a mix, or a plan or its text that only mixes.
        loop: whose loop it is, and what to use there for the other parts.

    Raises:
        ConfigError: the plan selects or orders, which the loop leaves no room for, or what was given is neither.
    """
    plan = Plan.parse(given) if isinstance(given, str) else given if isinstance(given, Plan) else Plan(mix=given)
    for part, what in ((plan.select, "selection"), (plan.order, "order")):
        if part is not None:
            raise ConfigError(f"the {what} {part} decides which batch comes next, and {loop}")
    if plan.mix is None:
        return Unmixed()
    if not isinstance(plan.mix, Mix):
        raise ConfigError(f"{given!r} is no mix: give one, for example lessonplan.mix.Mixup()")
    return plan.mix


def the_mix(given: Mix) -> Mix:
    """The very object that mixes elsewhere, of which a text or a plan would be another one.

    Raises:
        ConfigError: it is none.
    """
    if not isinstance(given, Mix):
        raise ConfigError(
            f"{given!r} is no mix: give the object that mixes the batches, for example lessonplan.mix.Mixup(), or"
            " lessonplan.mix.parse_mix('mixup') once for both places; selections and orders are for lp.batches"
        )
    return given
