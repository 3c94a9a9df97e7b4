"""The methods of look-ahead: a new one is a file and a row here."""

from __future__ import annotations

from lessonplan.order.lookahead.exact import Exact
from lessonplan.order.lookahead.first_order import FirstOrder
from lessonplan.order.lookahead.kept_gradients import KeptGradients
from lessonplan.order.lookahead.last_layers import LastLayers
from lessonplan.order.lookahead.look import LookAhead
from lessonplan.order.lookahead.per_sample import PerSample
from lessonplan.order.lookahead.stacked import StackedLookAhead

METHODS: dict[str, type[LookAhead]] = {
    cls.name: cls
    for cls in (
        Exact,
        StackedLookAhead,
        FirstOrder,
        LastLayers,
        KeptGradients,
        PerSample,
    )
}
