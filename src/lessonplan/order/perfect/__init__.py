"""Perfect ordering: train every permutation of an epoch's batches, keep some end states, repeat."""

from lessonplan.order.perfect.engine import Engine
from lessonplan.order.perfect.permutations import (
    batch_split,
    count_permutations,
    permutations,
    tree_updates,
)
from lessonplan.order.perfect.search import Tree, perfect_ordering
from lessonplan.order.perfect.state import State
from lessonplan.order.perfect.survivors import choose_survivors

__all__ = [
    "Engine",
    "State",
    "Tree",
    "batch_split",
    "choose_survivors",
    "count_permutations",
    "perfect_ordering",
    "permutations",
    "tree_updates",
]
